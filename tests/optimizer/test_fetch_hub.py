"""hf:// against a server that speaks the hub's protocol: pinned to a commit, without the weights that come twice."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Limits, fetch
from pilotfish.optimizer.filesystems import FsspecRemote
from pilotfish.optimizer.looks import fingerprint_of
from pilotfish.optimizer.open_remote import Places, open_remote
from pilotfish.optimizer.progress import FETCH_STAGES, Progress

COMMIT = "a" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"safe" * 1000,
    "pytorch_model.bin": b"pickle",
    "sub/vocab.txt": b"a b",
}


LARGE = bytes(range(256)) * 8192  # 2 MiB, kept elsewhere, as the hub keeps what lies in LFS and Xet
LARGE_ROW = {
    "type": "file", "path": "model.safetensors", "size": len(LARGE), "oid": "o", "xetHash": "x" * 64,
    "lfs": {"oid": hashlib.sha256(LARGE).hexdigest(), "size": len(LARGE), "pointerSize": 134},
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    def _answer(self):
        path = urlsplit(self.path).path
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/api/models/org/gated"):
            return self.send_error(403)
        if path in {
            "/api/models/org/name",
            f"/api/models/org/name/revision/{COMMIT}",
            "/api/models/org/name/revision/v1",
        }:
            return self._send(json.dumps({"id": "org/name", "sha": COMMIT, "siblings": []}).encode())
        if path.startswith(f"/api/models/org/name/tree/{COMMIT}"):
            rows = [{"type": "file", "path": p, "size": len(d), "oid": p} for p, d in FILES.items()]
            return self._send(json.dumps(rows).encode())
        if path.startswith(f"/api/models/org/name/paths-info/{COMMIT}"):
            return self._send(b"[]")
        if path.startswith(f"/org/name/resolve/{COMMIT}/"):
            return self._send(FILES[path.removeprefix(f"/org/name/resolve/{COMMIT}/")])
        return self.send_error(404)

    do_GET = do_POST = do_HEAD = _answer  # noqa: N815 - http.server finds them by these names

    def _send(self, body):
        ranged = self.headers.get("Range")
        whole = len(body)
        if ranged:
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            body = body[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"e"')
        if ranged:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{whole}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class PrivateHub(Hub):
    def _private(self):
        """For whoever has the token; the bytes come from another host, which must not see it."""
        path = urlsplit(self.path).path
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer word":
            return self.send_error(401)
        if "/resolve/" in path:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.elsewhere}/blob")
            self.send_header("X-Linked-Size", str(len(LARGE)))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if "/tree/" in path or "/paths-info/" in path:
            return self._send(json.dumps([LARGE_ROW]).encode())
        return self._send(json.dumps({"id": "org/private", "sha": COMMIT, "siblings": []}).encode())

    do_GET = do_POST = do_HEAD = _private  # noqa: N815 - http.server finds them by these names


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    http = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    keys = tmp_path_factory.mktemp("keys")
    (keys / "HF_ENDPOINT").write_text(f"http://127.0.0.1:{http.server_port}")
    yield Places(credentials=keys)
    http.shutdown()
    http.server_close()


def _get(uri, store, places):
    progress = Progress(FETCH_STAGES)
    with progress.stage("fetch"):
        return fetch(
            lambda: open_remote(uri, places),
            uri=uri,
            store=store,
            digest=None,
            limits=Limits(attempts=1),
            progress=progress,
        )


@pytest.mark.parametrize("uri", ["hf://org/name", "hf://org/name@v1"])
def test_a_repository_is_fetched_without_its_pickles(uri, places, tmp_path):
    fetched = _get(uri, tmp_path, places)
    found = {p.relative_to(fetched.path).as_posix(): p.read_bytes() for p in fetched.path.rglob("*") if p.is_file()}
    assert found == {name: data for name, data in FILES.items() if not name.endswith(".bin")}


@pytest.mark.parametrize(("uri", "reason"), [
    ("hf://org/other", Reason.SOURCE_NOT_FOUND), ("hf://org/name@v9", Reason.SOURCE_NOT_FOUND),
    ("hf://org/gated", Reason.SOURCE_FORBIDDEN),
])  # fmt: skip
def test_what_the_hub_refuses(uri, reason, places, tmp_path):
    with pytest.raises(OptimizerError) as caught:
        _get(uri, tmp_path, places)
    assert caught.value.reason is reason


def test_the_hub_tells_versions(places):
    uri = "hf://org/name@v1"
    listing = open_remote(uri, places).listing()
    assert all(file.version for file in listing.files)
    assert fingerprint_of(listing) == fingerprint_of(open_remote(uri, places).listing())


class Elsewhere(BaseHTTPRequestHandler):
    """Where large files lie; notes what it is asked."""

    def do_GET(self):
        self.server.asked.append((self.headers.get("Range"), self.headers.get("Authorization")))
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = self.server.body[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(LARGE)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def private(tmp_path):
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (PrivateHub, Elsewhere)]
    hub, elsewhere = servers
    hub.elsewhere, elsewhere.asked, elsewhere.body = elsewhere.server_port, [], LARGE
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "HF_ENDPOINT").write_text(f"http://127.0.0.1:{hub.server_port}")
    (tmp_path / "keys" / "HF_TOKEN").write_text("word\n")
    yield elsewhere, Places(credentials=tmp_path / "keys")
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_private_large_file_goes_on_where_it_stopped_and_the_token_stays_at_home(private, tmp_path, monkeypatch):
    elsewhere, places = private
    real = FsspecRemote.read

    def broken(self, file, offset):
        for block in real(self, file, offset):
            yield block[:700_000]
            raise OptimizerError(Reason.SOURCE_UNREACHABLE, "gone")

    monkeypatch.setattr(FsspecRemote, "read", broken)
    with pytest.raises(OptimizerError):
        _get("hf://org/private", tmp_path, places)
    monkeypatch.undo()
    elsewhere.asked.clear()
    fetched = _get("hf://org/private", tmp_path, places)
    assert (fetched.path / "model.safetensors").read_bytes() == LARGE
    assert all(asked.startswith("bytes=700000-") for asked, _ in elsewhere.asked)
    assert {authorization for _, authorization in elsewhere.asked} == {None}


def test_large_bytes_that_are_not_the_listed_ones(private, tmp_path):
    elsewhere, places = private
    elsewhere.body = LARGE[::-1]
    with pytest.raises(OptimizerError) as caught:
        _get("hf://org/private", tmp_path, places)
    assert caught.value.reason is Reason.SOURCE_DIGEST_MISMATCH
    assert not list((tmp_path / "sources").glob("[!.]*"))


def test_a_private_repository_without_its_token(private, tmp_path):
    _elsewhere, places = private
    (tmp_path / "keys" / "HF_TOKEN").unlink()
    with pytest.raises(OptimizerError) as caught:
        _get("hf://org/private", tmp_path, places)
    assert caught.value.reason is Reason.SOURCE_FORBIDDEN
