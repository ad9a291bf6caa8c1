"""Sources from folders, a real HTTP server with ranges and faults, and a real S3 server."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Limits, fetch
from pilotfish.optimizer.open_remote import Places, open_remote
from pilotfish.optimizer.progress import FETCH_STAGES, Progress
from pilotfish.optimizer.remotes import HttpRemote
from support.s3_server import s3_server

BODY = bytes(range(256)) * 8192  # 2 MiB
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY with ranges; the server's `faults` say where each answer breaks off."""

    def do_GET(self):
        self.server.seen.append(self.headers.get("Range"))
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/private" and self.headers.get("Authorization") != "Bearer word":
            return self.send_error(401)
        if self.path == "/broken":
            return self.send_error(503)
        start, end = 0, len(BODY)
        ranged = self.headers.get("Range")
        if ranged and self.path != "/rangeless":
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(BODY)
        self.send_response(206 if ranged and self.path != "/rangeless" else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", self.server.etag)
        if ranged and self.path != "/rangeless":
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(BODY)}")
        self.end_headers()
        whole = end - start > 1
        stop = self.server.faults.pop(0) if whole and self.server.faults else end - start
        self.wfile.write(BODY[start : start + min(stop, end - start)])
        self.close_connection = True
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.faults, http.seen, http.etag = [], [], '"one"'
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.url = f"http://127.0.0.1:{http.server_port}"
    yield http
    http.shutdown()
    http.server_close()


def _get(uri, store, *, digest=None, limits=None, places=None):
    progress = Progress(FETCH_STAGES)
    with progress.stage("fetch"):
        return fetch(
            lambda: open_remote(uri, places or Places()),
            uri=uri, store=store, digest=digest, limits=limits or Limits(backoff=0), progress=progress, sleep=lambda _: None,
        )  # fmt: skip


def _fails(reason, *args, **kwargs):
    with pytest.raises(OptimizerError) as caught:
        _get(*args, **kwargs)
    assert caught.value.reason is reason, caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_file_over_http_is_stored_under_its_digest(server, tmp_path):
    fetched = _get(f"{server.url}/model.onnx", tmp_path, digest=DIGEST)
    assert fetched.record.digest == DIGEST
    assert fetched.record.bytes == len(BODY)
    assert fetched.entry == tmp_path / "sources" / DIGEST.removeprefix("sha256:") / "model.onnx"
    assert fetched.entry.read_bytes() == BODY
    assert [p.name for p in (tmp_path / "sources").iterdir() if p.is_dir()] == [DIGEST.removeprefix("sha256:")]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.faults = [600_000, 700_000]
    assert _get(f"{server.url}/model.onnx", tmp_path).record.digest == DIGEST
    assert server.seen[1:] == [None, "bytes=600000-", "bytes=1300000-"]


def test_a_second_run_goes_on_where_a_killed_one_stopped(server, tmp_path):
    server.faults = [500_000]
    _fails(Reason.SOURCE_TRUNCATED, f"{server.url}/model.onnx", tmp_path, limits=Limits(attempts=1))
    assert _get(f"{server.url}/model.onnx", tmp_path).record.digest == DIGEST
    assert server.seen[-1] == "bytes=500000-"


def test_new_bytes_behind_the_uri_start_over(server, tmp_path):
    server.faults = [500_000]
    _fails(Reason.SOURCE_TRUNCATED, f"{server.url}/model.onnx", tmp_path, limits=Limits(attempts=1))
    server.etag = '"two"'
    assert _get(f"{server.url}/model.onnx", tmp_path).record.digest == DIGEST
    assert server.seen[-1] is None


def test_a_server_without_ranges_is_read_from_the_start_again(server, tmp_path):
    server.faults = [500_000]
    assert _get(f"{server.url}/rangeless", tmp_path).record.digest == DIGEST


def test_a_pinned_source_in_the_store_needs_no_network(server, tmp_path):
    _get(f"{server.url}/model.onnx", tmp_path)
    server.seen.clear()
    assert _get(f"{server.url}/model.onnx", tmp_path, digest=DIGEST).record.digest == DIGEST
    assert server.seen == []


