"""gs:// and az:// through their adapters against emulators: folders, files, logins, resume, looks, what is refused."""

import datetime as dt
import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator.server import create_server
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.credentials import filesystem_options, read_credentials
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Limits
from pilotfish.optimizer.filesystems import FsspecRemote
from support.azure import ACCOUNT, KEY, running_azurite, running_stand_in
from support.gate import gate_before
from support.triton import free_port

BODY = bytes(range(256)) * 8192  # 2 MiB
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()
FILES = {"v1/config.json": b"{}", "v1/deep/weights.bin": BODY}


class Google:
    """Google's storage: what the tests do to it, and the keys that lead to it."""

    scheme = "gs"

    def __init__(self, port):
        self.port = port
        options = ClientOptions(api_endpoint=f"http://127.0.0.1:{port}")
        client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
        self.bucket = client.bucket("models")

    def put(self, name, data):
        self.bucket.blob(name).upload_from_string(data)

    def delete(self, name):
        self.bucket.blob(name).delete()

    def keys(self, url):
        return {"STORAGE_EMULATOR_HOST": url}


class Azure:
    """Azure's storage."""

    scheme = "az"

    def __init__(self, blobs):
        self.port, self.blobs = blobs.port, blobs
        self.client = BlobServiceClient.from_connection_string(blobs.connection(blobs.endpoint))
        self.client.create_container("models")
        self.client.create_container("open", public_access="container")

    def put(self, name, data, *, container="models"):
        self.client.get_blob_client(container, name).upload_blob(data, overwrite=True)

    def delete(self, name):
        self.client.get_blob_client("models", name).delete_blob()

    def keys(self, url):
        return {"AZURE_STORAGE_CONNECTION_STRING": self.blobs.connection(self.blobs.endpoint_at(url))}


@pytest.fixture(scope="module", params=["gs", "az", pytest.param("azurite", marks=pytest.mark.soak)])
def cloud(request, tmp_path_factory):
    if request.param == "gs":
        port = free_port()
        server = create_server("127.0.0.1", port, in_memory=True, default_bucket="models")
        server.start()
        yield Google(port)
        server.stop()
        return
    service = running_stand_in() if request.param == "az" else running_azurite(tmp_path_factory.mktemp("azurite"))
    with service as blobs:
        yield Azure(blobs)


@pytest.fixture
def place(cloud, pod):
    """The cloud with the model of all tests, behind a gate, its keys mounted."""
    for name, data in FILES.items():
        cloud.put(name, data)
    with gate_before(cloud.port) as gate:
        cloud.gate = gate
        pod.mount_keys(cloud.keys(gate.url))
        yield cloud


def test_a_folder_and_a_file(place, pod):
    code, told = pod.fetch(f"{place.scheme}://models/v1/")
    assert code == 0, told.message
    assert pod.stored(told) == {"config.json": b"{}", "deep/weights.bin": BODY}
    code, told = pod.fetch(f"{place.scheme}://models/v1/deep/weights.bin", digest=DIGEST)
    assert (code, told.source.digest, pod.stored(told)) == (0, DIGEST, {"weights.bin": BODY})


def test_what_is_not_there_and_a_wrong_pin(place, pod):
    for path in ("models/v2/", "models/v1/none", "nobody/v1/"):
        code, told = pod.fetch(f"{place.scheme}://{path}")
        assert (code, told.reason) == (10, Reason.SOURCE_NOT_FOUND), told.message
        assert path in told.message
    code, told = pod.fetch(f"{place.scheme}://models/v1/", digest="sha256:" + "1" * 64)
    assert (code, told.reason) == (10, Reason.SOURCE_DIGEST_MISMATCH), told.message


def test_nobody_may(place, pod):
    place.gate.allowed = lambda _headers: False
    for status in (401, 403):
        place.gate.refusal = (status, {"x-ms-error-code": "No"}, b'{"error": {"message": "No.", "code": 403}}')
        code, told = pod.fetch(f"{place.scheme}://models/v1/")
        assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN), told.message
        assert "credentials.secretName" in told.message


