"""How to reach the API server and as whom: the service account of the pod, or a kubeconfig.

Authentication and TLS are `kubernetes.aio`'s; nothing here reads the environment, but for whether this is a pod.
"""

import dataclasses
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import (
    ConfigException,
    incluster_config,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

MAX_CONNECTIONS = 0
"""Without a limit: every stream of a watch keeps one for itself, kinds times namespaces; passes are few."""
UNHEARD = 5.0
"""Seconds after which the kernel forgets what nobody has acknowledged.

It goes on sending for a request that was given up, for minutes: a write of a leader that is none any more would arrive
when the network heals. Shorter than what lies between the end of a leader's writes and another's first.
"""
TOKEN_AGE = 10.0
"""Seconds after which the token's file is read again."""


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

    A service account's token is read again every few seconds. Raises NoCluster.
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
            load_incluster_config(client_configuration=configuration, try_refresh_token=False)
            configuration.refresh_api_key_hook = TokenFile(Path(incluster_config.SERVICE_TOKEN_FILENAME)).refresh
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
    client.rest_client = _Rest(configuration)
    client.user_agent = "pilotfish"
    return client


class TokenFile:
    """A service account's token, which the kubelet replaces before it expires.

    The file is read again by age on the monotonic clock: one that was told by the wall clock's would keep an expired
    token for as long as that clock was set back.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._read_at = monotonic()

    def refresh(self, configuration: Any) -> None:
        """Give the configuration the token of this moment; an unreadable or empty file changes nothing."""
        now = self._monotonic()
        if now - self._read_at < TOKEN_AGE:
            return
        self._read_at = now
        with suppress(OSError):
            token = self._path.read_text().strip()
            if token:
                configuration.api_key["BearerToken"] = f"bearer {token}"


class _Rest(RESTClientObject):  # type: ignore[misc]  # it ships no type information
    """The client's own, over connections that do not outlive a broken network."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=_make_socket)


def _make_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNHEARD * 1000))
    return made


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


def pod_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside of a cluster."""
    token = Path(incluster_config.SERVICE_TOKEN_FILENAME)
    if not os.environ.get(incluster_config.SERVICE_HOST_ENV_NAME) or not token.is_file():
        return None
    with suppress(OSError):
        return token.with_name("namespace").read_text().strip() or None
    return None


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
