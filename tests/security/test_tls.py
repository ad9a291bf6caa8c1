"""S18: what speaks to a Triton with TLS, and what does not; the probes, the verification and the metrics still work."""

import io
import socket
import subprocess
from datetime import timedelta

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from safetensors.numpy import save_file

from pilotfish.api.access import Tls
from pilotfish.api.job_input import VerifyInput, VerifyTls
from pilotfish.api.report import ModelSignature, OptimizerReason, TensorSpec
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.progress import VERIFY_STAGES, Progress
from pilotfish.optimizer.verify_server import verify_servers
from pilotfish.resources.certificate import WATCH
from pilotfish.resources.tls import client_volumes, loopback_probe, server_volumes, watcher_volumes
from pilotfish.resources.triton_flags import TritonTls
from support.builders import make_artifact
from support.certificates import Authority
from support.infer import infer, metric
from support.repository import expected, linear_onnx, make_config, write_model
from support.triton import TritonServer

pytestmark = pytest.mark.triton

HOST = "linear.team.svc"
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
LINEAR = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(4,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),),
    batched=True,
)


def serve(folder, tls):
    repository = write_model(folder / "models", "linear", make_config("linear"), linear_onnx())
    return TritonServer(repository=repository, scratch=folder / "server", tls=tls)


def files_of(folder, *, client_ca=None):
    return TritonTls(certificate=f"{folder}/tls.crt", key=f"{folder}/tls.key", client_ca=client_ca and str(client_ca))


def client(server, trusted, shown=None):
    key, certificate = ((shown / name).read_bytes() for name in ("tls.key", "tls.crt")) if shown else (None, None)
    credentials = grpc.ssl_channel_credentials((trusted / "ca.crt").read_bytes(), key, certificate)
    return triton_grpc.InferenceServerClient(
        server.grpc_url, creds=credentials, channel_args=[("grpc.ssl_target_name_override", HOST)]
    )


def verify(server, run, store, *, shows=False):
    golden = store / "artifacts" / "recipe00" / "golden"
    if not golden.is_dir():
        golden.mkdir(parents=True)
        save_file({"x": X}, golden / "inputs.safetensors")
        save_file({"y": expected(X)}, golden / "outputs.safetensors")
    artifact = make_artifact().model_copy(update={"golden": folder_digest(hash_folder(golden))})
    order = VerifyInput(
        model="linear",
        host="unused",
        pods=1,
        artifact=artifact,
        signature=LINEAR,
        wait_seconds=3,
        tls=VerifyTls(host=HOST, shows_certificate=shows),
    )
    said = Progress(VERIFY_STAGES, out=io.StringIO())
    return verify_servers(order, store=store, run=run, resolve=lambda _: (server.grpc_url,), progress=said)


def refusal(server, run, store, **more):
    with pytest.raises(OptimizerError) as caught:
        verify(server, run, store, **more)
    assert caught.value.reason is OptimizerReason.VERIFICATION_ERROR
    return str(caught.value)


@pytest.fixture(scope="module")
def authority():
    return Authority("servers")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, authority):
    """A server with TLS, and the folder of its Secret."""
    folder = tmp_path_factory.mktemp("encrypted")
    secret = authority.issue(folder / "tls", HOST)
    with serve(folder, files_of(secret)) as server:
        yield server.wait_ready("linear"), secret


@pytest.fixture(scope="module")
def mutual(tmp_path_factory, authority):
    """A server that asks clients for a certificate, the folder of its Secret, and the folder of its clients' one."""
    folder = tmp_path_factory.mktemp("mutual")
    secret = authority.issue(folder / "tls", HOST)
    clients = Authority("clients").issue(folder / "clients-tls")
    with serve(folder, files_of(secret, client_ca=clients / "ca.crt")) as server:
        yield server.wait_ready("linear"), secret, clients


def run_folder(tmp_path, server=None, client=None):
    """What a verification pod has below /var/run/pilotfish."""
    for name, found in (("tls", server), ("clients-tls", client)):
        if found is not None:
            (tmp_path / "run").mkdir(exist_ok=True)
            (tmp_path / "run" / name).symlink_to(found)
    return tmp_path / "run"


def is_refused(made):
    with pytest.raises(triton_grpc.InferenceServerException) as caught:
        made.infer("linear", [tensor()], client_timeout=5)
    return caught.value.status()


def tensor():
    made = triton_grpc.InferInput("x", list(X.shape), "FP32")
    made.set_data_from_numpy(X)
    return made


def test_s18_who_trusts_the_authority_gets_answers(encrypted):
    server, secret = encrypted
    np.testing.assert_allclose(infer(client(server, secret), triton_grpc, "linear", {"x": X}), expected(X), rtol=1e-6)


def test_s18_plain_text_is_refused(encrypted):
    server, _ = encrypted
    assert "UNAVAILABLE" in is_refused(triton_grpc.InferenceServerClient(server.grpc_url))
    with socket.create_connection(("127.0.0.1", server.ports.grpc), timeout=5) as plain:
        plain.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in plain.recv(64)


def test_s18_who_does_not_trust_the_authority_sends_nothing(encrypted, tmp_path):
    server, _ = encrypted
    stranger = Authority("somebody else").issue(tmp_path / "stranger", HOST)
    assert "UNAVAILABLE" in is_refused(client(server, stranger))


