"""Azure's Blob service for tests: Azurite, which checks signatures, and a stand-in for where no Node is.

The stand-in answers the documented requests that reading takes, from memory. It takes whoever names the account.
"""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import requests

from support.triton import free_port

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of Azurite's account, the same on every machine: it opens nothing."""
_LOCK = Path(__file__).parent / "azurite" / "package-lock.json"
_DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


@dataclass(frozen=True)
class Blobs:
    """A running service."""

    port: int

    @property
    def endpoint(self) -> str:
        return self.endpoint_at(f"http://127.0.0.1:{self.port}")

    @staticmethod
    def endpoint_at(url: str) -> str:
        return f"{url}/{ACCOUNT}"

    @staticmethod
    def connection(endpoint: str, *, key: str = KEY) -> str:
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"


@contextmanager
def running_azurite(folder: Path) -> Iterator[Blobs]:
    """Azurite, installed once per machine from the lock beside this file. Needs Node and npm."""
    port = free_port()
    program = _installed() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    flags = ("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry")
    with (folder / "azurite.log").open("wb") as log:
        command = [_program("node"), str(program), "--blobHost", "127.0.0.1", "--blobPort", str(port), *flags]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait(port, server, folder / "azurite.log")
            yield Blobs(port)
        finally:
            server.kill()
            server.wait()


@contextmanager
def running_stand_in() -> Iterator[Blobs]:
    """The stand-in, in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _StandIn)
    server.daemon_threads = True
    server.blobs, server.public, server.writes = {}, set(), 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Blobs(server.server_port)
    server.shutdown()
    server.server_close()


class _StandIn(BaseHTTPRequestHandler):
    """/account/container/blob in memory."""

    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        _empty, _account, container, *rest = unquote(parts.path).split("/", 3)
        self.container, self.name = container, rest[0] if rest else ""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = self.headers.get("Authorization", "").startswith(f"SharedKey {ACCOUNT}:") or "sig" in self.query
        if not signed and container not in self.server.public:
            self._say(
                403,
                b"<Error><Code>AuthorizationFailure</Code><Message>Server failed to authenticate.</Message></Error>",
            )
        else:
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_HEAD = do_PUT = do_DELETE = _any  # noqa: N815 - http.server's names

    def _put(self) -> None:
        if self.query.get("restype") == ["container"]:
            if self.headers.get("x-ms-blob-public-access"):
                self.server.public.add(self.container)
            self.server.blobs[self.container] = {}
        else:
            self.server.writes += 1
            tag = hashlib.sha256(str(self.server.writes).encode()).hexdigest()[:16]
            self.server.blobs[self.container][self.name] = (self.body, f'"0x{tag}"')
        self._say(201)

    def _delete(self) -> None:
        del self.server.blobs[self.container][self.name]
        self._say(202)

    def _get(self) -> None:
        blobs = self.server.blobs.get(self.container)
        if blobs is None:
            self._say(404, b"<Error><Code>ContainerNotFound</Code></Error>", **{"x-ms-error-code": "ContainerNotFound"})
        elif self.query.get("comp") == ["list"]:
            self._say(200, self._list(blobs), **{"Content-Type": "application/xml"})
        elif not self.name:
            self._say(200, **{"ETag": '"0x1"', "Last-Modified": _DATE})
        elif self.name not in blobs:
            self._say(404, **{"x-ms-error-code": "BlobNotFound"})
        else:
            self._blob(*blobs[self.name])

    _head = _get

    def _blob(self, data: bytes, tag: str) -> None:
        told = {"ETag": tag, "Last-Modified": _DATE, "x-ms-blob-type": "BlockBlob", "Accept-Ranges": "bytes"}
        asked = self.headers.get("x-ms-range") or self.headers.get("Range")
        if asked is None or self.command == "HEAD":
            self._say(200, data, **told)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        told["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._say(206, part, **told)

    def _list(self, blobs: dict[str, tuple[bytes, str]]) -> bytes:
        prefix, delimiter = (self.query.get(name, [""])[0] for name in ("prefix", "delimiter"))
        rows, folders = [], []
        for name, (data, tag) in sorted(blobs.items()):
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.append(prefix + rest.split(delimiter, 1)[0] + delimiter)
                continue
            told = f"<Last-Modified>{_DATE}</Last-Modified><Etag>{tag.strip(chr(34))}</Etag>"
            told += f"<Content-Length>{len(data)}</Content-Length><BlobType>BlockBlob</BlobType>"
            rows.append(f"<Blob><Name>{name}</Name><Properties>{told}</Properties></Blob>")
        rows += [f"<BlobPrefix><Name>{name}</Name></BlobPrefix>" for name in dict.fromkeys(folders)]
        head = f'<EnumerationResults ContainerName="{self.container}"><Prefix>{prefix}</Prefix><Blobs>'
        return f"{head}{''.join(rows)}</Blobs><NextMarker/></EnumerationResults>".encode()

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-ms-version", "2021-12-02")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _installed() -> Path:
    """The folder with Azurite; npm fetches it when it is not there yet."""
    lock = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("PILOTFISH_CACHE") or Path.home() / ".cache" / "pilotfish")
    folder = cache / f"azurite-{lock}"
    if not folder.is_dir():
        fresh = cache / f".azurite-{lock}-{os.getpid()}"
        shutil.copytree(_LOCK.parent, fresh)
        command = [_program("npm"), "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=fresh, check=True, capture_output=True)
        fresh.rename(folder)
    return folder


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed: Azurite needs Node and npm"
    return found


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"Azurite does not answer: {log.read_text()}")
