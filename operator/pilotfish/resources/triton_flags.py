"""The command line of tritonserver, by version.

Pure. An unknown flag aborts the server at once, so each flag stands in the table with the release that brought it, read
from the server's own releases; nothing here asks a server what it knows. One model per server, loaded at the start from
a read-only folder: model control is off and the APIs that change a running server need a key that clients do not have.
"""

import re
from dataclasses import dataclass

OLDEST = (2, 42, 0)
"""24.01. Older servers lack the limits on a gRPC channel's age, without which a pod cannot be drained."""

ADMIN_HEADER = "pilotfish-admin"
"""Header that opens the restricted APIs; over gRPC Triton reads it as `triton-grpc-protocol-pilotfish-admin`."""

RESTRICTED_APIS = ("model-repository", "shared-memory", "trace", "logging")
"""What a client of a model never needs. Shared memory is how a remote client got code running before 25.07."""

_QUANTILES = "--metrics-config=summary_latencies=true"
"""Beside the counters, quantiles of the times of the last minute: without them there is no tail latency.

All servers from `OLDEST` on have them. The histogram that servers have from 2.52.0 on counts whole milliseconds in
buckets from 100 ms upwards, which says nothing about a model that answers in less: it stays off.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Since:
    """A flag that only releases from `version` on accept."""

    version: tuple[int, int, int]
    flag: str


_LATER_FLAGS = (
    _Since(version=(2, 59, 0), flag="--http-max-input-size={max_request_bytes}"),
    _Since(version=(2, 68, 0), flag="--allow-client-shm=false"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonPorts:
    """Where the server listens."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonTls:
    """Files of the gRPC server's certificate and key; with `client_ca` clients must show one that it signed."""

    certificate: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonDrain:
    """How the server lets go of its clients.

    `exit_timeout_seconds`: after SIGTERM, how long open HTTP connections and running requests are served.
    `grpc_connection_age_seconds`: a gRPC channel is asked to reconnect after this time, which is what moves long-lived
    channels off a pod that has left its Service; running calls get `grpc_connection_grace_seconds` more.
    """

    exit_timeout_seconds: int = 20
    grpc_connection_age_seconds: int = 10
    grpc_connection_grace_seconds: int = 30


def parse_triton_version(version: str) -> tuple[int, int, int]:
    """`2.51.0` as numbers.

    Raises:
        ValueError: not three numbers, or older than `OLDEST`.
    """
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", version.strip())
    if match is None:
        raise ValueError(
            f"tritonVersion {version!r} is not a server version; write three numbers such as 2.71.0 "
            "(the server's version, not the container's 26.07)"
        )
    parsed = (int(match[1]), int(match[2]), int(match[3]))
    if parsed < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ValueError(f"tritonVersion {version!r} is older than {oldest}; use an image with {oldest} or newer")
    return parsed


def triton_arguments(
    version: str,
    *,
    model_repository: str,
    admin_key: str,
    ports: TritonPorts | None = None,
    drain: TritonDrain | None = None,
    address: str | None = None,
    tls: TritonTls | None = None,
    backend_directory: str | None = None,
    max_request_bytes: int = 64 * 1024 * 1024,
    log_info: bool = False,
) -> tuple[str, ...]:
    """Arguments for the `tritonserver` of `version`, in a stable order.

    `admin_key` guards `RESTRICTED_APIS`; in a pod it is a `$(VARIABLE)` that the kubelet fills in, never the value.
    `address` None listens on all interfaces. With `tls` gRPC is encrypted and HTTP, which cannot be, listens on the
    loopback alone; metrics stay as they are. `backend_directory` None uses the image's own. `log_info` prints tables of
    settings after the reason why a model did not load, which pushes it out of the 2048 bytes of log that the kubelet
    keeps as the container's message: off, so that the message says what is wrong.

    Raises:
        ValueError: `version` is malformed or too old.
    """
    known = parse_triton_version(version)
    ports = ports or TritonPorts()
    drain = drain or TritonDrain()
    restricted = f"{','.join(RESTRICTED_APIS)}:{ADMIN_HEADER}={admin_key}"
    later = (flag.flag for flag in _LATER_FLAGS if known >= flag.version)
    return (
        f"--model-repository={model_repository}",
        *([f"--backend-directory={backend_directory}"] if backend_directory else []),
        *_addresses(address, tls),
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--log-info={str(log_info).lower()}",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
        _QUANTILES,
        f"--http-restricted-api={restricted}",
        f"--grpc-restricted-protocol={restricted}",
        f"--exit-timeout-secs={drain.exit_timeout_seconds}",
        f"--grpc-max-connection-age={drain.grpc_connection_age_seconds * 1000}",
        f"--grpc-max-connection-age-grace={drain.grpc_connection_grace_seconds * 1000}",
        *_encryption(tls),
        *(flag.format(max_request_bytes=max_request_bytes) for flag in later),
    )


def _addresses(address: str | None, tls: TritonTls | None) -> tuple[str, ...]:
    if address is not None:
        return tuple(f"--{kind}-address={address}" for kind in ("http", "grpc", "metrics"))
    # Metrics listen where HTTP does unless told otherwise.
    return ("--http-address=127.0.0.1", "--metrics-address=0.0.0.0") if tls else ()


def _encryption(tls: TritonTls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    mutual = ("--grpc-use-ssl-mutual=true", f"--grpc-root-cert={tls.client_ca}") if tls.client_ca else ()
    return (
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={tls.certificate}",
        f"--grpc-server-key={tls.key}",
        *mutual,
    )