def test_s18_probes_and_metrics_work_beside_tls(encrypted):
    """The very command of the pods' probes."""
    server, _ = encrypted

    def probe(path):
        command = loopback_probe(path, server.ports.http)["exec"]["command"]
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode

    assert probe("/v2/models/linear/versions/1/ready") == 0
    assert probe("/v2/health/live") == 0
    assert probe("/v2/models/other/versions/1/ready") != 0
    assert metric(server, "nv_inference_request_success") >= 0


def test_a_probe_of_a_port_where_nobody_listens_fails(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        command = loopback_probe("/v2/health/live", taken.getsockname()[1])["exec"]["command"]
        assert subprocess.run(command, capture_output=True, timeout=10, check=False).returncode != 0


def test_s18_the_verification_speaks_tls(encrypted, tmp_path):
    server, secret = encrypted
    assert verify(server, run_folder(tmp_path, secret), tmp_path / "store").verification.pods == 1


def test_s18_a_certificate_without_its_authority_is_trusted_itself(encrypted, tmp_path):
    server, secret = encrypted
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tls.crt").write_bytes((secret / "tls.crt").read_bytes())
    assert verify(server, run_folder(tmp_path, bare), tmp_path / "store").verification.pods == 1


@pytest.mark.parametrize(
    ("names", "ends_in", "said"),
    [
        (("elsewhere.example.org",), timedelta(hours=1), "Hostname mismatch, certificate is not valid for"),
        ((HOST,), -timedelta(minutes=5), "certificate has expired"),
    ],
)
def test_s18_a_certificate_that_does_not_hold_is_named(tmp_path, authority, names, ends_in, said):
    secret = authority.issue(tmp_path / "tls", *names, ends_in=ends_in)
    with serve(tmp_path, files_of(secret)) as server:
        message = refusal(server.wait_ready("linear"), run_folder(tmp_path, secret), tmp_path / "store")
    assert f"the certificate of spec.serving.access.tls.secretName does not hold for {HOST}: " in message
    assert said in message


def test_s18_mutual_tls_lets_in_who_shows_a_certificate_of_the_clients_authority(mutual, tmp_path):
    server, secret, clients = mutual
    shown = client(server, secret, clients)
    np.testing.assert_allclose(infer(shown, triton_grpc, "linear", {"x": X}), expected(X), rtol=1e-6)
    assert "UNAVAILABLE" in is_refused(client(server, secret))
    stranger = Authority("clients").issue(tmp_path / "stranger")
    assert "UNAVAILABLE" in is_refused(client(server, secret, stranger))
    assert "UNAVAILABLE" in is_refused(triton_grpc.InferenceServerClient(server.grpc_url))


def test_s18_the_verification_shows_its_certificate(mutual, tmp_path):
    server, secret, clients = mutual
    assert verify(server, run_folder(tmp_path, secret, clients), tmp_path / "store", shows=True).verification.pods == 1


def test_s18_a_secret_without_a_client_says_what_it_lacks(mutual, tmp_path):
    server, secret, clients = mutual
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.crt").write_bytes((clients / "ca.crt").read_bytes())
    message = refusal(server, run_folder(tmp_path, secret, tmp_path / "ca"), tmp_path / "store", shows=True)
    assert "the Secret of spec.serving.access.tls.clientCA has no tls.crt" in message


def test_tls_says_its_names_as_the_object_does():
    assert Tls.model_validate({"secretName": "a", "clientCA": "b"}).to_wire() == {"secretName": "a", "clientCA": "b"}


# What notices a renewed certificate


class Watched:
    """The watcher's own script on a folder, as its container runs it."""

    def __init__(self, folder):
        self.folder = folder
        self.files = [folder / "tls.crt", folder / "ca.crt"]
        (folder / "scratch").mkdir()

    def start(self):
        told = (self.folder / "scratch", self.folder / "told", 0.05, *self.files)
        return subprocess.Popen(["sh", "-c", WATCH, "watch", *map(str, told)])

    def told(self):
        return (self.folder / "told").read_text()


def test_s18_a_renewed_certificate_is_told_once_and_the_same_one_never_again(tmp_path, authority):
    authority.issue(tmp_path, HOST)
    watched = Watched(tmp_path)
    assert watched.start().wait(timeout=30) == 0
    first = watched.told()
    again = watched.start()
    with pytest.raises(subprocess.TimeoutExpired):
        again.wait(timeout=0.5)
    authority.issue(tmp_path, HOST)
    assert again.wait(timeout=30) == 0
    assert watched.told() != first
    assert [len(word) for word in (first, watched.told())] == [16, 16]


def test_the_watcher_ends_when_it_is_told_to(tmp_path, authority):
    authority.issue(tmp_path, HOST)
    watched = Watched(tmp_path)
    watched.start().wait(timeout=30)
    running = watched.start()
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(timeout=0.3)
    running.terminate()
    assert running.wait(timeout=30) == 0


def test_s18_nobody_but_the_server_gets_its_key():
    tls = Tls.model_validate({"secretName": "server", "clientCA": "clients"})

    def keys(volumes):
        return {(v["secret"]["secretName"], item["key"]) for v in volumes for item in v["secret"]["items"]}

    assert ("server", "tls.key") in keys(server_volumes(tls))
    assert ("server", "tls.key") not in keys([*watcher_volumes(tls), *client_volumes(tls)])
    assert ("clients", "tls.key") not in keys([*server_volumes(tls), *watcher_volumes(tls)])
