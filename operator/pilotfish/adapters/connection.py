"""How to reach the API server and as whom: the service account of the pod, or a kubeconfig.

Authentication, TLS and token renewal are `kubernetes.aio`'s; nothing here reads the environment.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

MAX_CONNECTIONS = 32
"""One request per connection; more than workers times concurrent reads only costs memory."""


class NoCluster(Exception):
    """No API server can be reached with what was given; the sentence says what is missing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What an other client needs to reach the same server as the same identity."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    authorization: str | None
    """The whole Authorization header, as it is now: tokens rotate."""
    verify: bool


async def connect(*, kubeconfig: Path | None, context: str | None = None) -> ApiClient:
    """A client for the cluster of the kubeconfig, or, when None is given, of the pod this runs in.

    A service account's token is read again every minute. Raises NoCluster.
    """
    configuration = Configuration(
        connection_pool_maxsize=MAX_CONNECTIONS,
        # A proxy for the API server is named in the kubeconfig, never picked up from the environment.
        client_session_kwargs={"trust_env": False},
    )
    if kubeconfig is not None:
        _check_exists(kubeconfig)
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(
                config_file=str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError) as error:
        where = "the pod's service account" if kubeconfig is None else f"kubeconfig {str(kubeconfig)!r}"
        raise NoCluster(f"cannot reach a cluster with {where}: {error}") from error
    client = ApiClient(configuration)
    client.user_agent = "pilotfish"
    return client


def default_namespace(*, kubeconfig: Path, context: str | None = None) -> str:
    """The namespace that the kubeconfig's context names. Raises NoCluster."""
    _check_exists(kubeconfig)
    try:
        contexts, active = list_kube_config_contexts(config_file=str(kubeconfig))
    except (ConfigException, OSError) as error:
        raise NoCluster(f"cannot read kubeconfig {str(kubeconfig)!r}: {error}") from error
    chosen = active if context is None else next((c for c in contexts if c["name"] == context), None)
    if chosen is None:
        raise NoCluster(f"kubeconfig {str(kubeconfig)!r} has no context {context!r}")
    return str(chosen["context"].get("namespace") or "default")


def _check_exists(kubeconfig: Path) -> None:
    """One of the files at least; the client itself would only say that a key is missing."""
    if not any(Path(part).is_file() for part in str(kubeconfig).split(os.pathsep)):
        raise NoCluster(f"cannot reach a cluster: kubeconfig {str(kubeconfig)!r} does not exist")


async def authorization_of(configuration: Any) -> str | None:
    """The Authorization header of this moment; None when a client certificate speaks for us."""
    settings = await configuration.auth_settings()
    token = settings.get("BearerToken")
    return None if token is None else str(token["value"])


async def credentials_of(client: ApiClient) -> Credentials:
    """The same server and identity, for kopf."""
    configuration = client.configuration
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        authorization=await authorization_of(configuration),
        verify=configuration.verify_ssl,
    )
