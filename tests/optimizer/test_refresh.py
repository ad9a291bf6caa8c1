"""Looks for new bytes at the same address: over real HTTP and S3 servers, and in a folder in place of a claim's mount."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import Outcome
from pilotfish.optimizer.fetch import Limits
from pilotfish.optimizer.filesystems import FsspecRemote
from pilotfish.optimizer.looks import fingerprint_of, read_known
from pilotfish.optimizer.remotes import Listing, RemoteFile
from support.s3_server import s3_server

OLD, NEW = b"old " * 300_000, b"new " * 300_000


def _digest(body):
    return "sha256:" + hashlib.sha256(body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's body with ranges and counts what it sends; without an ETag when it has none."""

    def do_GET(self):
        body = self.server.body
        if body is None:
            return self.send_error(404)
        ranged = self.headers.get("Range")
        start, end = 0, len(body)
        if ranged:
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(body)
        part = body[start:end]
        if len(part) > 1 and self.server.stop_after is not None:
            part, self.server.stop_after = part[: self.server.stop_after], None
        self.server.sent.append(len(part))
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(end - start))
        if self.server.etag:
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(part)
        self.close_connection = True
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.body, http.sent, http.etag, http.stop_after = OLD, [], True, None
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.url = f"http://127.0.0.1:{http.server_port}/model.onnx"
    yield http
    http.shutdown()
    http.server_close()


def _look(pod, uri):
    code, told = pod.look(uri)
    assert (code, told.outcome) == (0, Outcome.SUCCEEDED), told.message
    return told


def test_the_first_look_reads_everything_and_the_next_one_byte(server, pod):
    told = _look(pod, server.url)
    assert (told.source.digest, told.source.bytes, told.look.changed) == (_digest(OLD), len(OLD), True)
    assert server.sent[-1] == len(OLD)
    server.sent.clear()
    again = _look(pod, server.url)
    assert server.sent == [1]
    assert (again.source, again.look.changed) == (told.source, False)
    assert again.look.fingerprint == told.look.fingerprint


def test_what_fetch_brought_is_known(server, pod):
    pod.job({"uri": server.url})
    assert pod.command("fetch")[0] == 0
    server.sent.clear()
    told = _look(pod, server.url)
    assert (told.source.digest, told.look.changed, server.sent) == (_digest(OLD), False, [1])


def test_new_bytes_are_in_the_store_under_their_digest_and_a_pinned_fetch_needs_no_network(server, pod):
    _look(pod, server.url)
    server.body = NEW
    told = _look(pod, server.url)
    assert (told.source.digest, told.look.changed) == (_digest(NEW), True)
    stored = pod.store / "sources" / _digest(NEW).removeprefix("sha256:") / "model.onnx"
    assert stored.read_bytes() == NEW
    server.sent.clear()
    pod.job({"uri": server.url, "digest": told.source.digest})
    assert pod.command("fetch")[1].source.digest == _digest(NEW)
    assert server.sent == []


def test_old_bytes_that_come_back_are_found(server, pod):
    _look(pod, server.url)
    server.body = NEW
    _look(pod, server.url)
    server.body = OLD
    told = _look(pod, server.url)
    assert (told.source.digest, told.look.changed) == (_digest(OLD), True)


def test_a_server_that_tells_no_version_is_read_every_time(server, pod):
    server.etag = False
    first = _look(pod, server.url)
    assert first.look.fingerprint is None
    assert _look(pod, server.url).source == first.source
    assert server.sent.count(len(OLD)) == 2
    server.body = NEW  # the same size
    assert _look(pod, server.url).source.digest == _digest(NEW)


def test_versions_that_vanish_are_not_trusted_any_more(server, pod):
    _look(pod, server.url)
    server.etag = False
    _look(pod, server.url)
    server.etag, server.body = True, NEW
    server.sent.clear()
    assert _look(pod, server.url).source.digest == _digest(NEW)


def test_a_look_that_broke_off_goes_on_where_it_was(server, pod, monkeypatch):
    server.stop_after = 500_000
    monkeypatch.setattr("pilotfish.optimizer.fetch.Limits", lambda: Limits(attempts=1))
    code, told = pod.look(server.url)
    assert (code, told.reason) == (10, Reason.SOURCE_TRUNCATED)
    assert read_known(pod.store, server.url) is None
    server.sent.clear()
    assert _look(pod, server.url).source.digest == _digest(OLD)
    assert server.sent[-1] == len(OLD) - 500_000


def test_a_failing_look_says_why_and_keeps_what_was_known(server, pod):
    _look(pod, server.url)
    server.body = None
    code, told = pod.look(server.url)
    assert (code, told.reason) == (10, Reason.SOURCE_NOT_FOUND)
    assert told.look is None
    assert server.url in told.message
    assert read_known(pod.store, server.url).source.digest == _digest(OLD)


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"fingerprint": 1}'])
def test_a_note_that_cannot_be_read_is_no_note(server, pod, note):
    _look(pod, server.url)
    (path,) = (pod.store / "sources").glob(".look-*.json")
    path.write_text(note)
    assert _look(pod, server.url).source.digest == _digest(OLD)
    assert read_known(pod.store, server.url) is not None