def test_sound_bytes_in_the_store_stay_where_they_are(server, tmp_path):
    first = _get(f"{server.url}/model.onnx", tmp_path).entry
    inode = first.stat().st_ino
    assert _get(f"{server.url}/copy/model.onnx", tmp_path).entry == first
    assert first.stat().st_ino == inode
    first.write_bytes(b"other")
    assert _get(f"{server.url}/model.onnx", tmp_path).entry.read_bytes() == BODY


def test_the_same_bytes_under_another_name_are_found(tmp_path):
    for number, name in enumerate(("v1.onnx", "twin.onnx")):
        folder = tmp_path / f"claim{number}"
        folder.mkdir()
        (folder / name).write_bytes(BODY)
        fetched = _get(f"pvc://models/{name}", tmp_path / "store", places=Places(source=folder))
        assert fetched.record.digest == DIGEST
        assert fetched.entry.read_bytes() == BODY


def test_a_damaged_source_in_the_store_is_fetched_again(server, tmp_path):
    entry = _get(f"{server.url}/model.onnx", tmp_path).entry
    entry.write_bytes(b"other")
    assert _get(f"{server.url}/model.onnx", tmp_path, digest=DIGEST).entry.read_bytes() == BODY


@pytest.mark.parametrize(("path", "reason"), [
    ("missing", Reason.SOURCE_NOT_FOUND), ("private", Reason.SOURCE_FORBIDDEN), ("broken", Reason.SOURCE_UNREACHABLE),
    ("folder/", Reason.SOURCE_UNSUPPORTED),
])  # fmt: skip
def test_http_failures_have_their_own_reason(server, tmp_path, path, reason):
    assert server.url in _fails(reason, f"{server.url}/{path}", tmp_path)


def test_credentials_are_read_from_the_mounted_secret(server, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "HTTP_BEARER_TOKEN").write_text("word\n")
    assert _get(f"{server.url}/private", tmp_path, places=Places(credentials=tmp_path / "keys")).record.digest == DIGEST


def test_a_wrong_digest_and_a_size_over_the_limit(server, tmp_path):
    message = _fails(Reason.SOURCE_DIGEST_MISMATCH, f"{server.url}/m", tmp_path, digest="sha256:" + "0" * 64)
    assert DIGEST in message
    _fails(Reason.SOURCE_TOO_LARGE, f"{server.url}/m", tmp_path, limits=Limits(max_bytes=1000))
    assert not list((tmp_path / "sources").glob("[!.]*"))


def test_nobody_listens(tmp_path):
    _fails(Reason.SOURCE_UNREACHABLE, "http://127.0.0.1:9/m.onnx", tmp_path)


def _folder(root):
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.txt").write_text("b")
    return root


def test_a_folder_has_the_digest_of_its_sorted_files(tmp_path):
    root = _folder(tmp_path / "model")
    fetched = _get(f"file://{root}", tmp_path / "store")
    lines = [("a.txt", "a"), ("sub/b.txt", "b")]
    text = "".join(f"{p}\0{len(c)}\0{hashlib.sha256(c.encode()).hexdigest()}\n" for p, c in lines)
    assert fetched.record.digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert folder_digest(hash_folder(fetched.path)) == fetched.record.digest
    assert fetched.entry == fetched.path


def test_a_claim_is_read_below_its_mount(tmp_path):
    root = _folder(tmp_path / "source" / "models" / "v1")
    places = Places(source=tmp_path / "source")
    assert _get("pvc://claim/models/v1", tmp_path / "store", places=places).record.bytes == 2
    _fails(Reason.SOURCE_NOT_FOUND, "pvc://claim/models/v2", tmp_path / "store", places=places)
    _fails(Reason.UNSAFE_MODEL, "pvc://claim/models/../../etc", tmp_path / "store", places=places)
    (root / "c.txt").symlink_to("a.txt")
    fetched = _get("pvc://claim/models/v1", tmp_path / "store", places=places)
    assert (fetched.path / "c.txt").read_text() == "a"
    assert not (fetched.path / "c.txt").is_symlink()


def test_links_that_leave_the_folder_are_refused(tmp_path):
    root = _folder(tmp_path / "model")
    (root / "secret").symlink_to("/etc/passwd")
    assert "secret" in _fails(Reason.UNSAFE_MODEL, f"file://{root}", tmp_path / "store")