def test_a_stopped_download_goes_on_where_it_was(place, pod, monkeypatch):
    uri = f"{place.scheme}://models/v1/deep/weights.bin"
    monkeypatch.setattr("pilotfish.optimizer.fetch.Limits", lambda: Limits(max_bytes=1024**2))
    pod.job({"uri": uri})
    real, count = FsspecRemote.read, []

    def broken(self, file, offset):
        for block in real(self, file, offset):
            yield block[:700_000]
            raise OptimizerError(Reason.SOURCE_UNREACHABLE, "gone")

    def counted(self, file, offset):
        count.append(offset)
        return real(self, file, offset)

    monkeypatch.setattr("pilotfish.optimizer.fetch.Limits", lambda: Limits(attempts=1))
    monkeypatch.setattr(FsspecRemote, "read", broken)
    assert pod.command("fetch")[1].reason is Reason.SOURCE_UNREACHABLE
    monkeypatch.setattr(FsspecRemote, "read", counted)
    place.gate.seen.clear()
    code, told = pod.command("fetch")
    assert (code, told.source.digest, count) == (0, DIGEST, [700_000]), told.message
    ranges = [h.get("range") or h.get("x-ms-range") for _path, h in place.gate.paths("weights.bin")]
    assert any(asked and asked.startswith("bytes=700000-") for asked in ranges), ranges


def test_bytes_that_change_while_they_are_read(place, pod, monkeypatch):
    real = FsspecRemote.read

    def changing(self, file, offset):
        for number, block in enumerate(real(self, file, offset)):
            if not number:
                place.put("v1/deep/weights.bin", BODY[::-1])
            yield block

    monkeypatch.setattr(FsspecRemote, "read", changing)
    code, told = pod.fetch(f"{place.scheme}://models/v1/deep/weights.bin")
    assert (code, told.reason) == (1, Reason.SOURCE_UNREACHABLE), told.message
    assert "changed while it was read" in told.message
    monkeypatch.undo()
    pod.job({"uri": f"{place.scheme}://models/v1/deep/weights.bin"})
    code, told = pod.command("fetch")
    assert pod.stored(told) == {"weights.bin": BODY[::-1]}


def test_a_look_reads_no_bytes_and_sees_new_ones(place, pod, monkeypatch):
    uri = f"{place.scheme}://models/v1/"
    code, first = pod.look(uri)
    assert (code, first.look.changed) == (0, True), first.message
    read = []
    real = FsspecRemote.read
    monkeypatch.setattr(FsspecRemote, "read", lambda *args: read.append(1) or real(*args))
    assert pod.look(uri)[1].look.changed is False
    assert read == []
    place.put("v1/deep/weights.bin", BODY[::-1])  # the same size
    code, second = pod.look(uri)
    assert (second.look.changed, second.source.digest != first.source.digest) == (True, True)
    place.put("v1/labels.txt", b"a")
    assert pod.look(uri)[1].look.changed is True
    place.delete("v1/labels.txt")
    assert pod.look(uri)[1].source.digest == second.source.digest


