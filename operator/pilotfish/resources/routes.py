"""Routes of the Gateway API, and the Services of single revisions that they give weights to.

Both routes belong to the ModelDeployment alone: their backendRefs are ours and are replaced as a set, never added to.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pilotfish import names
from pilotfish.api.predict_config import predict_model
from pilotfish.api.serving import Gateway, Protocol
from pilotfish.names import Component
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.meta import Owner, make_metadata

GATEWAY_API = "gateway.networking.k8s.io/v1"
HTTP_ROUTE = "HTTPRoute"
GRPC_ROUTE = "GRPCRoute"
KIND_OF: Mapping[Protocol, str] = {Protocol.HTTP: HTTP_ROUTE, Protocol.GRPC: GRPC_ROUTE}
"""Which route brings a protocol to the pods."""

PREDICT_PATH = "/predict"
"""Where a gateway takes plain JSON."""

_GATEWAY_GROUP = GATEWAY_API.partition("/")[0]
# The gateway must not guess: without it some speak HTTP/1.1 to a gRPC port.
_H2C = {"appProtocol": "kubernetes.io/h2c"}
_HTTP = {"name": "http", "port": PORTS.http, "targetPort": "http", "protocol": "TCP"}
_GRPC = {"name": "grpc", "port": PORTS.grpc, "targetPort": "grpc", "protocol": "TCP", **_H2C}


def make_http_route(
    owner: Owner, *, gateway: Gateway, weights: Mapping[str, int], predict: Collection[str] = ()
) -> dict[str, Any]:
    """The HTTPRoute to the HTTP port of these revisions; `weights` by revision, each a share of their sum.

    POST /predict goes to the model of plain JSON of those in `predict`, who share it by their weights; while none of
    them has a weight it is a path like any other.
    """
    answering = {revision: weight for revision, weight in weights.items() if revision in predict}
    return _make_route(
        owner,
        kind=HTTP_ROUTE,
        name=names.http_route(owner.name),
        port=PORTS.http,
        parent=_parent(gateway, gateway.section_name),
        hostnames=gateway.hostnames,
        weights=weights,
        before=(_predict_rule(owner, answering),) if any(answering.values()) else (),
    )


def make_grpc_route(owner: Owner, *, gateway: Gateway, weights: Mapping[str, int]) -> dict[str, Any]:
    """The GRPCRoute to the gRPC port of these revisions; `weights` by revision, each a share of their sum."""
    own = gateway.grpc
    return _make_route(
        owner,
        kind=GRPC_ROUTE,
        name=names.grpc_route(owner.name),
        port=PORTS.grpc,
        parent=_parent(gateway, (own and own.section_name) or gateway.section_name),
        hostnames=(own and own.hostnames) or gateway.hostnames,
        weights=weights,
    )


def make_route_service(owner: Owner, *, revision: str, protocols: tuple[Protocol, ...]) -> dict[str, Any]:
    """The Service of one revision that routes name. Its selector is that revision for ever."""
    offered = [port for protocol, port in ((Protocol.HTTP, _HTTP), (Protocol.GRPC, _GRPC)) if protocol in protocols]
    name = names.route_service(owner.name, revision)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": make_metadata(owner, name=name, component=Component.TRITON, revision=revision),
        "spec": {
            "type": "ClusterIP",
            "selector": names.pod_selector(owner.name, revision),
            "ports": [dict(port) for port in offered],
        },
    }


def _make_route(
    owner: Owner,
    *,
    kind: str,
    name: str,
    port: int,
    parent: Mapping[str, Any],
    hostnames: tuple[str, ...],
    weights: Mapping[str, int],
    before: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": kind,
        "metadata": make_metadata(owner, name=name, component=Component.TRITON),
        "spec": {
            "parentRefs": [dict(parent)],
            **({"hostnames": list(hostnames)} if hostnames else {}),
            "rules": [*before, {"backendRefs": _backends(owner, weights, port)}],
        },
    }


def _backends(owner: Owner, weights: Mapping[str, int], port: int) -> list[dict[str, Any]]:
    return [
        {"group": "", "kind": "Service", "name": names.route_service(owner.name, revision), "port": port, "weight": w}
        for revision, w in sorted(weights.items())
    ]


def is_predict_rule(rule: Mapping[str, Any]) -> bool:
    """Whether a rule, as stored, takes POST /predict and nothing else."""
    return bool(rule.get("matches") == _predict_matches())


def _predict_matches() -> list[dict[str, Any]]:
    return [{"path": {"type": "Exact", "value": PREDICT_PATH}, "method": "POST"}]


def _predict_rule(owner: Owner, weights: Mapping[str, int]) -> dict[str, Any]:
    path = f"/v2/models/{predict_model(owner.name)}/generate"
    return {
        "matches": _predict_matches(),
        "filters": [
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": path}}}
        ],
        "backendRefs": _backends(owner, weights, PORTS.http),
    }


def _parent(gateway: Gateway, section: str | None) -> dict[str, Any]:
    """The Gateway in the route's own namespace, or one of its listeners."""
    reference = {"group": _GATEWAY_GROUP, "kind": "Gateway", "name": gateway.name}
    return reference if section is None else {**reference, "sectionName": section}
