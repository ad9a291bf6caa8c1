"""`spec.serving.access`: who may send requests, and whether they are encrypted."""

from typing import Annotated

from pydantic import ConfigDict, Field

from pilotfish.api.base import ApiModel, SecretName
from pilotfish.api.markers import DocumentedEnum, Rule, distinct, full_match, marked

_IS_NAMESPACE = full_match(
    "[a-z0-9]([-a-z0-9]*[a-z0-9])?", "write the name of a namespace: lower-case letters, digits and '-'"
)


class AccessKind(DocumentedEnum):
    """Who may send requests."""

    INTERNAL = "Internal", "pods of the same namespace, of those in fromNamespaces, and of serving.gateway if named"
    GATEWAY = "Gateway", "the pods of serving.gateway alone"
    OPEN = "Open", "everybody who reaches the pods; no NetworkPolicy is made"


class Tls(ApiModel):
    """Encryption of gRPC, by Triton itself."""

    secret_name: SecretName
    """Secret of type kubernetes.io/tls in the same namespace; its certificate must hold for NAME.NAMESPACE.svc.
    Example: `digits-tls`."""
    client_ca: SecretName | None = Field(default=None, alias="clientCA")
    """Secret with ca.crt: clients must show a certificate that it signed. With tls.crt and tls.key of such a client,
    which the verification of the pods shows. Example: `digits-clients`."""


class Access(ApiModel):
    """Who may send requests."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="self.mode == 'Internal' || !has(self.fromNamespaces) || size(self.fromNamespaces) == 0",
                message="remove fromNamespaces, or write mode: Internal; the other modes do not ask for namespaces",
                holds=lambda access: access["mode"] == "Internal" or not access["fromNamespaces"],
                field_path=".fromNamespaces",
            )
        )
    )

    mode: AccessKind = AccessKind.INTERNAL
    """Who may send requests."""
    from_namespaces: tuple[
        Annotated[str, Field(min_length=1, max_length=63, json_schema_extra=marked(_IS_NAMESPACE))], ...
    ] = Field(default=(), max_length=64, json_schema_extra=marked(distinct("name each namespace once")))
    """Namespaces that may connect as well. Example: `[shop]`."""
    tls: Tls | None = None
    """Encryption. Example: `{secretName: digits-tls}`."""


ACCESS_RULES = (
    Rule(
        cel="!has(self.access) || self.access.mode != 'Gateway' || has(self.gateway)",
        message="set serving.gateway, whose pods alone may connect; or write access.mode: Internal",
        holds=lambda serving: serving["access"]["mode"] != "Gateway" or "gateway" in serving,
        field_path=".access.mode",
    ),
    Rule(
        cel="!has(self.access) || !has(self.access.tls) || !('HTTP' in self.protocols)",
        message="write protocols: [GRPC], because Triton has no TLS for HTTP; or remove access.tls and let a gateway "
        "end TLS",
        holds=lambda serving: "tls" not in serving["access"] or "HTTP" not in serving["protocols"],
        field_path=".protocols",
    ),
    Rule(
        cel="!has(self.access) || !has(self.access.tls) || !has(self.gateway)",
        message="remove access.tls and give the gateway's listener the certificate; or remove gateway",
        holds=lambda serving: "tls" not in serving["access"] or "gateway" not in serving,
        field_path=".access.tls",
    ),
)
"""Rules of the block around it."""
