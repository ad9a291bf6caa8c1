"""oci:// against a real registry: files by title, layers of KitOps and ModelCar, logins, tokens, resume, looks."""

import base64
import datetime as dt
import hashlib
import json
import tarfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.credentials import Login, registry_login
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Limits
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.layers import unfold
from pilotfish.optimizer.oci import Reference, parse_reference
from support.gate import gate_before
from support.onnx_models import save_mlp
from support.registry import HTPASSWD, OCI, push, put_manifest, running_registry, tar, titled

IMAGE_LAYER = f"{OCI}.layer.v1.tar+gzip"
KIT = "application/vnd.kitops.modelkit"
BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("registry")) as port:
        yield port


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    return save_mlp(tmp_path_factory.mktemp("model") / "model.onnx").read_bytes()


def test_one_file_has_the_digest_of_its_bytes(registry, pod):
    digest = push(registry, "team/digits", "v1", [titled("model.onnx", BODY)])
    for uri in (f"oci://127.0.0.1:{registry}/team/digits:v1", f"oci://localhost:{registry}/team/digits@{digest}"):
        code, told = pod.fetch(uri)
        assert (code, told.source.digest) == (0, "sha256:" + hashlib.sha256(BODY).hexdigest()), told.message
        assert pod.stored(told) == {"model.onnx": BODY}


def test_titled_files_are_a_folder(registry, pod):
    push(registry, "team/folder", "latest", [titled("config.json", b"{}"), titled("deep/weights.bin", BODY)])
    code, told = pod.fetch(f"oci://127.0.0.1:{registry}/team/folder")
    assert code == 0, told.message
    assert pod.stored(told) == {"config.json": b"{}", "deep/weights.bin": BODY}