@pytest.fixture
def tokens():
    """Where a service account's signed claim is given for a token."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            claim = jwt.decode(
                form["assertion"][0], key.public_key(), algorithms=["RS256"], options={"verify_aud": False}
            )
            self.server.claims.append(claim)
            body = json.dumps({"access_token": "ticket", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url, server.claims = f"http://127.0.0.1:{server.server_port}/token", []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    server.account = {
        "type": "service_account", "client_email": "models@p.iam", "private_key": pem, "token_uri": server.url,
    }  # fmt: skip
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("cloud", ["gs"], indirect=True)
@pytest.mark.parametrize("name", ["GOOGLE_APPLICATION_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_a_service_account_of_google(place, pod, tokens, name):
    place.gate.allowed = lambda headers: headers.get("authorization") == "Bearer ticket"
    pod.mount_keys(place.keys(place.gate.url) | {name: json.dumps(tokens.account)})
    code, told = pod.fetch("gs://models/v1/")
    assert code == 0, told.message
    assert [claim["scope"] for claim in tokens.claims] == ["https://www.googleapis.com/auth/devstorage.read_write"]


@pytest.mark.parametrize("cloud", ["az", pytest.param("azurite", marks=pytest.mark.soak)], indirect=True)
def test_signatures_and_public_containers_of_azure(place, pod):
    place.put("v1/config.json", b"{}", container="open")
    sas = generate_container_sas(
        ACCOUNT, "models", account_key=KEY, permission=ContainerSasPermissions(read=True, list=True),
        expiry=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1),
    )  # fmt: skip
    endpoint = f"BlobEndpoint={place.blobs.endpoint}"
    pod.mount_keys({"AZURE_STORAGE_CONNECTION_STRING": f"{endpoint};SharedAccessSignature={sas}"})
    assert pod.fetch("az://models/v1/")[0] == 0
    pod.mount_keys({"AZURE_STORAGE_CONNECTION_STRING": endpoint})
    assert pod.fetch("az://open/v1/")[0] == 0
    code, told = pod.fetch("az://models/v1/config.json")
    assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN), told.message
    assert "RequestId" not in told.message


@pytest.mark.parametrize("cloud", [pytest.param("azurite", marks=pytest.mark.soak)], indirect=True)
def test_a_wrong_key_of_azure(place, pod):
    pod.mount_keys(
        {"AZURE_STORAGE_CONNECTION_STRING": place.blobs.connection(place.blobs.endpoint, key=KEY[::-1][2:] + "==")}
    )
    code, told = pod.fetch("az://models/v1/")
    assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN), told.message


ACCOUNT_KEY = {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "a2V5"}


def test_keys_become_options():
    assert filesystem_options("az", ACCOUNT_KEY) == {"account_name": "a", "account_key": "a2V5", "anon": False}
    assert filesystem_options("az", {"AZURE_STORAGE_ACCOUNT_NAME": "a"}) == {"account_name": "a", "anon": True}
    sas = {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_SAS_TOKEN": "sv=1"}
    assert filesystem_options("az", sas) == {"account_name": "a", "sas_token": "sv=1", "anon": False}
    assert filesystem_options("gs", {})["token"] == "anon"
    assert filesystem_options("s3", {})["anon"] is True
    assert filesystem_options("s3", {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "k"})["anon"] is False


@pytest.mark.parametrize(
    ("scheme", "keys", "says"),
    [
        ("az", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ("az", {"AZURE_STORAGE_CONNECTION_STRING": "nonsense"}, "Connection string"),
        ("az", ACCOUNT_KEY | {"AZURE_STORAGE_ACCOUNT_KEY": "not base64"}, "az://"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS_JSON": "{"}, "JSON key"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}, "JSON key"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS_JSON": '{"type": "service_account"}'}, "client_email"),
        (
            "gs",
            {"GOOGLE_APPLICATION_CREDENTIALS_JSON": json.dumps(
                {"type": "service_account", "client_email": "a", "private_key": "none", "token_uri": "http://h"}
            )},
            "PEM",
        ),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used(scheme, keys, says, pod):
    pod.mount_keys(keys)
    code, told = pod.fetch(f"{scheme}://models/v1/")
    assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN), told.message
    assert says in told.message


def test_a_shell_s_variables_stand_in_for_a_mount(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "word")
    monkeypatch.setenv("HTTP_BEARER_TOKEN", "word")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert read_credentials(tmp_path / "none") == {"HF_TOKEN": "word"}
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text("{}")
    assert read_credentials(tmp_path / "none") == {"HF_TOKEN": "word", ".dockerconfigjson": "{}"}
    assert read_credentials(tmp_path) == {}


def test_an_adapter_is_imported_for_its_own_scheme_only(tmp_path):
    check = (
        "import sys; from pathlib import Path\n"
        "from pilotfish.optimizer.open_remote import Places, open_remote\n"
        f"places = Places(credentials=Path({str(tmp_path)!r}))\n"
        "open_remote('https://h/m.onnx', places); open_remote('oci://h/m', places); open_remote('s3://b/m', places)\n"
        "heavy = {'adlfs', 'azure', 'gcsfs', 'google.cloud', 'grpc', 'onnx', 'torch', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
