"""Tells how far the Job is to whoever asks its pod: the pod has no token to write it anywhere, and nobody reads logs.

One small answer, no input. A run never fails because of it.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

from pilotfish.api.job_progress import LARGEST_PROGRESS, PROGRESS_PATH, PROGRESS_PORT, ProgressNote
from pilotfish.optimizer.progress import BOARD

IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every pod."""
PATIENCE = 3.0
"""Seconds that a client may be silent."""
MOST_THREADS = 32


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE
    server_version = "pilotfish"
    sys_version = ""

    def do_GET(self) -> None:
        note = BOARD.note if self.path == PROGRESS_PATH else None
        if note is None:
            self.send_error(404)
            return
        body = _encode(note)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """The log is for the run."""


class _Server(ThreadingTCPServer):
    """A question in each thread, so that one that never ends holds up neither the others nor the end of the run."""

    address_family = socket.AF_INET
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - the library's
        """Who comes while too many are being answered is turned away."""
        return threading.active_count() < MOST_THREADS

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


@contextmanager
def progress_shown(*, port: int = PROGRESS_PORT) -> Iterator[int | None]:
    """Answer while the run goes on, on the pod's own address; yields the port, None outside of a cluster."""
    server = _open(port)
    if server is None:
        yield None
        return
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _open(port: int) -> _Server | None:
    if IN_CLUSTER not in os.environ:
        return None
    try:
        address = own_address()
        kind = _Server6 if ":" in address else _Server
        return kind((address, port), _Handler)
    except OSError as error:
        sys.stderr.write(f"nobody can ask for the progress: {error}\n")
        return None


def own_address() -> str:
    """The pod's address: what the kubelet wrote for its name into /etc/hosts."""
    return str(socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)[0][4][0])


def _encode(note: ProgressNote) -> bytes:
    body = note.to_json().encode()
    while len(body) > LARGEST_PROGRESS and note.message:
        note = note.model_copy(update={"message": note.message[: len(note.message) // 2]})
        body = note.to_json().encode()
    return body
