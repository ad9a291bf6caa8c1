"""A pod's port, reached as `kubectl port-forward` reaches it: through the API server and the kubelet, as the user.

No Service, route or NetworkPolicy is in the way, and none is proven by it.
"""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0


class NoAnswer(Exception):
    """The pod could not be asked, or answered with an error; the sentence says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A JSON answer and how long it took, in seconds, on the connection that stood already."""

    body: Mapping[str, Any]
    seconds: float


class PodPort:
    """One open connection. Not safe for several threads."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def exchange(self, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Ask once: status and body of the answer, whatever they are. Raises NoAnswer when there is none."""
        try:
            self._connection.request(verb, path, body=body, headers=dict(headers))
            response = self._connection.getresponse()
            return response.status, response.read()
        except (ConnectionRefusedError, socket.gaierror) as error:
            raise NoAnswer(f"nobody answers at {self._connection.host}:{self._connection.port}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"the server closed the connection: {error or type(error).__name__}") from error

    def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Ask once. Raises NoAnswer with the server's own words when it refuses."""
        data = json.dumps(body).encode()
        began = time.perf_counter()
        status, answer = self.exchange("POST", path, data, {"Content-Type": "application/json"})
        seconds = time.perf_counter() - began
        try:
            wire = json.loads(answer)
        except ValueError:
            wire = {"error": answer[:200].decode(errors="replace")}
        if status != http.HTTPStatus.OK:
            raise NoAnswer(f"the server answered {status}: {wire.get('error', wire)}")
        return Reply(body=wire, seconds=seconds)


@contextmanager
def open_port(
    *, namespace: str, pod: str, port: int, kubeconfig: Path | None, context: str | None
) -> Iterator[PodPort]:
    """Connect to a pod's port. Raises NoAnswer when the API server does not let us or nobody listens."""
    from kubernetes import client, config  # noqa: PLC0415 - slow to import, only needed here
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415
    from kubernetes.stream import portforward  # noqa: PLC0415

    api = client.CoreV1Api(config.new_client_from_config(None if kubeconfig is None else str(kubeconfig), context))
    try:
        forward = portforward(api.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
    except ApiException as error:
        reason = str(error.reason).strip() or f"HTTP {error.status}"
        raise NoAnswer(f"cannot forward a port of pod {pod} (right: create pods/portforward): {reason}") from error
    connection = http.client.HTTPConnection("localhost", port, timeout=PATIENCE_SECONDS)
    connection.sock = forward.socket(port)
    connection.sock.settimeout(PATIENCE_SECONDS)
    # A connection that ended has no successor: the forward was for this one, and localhost is somebody else.
    connection.auto_open = 0
    try:
        yield PodPort(connection)
    except NoAnswer as error:
        # What the kubelet says of the port arrives beside the connection, which then only ends.
        if refused := forward.error(port):
            raise NoAnswer(f"pod {pod} does not listen on port {port}: {refused.strip()}") from error
        raise
    finally:
        connection.close()