def test_a_huggingface_cache_is_a_farm_of_links_and_is_copied(tmp_path):
    cache = tmp_path / "models--org--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "abc").write_text("{}")
    (cache / "snapshots" / "1").mkdir(parents=True)
    (cache / "snapshots" / "1" / "config.json").symlink_to("../../blobs/abc")
    fetched = _get(f"file://{cache}/snapshots/1", tmp_path / "store")
    assert (fetched.path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("uri", ["ftp://host/m", "s3://user:word@bucket/m", "hf://only-one-part"])
def test_uris_that_cannot_be_read_say_what_can(uri, tmp_path):
    with pytest.raises(OptimizerError) as caught:
        _get(uri, tmp_path)
    assert caught.value.reason in {Reason.SOURCE_UNSUPPORTED, Reason.INPUT_INVALID}


def test_a_missing_adapter_is_named(tmp_path, monkeypatch):
    def absent(*_args, **_options):
        raise ImportError("no gcsfs")

    monkeypatch.setattr("fsspec.filesystem", absent)
    assert "gcsfs" in _fails(Reason.SOURCE_UNSUPPORTED, "gs://bucket/m", tmp_path)


def test_too_many_files(tmp_path):
    _fails(Reason.SOURCE_TOO_LARGE, f"file://{_folder(tmp_path / 'm')}", tmp_path / "s", limits=Limits(max_files=1))


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with s3_server() as url:
        keys = tmp_path_factory.mktemp("keys")
        for name, value in {
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "word", "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1",
        }.items():  # fmt: skip
            (keys / name).write_text(value)
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="id", aws_secret_access_key="word", region_name="us-east-1"
        )
        client.create_bucket(Bucket="models")
        client.put_object(Bucket="models", Key="v1/config.json", Body=b"{}")
        client.put_object(Bucket="models", Key="v1/deep/weights.bin", Body=BODY)
        yield Places(credentials=keys)


def test_a_folder_and_a_file_from_s3(s3, tmp_path):
    folder = _get("s3://models/v1/", tmp_path, places=s3)
    assert sorted(p.relative_to(folder.path).as_posix() for p in folder.path.rglob("*.*")) == [
        "config.json",
        "deep/weights.bin",
    ]
    single = _get("s3://models/v1/deep/weights.bin", tmp_path, places=s3)
    assert single.record.digest == DIGEST
    assert single.entry.read_bytes() == BODY


def test_s3_failures(s3, tmp_path):
    _fails(Reason.SOURCE_NOT_FOUND, "s3://models/v2/", tmp_path, places=s3)
    _fails(Reason.SOURCE_NOT_FOUND, "s3://other/v1/", tmp_path, places=s3)
    _fails(Reason.SOURCE_DIGEST_MISMATCH, "s3://models/v1/", tmp_path, places=s3, digest="sha256:" + "1" * 64)


@pytest.mark.parametrize("names", [("clash/a", "clash/a/b"), ("long/" + "n" * 300, "long/b")])
def test_names_that_no_folder_can_hold(s3, tmp_path, names):
    keys = {p.name: p.read_text() for p in s3.credentials.iterdir()}
    client = boto3.client(
        "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], aws_access_key_id="id", aws_secret_access_key="word",
        region_name="us-east-1",
    )  # fmt: skip
    for name in names:
        client.put_object(Bucket="models", Key=name, Body=b"x")
    reason = Reason.SOURCE_UNSUPPORTED if names[0] == "clash/a" else Reason.UNSAFE_MODEL
    _fails(reason, f"s3://models/{names[0].split('/')[0]}/", tmp_path, places=s3)


def test_an_unreachable_place_is_named_after_the_last_try(server, tmp_path, monkeypatch):
    def gone(*_):
        raise OptimizerError(Reason.SOURCE_UNREACHABLE, "gone for now")
        yield

    monkeypatch.setattr(HttpRemote, "read", gone)
    assert _fails(Reason.SOURCE_UNREACHABLE, f"{server.url}/model.onnx", tmp_path) == "gone for now"
