"""TLS of a Triton pod's gRPC: the Secrets in the pods that need them, and probes where nobody may speak plainly.

Triton has no TLS for HTTP: its HTTP stays on the pod's loopback, where a probe that runs in the container asks it.
"""

from collections.abc import Sequence
from typing import Any

from pilotfish.api.access import Tls
from pilotfish.api.job_input import CLIENT_TLS, RUN_MOUNT, SERVER_TLS
from pilotfish.resources.pods import mount
from pilotfish.resources.triton_flags import TritonTls

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
# The shell's own connection: the images hold a bash and need not hold a client.
_ASK = (
    "exec 3<>/dev/tcp/127.0.0.1/$1 && printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$2\" >&3 && "
    'read -r -t 4 line <&3 && [[ $line == *" 200 "* ]]'
)


def server_files(tls: Tls) -> TritonTls:
    """Where the server reads them: at its start alone."""
    return TritonTls(
        certificate=f"{RUN_MOUNT}/{SERVER_TLS}/{CERTIFICATE}",
        key=f"{RUN_MOUNT}/{SERVER_TLS}/{KEY}",
        client_ca=f"{RUN_MOUNT}/{CLIENT_TLS}/{AUTHORITY}" if tls.client_ca else None,
    )


def server_volumes(tls: Tls | None) -> list[dict[str, Any]]:
    """The server's certificate and key, and who signs its clients'."""
    if tls is None:
        return []
    authority = [_volume(CLIENT_TLS, tls.client_ca, (AUTHORITY,))] if tls.client_ca else []
    return [_volume(SERVER_TLS, tls.secret_name, (CERTIFICATE, KEY)), *authority]


def watcher_volumes(tls: Tls) -> list[dict[str, Any]]:
    """What may be renewed, without the key."""
    authority = [_volume(CLIENT_TLS, tls.client_ca, (AUTHORITY,))] if tls.client_ca else []
    return [_volume(SERVER_TLS, tls.secret_name, (CERTIFICATE,)), *authority]


def client_volumes(tls: Tls | None) -> list[dict[str, Any]]:
    """Whom the verification trusts, and the client's certificate that it shows. No key of the server."""
    if tls is None:
        return []
    # Not every issuer says who it is: without ca.crt the certificate itself is trusted.
    server = _volume(SERVER_TLS, tls.secret_name, (CERTIFICATE, AUTHORITY))
    server["secret"]["optional"] = True
    return [server, *([_volume(CLIENT_TLS, tls.client_ca, (CERTIFICATE, KEY))] if tls.client_ca else [])]


def tls_mounts(tls: Tls | None) -> list[dict[str, Any]]:
    """Any of these volumes in a container."""
    if tls is None:
        return []
    names = (SERVER_TLS, *([CLIENT_TLS] if tls.client_ca else []))
    return [mount(name, f"{RUN_MOUNT}/{name}", read_only=True) for name in names]


def loopback_probe(path: str, port: int) -> dict[str, Any]:
    """A probe that asks the server inside its container."""
    return {"exec": {"command": ["bash", "-c", _ASK, "probe", str(port), path]}}


def _volume(name: str, secret: str, keys: Sequence[str]) -> dict[str, Any]:
    items = [{"key": key, "path": key} for key in keys]
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, "items": items}}