def test_addresses_are_kept_apart(server, pod):
    _look(pod, server.url)
    server.body = NEW
    other = _look(pod, server.url.replace("model", "other"))
    assert (other.source.digest, other.look.changed) == (_digest(NEW), True)
    assert read_known(pod.store, server.url).source.digest == _digest(OLD)


def test_without_its_input_it_says_so(pod, monkeypatch):
    monkeypatch.delenv("PILOTFISH_REFRESH", raising=False)
    code, told = pod.command("refresh")
    assert (code, told.reason) == (10, Reason.INPUT_INVALID)
    assert "PILOTFISH_REFRESH" in told.message


@pytest.fixture
def bucket(pod):
    with s3_server() as url:
        keys = {
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "word", "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1",
        }  # fmt: skip
        (pod.run / "credentials").mkdir()
        for name, value in keys.items():
            (pod.run / "credentials" / name).write_text(value)
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="id", aws_secret_access_key="word", region_name="us-east-1"
        )
        client.create_bucket(Bucket="models")
        client.put_object(Bucket="models", Key="v1/config.json", Body=b"{}")
        client.put_object(Bucket="models", Key="v1/deep/weights.bin", Body=OLD)
        yield client


def _reads(monkeypatch):
    read = []
    original = FsspecRemote.read

    def counted(self, file, offset):
        read.append(file.path)
        return original(self, file, offset)

    monkeypatch.setattr(FsspecRemote, "read", counted)
    return read


def test_a_folder_in_a_bucket(bucket, pod, monkeypatch):
    read = _reads(monkeypatch)
    first = _look(pod, "s3://models/v1/")
    assert read == ["config.json", "deep/weights.bin"]
    read.clear()
    assert _look(pod, "s3://models/v1/").look.changed is False
    assert read == []
    bucket.put_object(Bucket="models", Key="v1/deep/weights.bin", Body=NEW)
    second = _look(pod, "s3://models/v1/")
    assert second.look.changed is True
    assert second.source.bytes == first.source.bytes
    assert second.source.digest != first.source.digest
    bucket.put_object(Bucket="models", Key="v1/labels.txt", Body=b"a")
    third = _look(pod, "s3://models/v1/")
    assert third.look.changed is True
    bucket.delete_object(Bucket="models", Key="v1/labels.txt")
    assert _look(pod, "s3://models/v1/").source.digest == second.source.digest


def test_a_file_in_a_bucket_that_was_written_again_is_read_and_is_the_same(bucket, pod, monkeypatch):
    uri = "s3://models/v1/deep/weights.bin"
    first = _look(pod, uri)
    assert first.source.digest == _digest(OLD)
    bucket.delete_object(Bucket="models", Key="v1/deep/weights.bin")
    code, told = pod.look(uri)
    assert (code, told.reason) == (10, Reason.SOURCE_NOT_FOUND)
    bucket.put_object(Bucket="models", Key="v1/deep/weights.bin", Body=OLD)
    again = _look(pod, uri)
    assert (again.source.digest, again.look.changed) == (first.source.digest, False)


def test_a_claim(pod):
    folder = pod.source / "digits"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(OLD)
    first = _look(pod, "pvc://models/digits")
    assert _look(pod, "pvc://models/digits").look.changed is False
    (folder / "model.onnx").write_bytes(OLD)  # touched, and the same
    touched = _look(pod, "pvc://models/digits")
    assert (touched.look.changed, touched.source) == (False, first.source)
    assert touched.look.fingerprint != first.look.fingerprint
    (folder / "model.onnx").write_bytes(NEW)
    assert _look(pod, "pvc://models/digits").look.changed is True


def _file(path="a", size=1, version="v"):
    return RemoteFile(path=path, size=size, version=version)


def test_a_fingerprint_tells_names_sizes_versions_and_single_files_apart():
    listings = [
        Listing(files=(_file(),), single=False),
        Listing(files=(_file(),), single=True),
        Listing(files=(_file(path="b"),), single=False),
        Listing(files=(_file(size=2),), single=False),
        Listing(files=(_file(version="w"),), single=False),
        Listing(files=(_file(), _file(path="b")), single=False),
    ]
    assert len({fingerprint_of(listing) for listing in listings}) == len(listings)
    both = (_file(), _file(path="b"))
    assert fingerprint_of(Listing(files=both, single=False)) == fingerprint_of(Listing(files=both[::-1], single=False))
    assert fingerprint_of(Listing(files=(_file(), _file(version=None)), single=False)) is None
    assert fingerprint_of(Listing(files=(), single=False)) is None