def test_an_index_names_a_manifest_for_this_machine(registry, pod):
    base = f"http://127.0.0.1:{registry}/v2/team/index"
    rows = []
    for arch, data in (("arm64", b"arm"), ("amd64", b"amd")):
        digest = push(registry, "team/index", arch, [titled("m", data)])
        size = len(requests.get(f"{base}/manifests/{digest}", headers={"Accept": f"{OCI}.manifest.v1+json"}).content)
        kind = f"{OCI}.manifest.v1+json"
        rows.append(
            {"mediaType": kind, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": arch}}
        )
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": rows}
    put_manifest(requests.Session(), base, "v1", index)
    code, told = pod.fetch(f"oci://127.0.0.1:{registry}/team/index:v1")
    assert (code, pod.stored(told)) == (0, {"m": b"amd"})


ARTIFACTS = {
    "a folder of oras": lambda onnx: [
        titled("digits", tar({"digits/model.onnx": onnx}), kind=IMAGE_LAYER)
        | {"annotations": {"org.opencontainers.image.title": "digits", "io.deis.oras.content.unpack": "true"}}
    ],
    "a kit": lambda onnx: [
        {"data": tar({"model/digits.onnx": onnx}, zipped=False), "mediaType": f"{KIT}.model.v1.tar"},
        {"data": tar({"train.csv": b"1,2"}), "mediaType": f"{KIT}.dataset.v1.tar+gzip"},
        {"data": b"not a tar", "mediaType": f"{KIT}.docs.v1.tar"},
    ],
    "ModelPack, raw": lambda onnx: [
        {
            "data": onnx,
            "mediaType": "application/vnd.cncf.model.weight.v1.raw",
            "annotations": {"org.cncf.model.filepath": "model.onnx"},
        }
    ],
    "a ModelCar": lambda onnx: [
        {"data": tar({"bin/sh": b"\x7fELF", "models/old.onnx": onnx, "models/rest/x": b"x"}), "mediaType": IMAGE_LAYER},
        {"data": tar({"models/.wh.old.onnx": b"", "models/rest/.wh..wh..opq": b""}), "mediaType": IMAGE_LAYER},
        {"data": tar({"/models/1/model.onnx": onnx, "etc/passwd": b"root"}), "mediaType": IMAGE_LAYER},
    ],
    "an image of Docker": lambda onnx: [
        {"data": tar({"models/model.onnx": onnx}), "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"},
    ],
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_what_the_tools_push_is_a_model(name, registry, pod, onnx):
    push(registry, f"kinds/{len(name)}", "v1", ARTIFACTS[name](onnx))
    code, told = pod.fetch(f"oci://127.0.0.1:{registry}/kinds/{len(name)}:v1")
    assert code == 0, told.message
    folder = pod.store / "sources" / told.source.digest.removeprefix("sha256:")
    single = told.source.bytes == len(onnx)
    found = identify(folder / "model.onnx" if single else folder, work=pod.work)
    assert (found.format, found.path.read_bytes()) == (ModelFormat.ONNX, onnx)


def test_a_model_car_goes_the_whole_way(registry, pod, onnx):
    push(registry, "kinds/car", "v1", ARTIFACTS["a ModelCar"](onnx))
    assert pod.fetch(f"oci://127.0.0.1:{registry}/kinds/car:v1")[0] == 0
    code, told = pod.command("optimize")
    assert (code, told.source.format) == (0, "ONNX"), told.message


def test_a_broken_download_goes_on_and_a_killed_one_too(registry, pod, monkeypatch):
    push(registry, "team/large", "v1", [titled("model.onnx", BODY)])
    with gate_before(registry) as gate:
        uri = f"oci://127.0.0.1:{urlsplit(gate.url).port}/team/large:v1"
        monkeypatch.setattr("pilotfish.optimizer.fetch.Limits", lambda: Limits(attempts=1))
        gate.cuts = [500_000]
        assert pod.fetch(uri)[1].reason is Reason.SOURCE_TRUNCATED
        monkeypatch.undo()
        pod.job({"uri": uri})
        gate.cuts = [300_000]
        code, told = pod.fetch(uri)
        assert (code, told.source.bytes) == (0, len(BODY)), told.message
        ranges = [headers.get("range") for _path, headers in gate.paths("/blobs/")]
        assert ranges == [None, "bytes=500000-", "bytes=800000-"]


def test_a_look_reads_the_manifest_alone(registry, pod):
    push(registry, "team/look", "v1", [titled("model.onnx", BODY)])
    with gate_before(registry) as gate:
        uri = f"oci://127.0.0.1:{urlsplit(gate.url).port}/team/look:v1"
        _code, first = pod.look(uri)
        assert first.look.changed
        gate.seen.clear()
        assert pod.look(uri)[1].look.changed is False
        assert gate.paths("/blobs/") == []
        push(registry, "team/look", "v1", [titled("model.onnx", BODY[:-1])])
        code, told = pod.look(uri)
        assert (code, told.look.changed, told.source.bytes) == (0, True, len(BODY) - 1)


@pytest.fixture
def locked(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "r", "path": str(tmp_path / "locked" / "htpasswd")}}
    with running_registry(tmp_path / "locked", auth=auth) as port:
        push(port, "team/private", "v1", [titled("model.onnx", BODY)], auth=("user", "word"))
        yield port


def test_a_login_from_the_secret(locked, pod):
    uri = f"oci://127.0.0.1:{locked}/team/private:v1"
    code, told = pod.fetch(uri)
    assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN)
    assert "OCI_USERNAME" in told.message
    pod.mount_keys({"OCI_USERNAME": "user", "OCI_PASSWORD": "wrong"})
    code, told = pod.fetch(uri)
    assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN)
    assert "wrong" not in told.message
    pod.mount_keys({"OCI_USERNAME": "user", "OCI_PASSWORD": "word"})
    assert pod.fetch(uri)[0] == 0


def test_a_pull_secret_is_a_login(locked, pod):
    auth = base64.b64encode(b"user:word").decode()
    pod.mount_keys({".dockerconfigjson": json.dumps({"auths": {f"127.0.0.1:{locked}": {"auth": auth}}})})
    assert pod.fetch(f"oci://127.0.0.1:{locked}/team/private:v1")[0] == 0


def test_a_login_does_not_follow_a_blob_to_another_host(locked, registry, pod):
    push(registry, "team/private", "v1", [titled("model.onnx", BODY)])
    pod.mount_keys({"OCI_USERNAME": "user", "OCI_PASSWORD": "word"})
    path = f"/v2/team/private/blobs/sha256:{hashlib.sha256(BODY).hexdigest()}"
    with gate_before(locked) as gate, gate_before(registry) as elsewhere:
        gate.allowed = lambda _headers: gate.seen[-1][1] != path
        gate.refusal = (307, {"Location": f"{elsewhere.url.replace('127.0.0.1', 'localhost')}{path}"}, b"")
        code, told = pod.fetch(f"oci://127.0.0.1:{urlsplit(gate.url).port}/team/private:v1")
        assert code == 0, told.message
        assert [headers.get("authorization") for _path, headers in gate.paths(path)] == ["Basic dXNlcjp3b3Jk"]
        assert [headers.get("authorization") for _path, headers in elsewhere.paths(path)] == [None]


