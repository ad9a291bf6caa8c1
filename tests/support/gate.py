"""A forwarding HTTP server before another one: sees every request, breaks bodies off, asks for an authorization."""

import http.client
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass
class Gate:
    """What passes. `cuts` are the bytes after which the next bodies over `cut_above` bytes break off."""

    port: int
    host: str = "127.0.0.1"
    url: str = ""
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    cut_above: int = 10_000
    allowed: Callable[[dict[str, str]], bool] = lambda _headers: True
    rewrite: Callable[[str], str] = lambda path: path
    refusal: tuple[int, dict[str, str], bytes] = (401, {}, b"")

    def paths(self, part: str) -> list[tuple[str, dict[str, str]]]:
        """Paths and headers of the requests whose path holds `part`."""
        return [(path, headers) for _method, path, headers in self.seen if part in path]


@contextmanager
def gate_before(port: int) -> Any:
    """A gate before the server at a port of this machine, listening until the block ends."""
    gate = Gate(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            gate.seen.append((self.command, self.path, headers))
            body = self.rfile.read(int(headers.get("content-length") or 0))
            if not gate.allowed(headers):
                self._answer(*gate.refusal)
                return
            connection = http.client.HTTPConnection(gate.host, gate.port, timeout=30)
            connection.request(self.command, gate.rewrite(self.path), body=body, headers=headers)
            reply = connection.getresponse()
            self._answer(reply.status, dict(reply.getheaders()), reply.read(), head=self.command == "HEAD")
            connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 - http.server's names

        def _answer(self, status: int, headers: dict[str, str], body: bytes, *, head: bool = False) -> None:
            self.send_response(status)
            for key, value in headers.items():
                if key.lower() not in _HOP:
                    self.send_header(key, value)
            length = next((v for k, v in headers.items() if head and k.lower() == "content-length"), str(len(body)))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "HEAD":
                return
            if len(body) > gate.cut_above and gate.cuts:
                self.wfile.write(body[: gate.cuts.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes before the whole answer came is no event."""

    server = Server(("127.0.0.1", 0), Handler)
    gate.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