@contextmanager
def _token_server(folder):
    """Signs tokens for whoever says user:word, and for nobody the tokens that open nothing."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "tokens.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            known = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"user:word").decode()
            _type, repository, actions = parse_qs(urlsplit(self.path).query)["scope"][0].split(":")
            access = [{"type": "repository", "name": repository, "actions": actions.split(",")}] if known else []
            now = int(time.time())
            claims = {"iss": "i", "sub": "", "aud": "s", "exp": now + 60, "nbf": now - 5, "iat": now, "jti": "1"}
            token = jwt.encode(claims | {"access": access}, key, algorithm="RS256", headers={"x5c": chain})
            body = json.dumps({"token": token}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_registry_that_wants_tokens(pod, tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    with _token_server(folder) as tokens:
        url = f"http://127.0.0.1:{tokens.server_port}/token"
        auth = {"token": {"realm": url, "service": "s", "issuer": "i", "rootcertbundle": str(folder / "tokens.pem")}}
        with running_registry(folder, auth=auth) as port:
            scope = {"service": "s", "scope": "repository:team/private:push,pull"}
            token = requests.get(url, params=scope, auth=("user", "word")).json()["token"]
            push(port, "team/private", "v1", [titled("model.onnx", BODY)], auth=_bearer(token))
            uri = f"oci://127.0.0.1:{port}/team/private:v1"
            code, told = pod.fetch(uri)
            assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN), told.message
            pod.mount_keys({"OCI_USERNAME": "user", "OCI_PASSWORD": "word"})
            tokens.asked.clear()
            code, told = pod.fetch(uri)
            assert code == 0, told.message
            assert tokens.asked == ["/token?service=s&scope=repository%3Ateam%2Fprivate%3Apull"]


def _bearer(token):
    def add(request):
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return add


REFUSED = {
    "a tag that is not there": ("team/none:v9", None, Reason.SOURCE_NOT_FOUND, 10, "nothing at"),
    "no files": ("bad/empty:v1", [], Reason.SOURCE_NOT_FOUND, 10, "push the model's files"),
    "a name that climbs": ("bad/climb:v1", [titled("../up", b"x")], Reason.UNSAFE_MODEL, 10, "leaves its folder"),
    "a name twice": (
        "bad/twice:v1", [titled("m", b"x"), titled("m", b"y")], Reason.SOURCE_UNSUPPORTED, 10, "lists m twice",
    ),
    "zstd": (
        "bad/zstd:v1", [{"data": b"x", "mediaType": f"{OCI}.layer.v1.tar+zstd"}], Reason.SOURCE_UNSUPPORTED, 10, "gzip",
    ),
    "no title": (
        "bad/untitled:v1", [{"data": b"x", "mediaType": "text/plain"}], Reason.SOURCE_UNSUPPORTED, 10, "no title",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, registry, pod):
    place, layers, reason, code, says = REFUSED[name]
    if layers is not None:
        push(registry, *place.split(":"), layers)
    found, told = pod.fetch(f"oci://127.0.0.1:{registry}/{place}")
    assert (found, told.reason) == (code, reason), told.message
    assert says in told.message


def test_a_registry_that_lies_about_a_digest(registry, pod):
    digest = push(registry, "bad/lies", "v1", [titled("m", BODY)])
    with gate_before(registry) as gate:
        host = f"127.0.0.1:{urlsplit(gate.url).port}"
        other = "0" * 64
        gate.rewrite = lambda path: path.replace(other, digest.removeprefix("sha256:"))
        code, told = pod.fetch(f"oci://{host}/bad/lies@sha256:{other}")
        assert (code, told.reason) == (10, Reason.SOURCE_DIGEST_MISMATCH), told.message
        blob = hashlib.sha256(BODY).hexdigest()
        twin = BODY[::-1]
        push(registry, "bad/lies", "twin", [titled("m", twin)])
        gate.rewrite = lambda path: path.replace(blob, hashlib.sha256(twin).hexdigest())
        code, told = pod.fetch(f"oci://{host}/bad/lies:v1")
        assert (code, told.reason) == (10, Reason.SOURCE_DIGEST_MISMATCH), told.message
        assert not list((pod.store / "sources").glob("[!.]*"))


def test_nobody_listens_and_no_registry(pod):
    code, told = pod.fetch("oci://127.0.0.1:9/a/b:v1")
    assert (code, told.reason) == (1, Reason.SOURCE_UNREACHABLE)


@pytest.mark.parametrize(
    "uri", ["oci://host", "oci://host/", "oci://host/UPPER", "oci://host/a@sha256:12", "oci://h/a:"]
)
def test_references_that_are_none(uri):
    with pytest.raises(OptimizerError) as caught:
        parse_reference(uri)
    assert caught.value.reason is Reason.INPUT_INVALID


def test_references():
    digest = "sha256:" + "a" * 64
    found = [parse_reference(f"oci://{text}") for text in ("h:5000/a/b", "h/a/b-c_d:v1.0", f"h/a:v1@{digest}")]
    assert [(r.host, r.repository, r.name) for r in found] == [
        ("h:5000", "a/b", "latest"), ("h", "a/b-c_d", "v1.0"), ("h", "a", digest),
    ]  # fmt: skip
    assert isinstance(found[0], Reference)


def test_logins_are_of_their_own_registry_only():
    auth = base64.b64encode(b"u:p:q").decode()
    config = {"https://index.docker.io/v1/": {"auth": auth}, "other:5000": {"username": "a", "password": "b"}}
    keys = {".dockerconfigjson": json.dumps({"auths": config})}
    assert registry_login(keys, "docker.io") == Login(username="u", password="p:q")
    assert registry_login(keys, "other:5000") == Login(username="a", password="b")
    assert registry_login(keys, "other") is None
    assert registry_login({".dockerconfigjson": "{}"}, "h") is None
    for text in ("{", "[]", '{"auths": []}', '{"auths": {"h": {"auth": "§"}}}', '{"auths": {"h": {"username": "u"}}}'):
        with pytest.raises(OptimizerError) as caught:
            registry_login({".dockerconfigjson": text}, "h")
        assert caught.value.reason is Reason.SOURCE_FORBIDDEN


def _member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "climbs": ({"models/../../up": b"x"}, Reason.UNSAFE_MODEL),
    "backslash": ({"models\\..\\up": b"x"}, Reason.UNSAFE_MODEL),
    "link": ({"a": _member("models/a", tarfile.SYMTYPE, "/etc/passwd")}, Reason.UNSAFE_MODEL),
    "hard link": ({"a": _member("models/a", tarfile.LNKTYPE, "models/b")}, Reason.UNSAFE_MODEL),
    "device": ({"a": _member("models/a", tarfile.CHRTYPE)}, Reason.UNSAFE_MODEL),
    "whiteout of the parent": ({"models/.wh...": b""}, Reason.UNSAFE_MODEL),
    "whiteout of the folder": ({"models/.wh..": b""}, Reason.UNSAFE_MODEL),
    "bomb": ({"models/a": bytes(80 * 1024**2)}, Reason.UNSAFE_MODEL),
    "nothing": ({"bin/sh": b"x"}, Reason.UNKNOWN_FORMAT),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_layers_that_bite(name, tmp_path):
    files, reason = HOSTILE[name]
    source = tmp_path / "source"
    (source / ".layers").mkdir(parents=True)
    (source / ".layers" / "0000.image").write_bytes(tar({"models/b": b"x"} if reason is Reason.UNSAFE_MODEL else {}))
    (source / ".layers" / "0001.image").write_bytes(tar(files))
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(OptimizerError) as caught:
        unfold(source, tmp_path / "work" / "unfolded")
    assert caught.value.reason is reason, caught.value.message
    after = sorted(p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "work"))
    assert after == before


@pytest.mark.parametrize(
    "data", [b"no tar", tar({"models/a": BODY})[:-2000], tar({"models/a": BODY}, zipped=False)[:9000]]
)
def test_layers_cut_short(data, tmp_path):
    (tmp_path / "s" / ".layers").mkdir(parents=True)
    (tmp_path / "s" / ".layers" / "0000.image").write_bytes(data)
    with pytest.raises(OptimizerError) as caught:
        unfold(tmp_path / "s", tmp_path / "work")
    assert caught.value.reason is Reason.SOURCE_TRUNCATED
