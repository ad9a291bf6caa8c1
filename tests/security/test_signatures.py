"""S10, S33: a source is opened only with a signature of every byte by a trusted key. Signed by the signers' own command.

Sources are served as users keep them: a claim's folder, one file behind https-like HTTP, a bucket.
"""

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from model_signing import hashing, signing
from typer.testing import CliRunner

from pilotfish.api.report import Manifest, Outcome
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.cli.main import app
from pilotfish.optimizer import commands
from pilotfish.resources.job import JobIntent, make_job
from pilotfish.resources.refresh_job import make_refresh_job
from support.builders import OWNER, POLICY, make_spec
from support.onnx_models import save_mlp
from support.stores import write_artifact

URI = "pvc://claim/digits"
VERIFIED = {"verification": {"publicKeySecret": "keys"}}


@dataclass(frozen=True)
class Signer:
    """A key pair, and `model_signing` as a person runs it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Signer":
        folder.mkdir()
        openssl = partial(subprocess.run, check=True, capture_output=True)
        openssl(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "private.pem"])
        openssl(["openssl", "ec", "-in", folder / "private.pem", "-pubout", "-out", folder / "public.pem"])
        return cls(folder)

    @property
    def public(self) -> bytes:
        return (self.folder / "public.pem").read_bytes()

    @property
    def fingerprint(self) -> str:
        der = ["openssl", "pkey", "-pubin", "-in", self.folder / "public.pem", "-outform", "DER"]
        made = subprocess.run(der, check=True, capture_output=True).stdout
        return (
            "sha256:" + subprocess.run(["sha256sum"], input=made, check=True, capture_output=True).stdout[:64].decode()
        )

    def sign(self, what: Path, signature: Path, *options: str) -> None:
        """By the signers' own command."""
        command = [sys.executable, "-m", "model_signing", "sign", "key", what, "--signature", signature, *options]
        subprocess.run([*command, "--private_key", self.folder / "private.pem"], check=True, capture_output=True)

    def sign_here(
        self, what: Path, signature: Path, *, ignore: tuple[Path, ...] = (), shards: int | None = None
    ) -> None:
        """The same without the three seconds that a new process takes."""
        config = hashing.Config()
        config = config if shards is None else config.use_shard_serialization(shard_size=shards)
        config = config.set_ignored_paths(paths=[signature, *ignore])
        signer = signing.Config().set_hashing_config(config)
        signer.use_elliptic_key_signer(private_key=self.folder / "private.pem").sign(what, signature)


@pytest.fixture(scope="session")
def signer(tmp_path_factory):
    return Signer.make(tmp_path_factory.mktemp("keys") / "right")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return Signer.make(tmp_path_factory.mktemp("keys") / "wrong")


@pytest.fixture
def trust(pod):
    """Puts public keys where the kubelet mounts the Secret."""

    def put(**keys: bytes) -> None:
        folder = pod.run / "verification"
        folder.mkdir(exist_ok=True)
        for name, key in keys.items():
            (folder / name).write_bytes(key)

    return put


@pytest.fixture(scope="session")
def signed_once(tmp_path_factory, signer):
    folder = tmp_path_factory.mktemp("model") / "digits"
    folder.mkdir()
    save_mlp(folder / "model.onnx")
    (folder / "notes.txt").write_text("ten digits")
    signer.sign(folder, folder / "model.sig")
    return folder


@pytest.fixture
def signed(pod, signed_once):
    """A signed folder in the claim, and the test's to spoil."""
    folder = pod.source / "digits"
    folder.mkdir()
    for file in signed_once.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def refused(pod, uri=URI, **model):
    code, told = pod.fetch(uri, **(VERIFIED | model))
    assert (code, told.outcome, told.reason) == (10, Outcome.FAILED, Reason.SOURCE_SIGNATURE_INVALID), told.message
    assert not (pod.work / commands.SOURCE_NOTE).exists(), "what is not there cannot be opened"
    assert pod.command("optimize")[0] == 10
    return told.message


def test_s10_a_signed_source_is_fetched_and_the_key_is_on_record(pod, signed, signer, trust):
    trust(**{"team.pem": signer.public})

    code, told = pod.fetch(URI, **VERIFIED)

    assert code == 0, told.message
    assert told.source.signed_by == signer.fingerprint
    assert signer.fingerprint in told.message
    assert json.loads((pod.work / commands.SOURCE_NOTE).read_text())["record"]["signedBy"] == signer.fingerprint


def test_s10_what_is_made_of_it_says_who_signed_it(pod, signed, signer, trust):
    """The signature in the folder is no part of the model, and the optimizer is not told to trust anything more."""
    trust(key=signer.public)
    assert pod.fetch(URI, **VERIFIED)[0] == 0

    code, told = pod.command("optimize")

    assert code == 0, told.message
    manifest = Manifest.model_validate_json((pod.store / told.artifact.path / "manifest.json").read_text())
    assert manifest.source.signed_by == told.source.signed_by == signer.fingerprint


def test_s10_a_signature_that_was_laid_beside_it_later_counts(pod, signed, signer, trust, tmp_path):
    (signed / "model.sig").unlink()
    signer.sign_here(signed, tmp_path / "elsewhere.sig")
    (signed / "model.sig").write_bytes((tmp_path / "elsewhere.sig").read_bytes())
    trust(key=signer.public)

    code, told = pod.fetch(URI, **VERIFIED)

    assert code == 0, told.message


def test_s10_one_of_two_trusted_keys_is_enough_so_that_keys_can_be_replaced(pod, signed, signer, stranger, trust):
    trust(a_new=stranger.public, b_old=signer.public)

    code, told = pod.fetch(URI, **VERIFIED)

    assert (code, told.source.signed_by) == (0, signer.fingerprint), told.message


def test_s10_another_key(pod, signed, stranger, trust):
    trust(key=stranger.public)

    assert "public key" in refused(pod)


def test_s10_one_changed_byte(pod, signed, signer, trust):
    trust(key=signer.public)
    data = bytearray((signed / "model.onnx").read_bytes())
    data[-1] ^= 1
    (signed / "model.onnx").write_bytes(data)

    assert "model.onnx" in refused(pod)


def test_s10_one_changed_byte_is_what_is_told_with_two_trusted_keys(pod, signed, signer, stranger, trust):
    trust(a=stranger.public, b=signer.public)
    (signed / "notes.txt").write_text("nine digits")

    assert "notes.txt" in refused(pod)


def test_s10_an_added_file(pod, signed, signer, trust):
    trust(key=signer.public)
    (signed / "model.py").write_text("import os")

    assert "model.py" in refused(pod)


def test_s10_a_removed_file(pod, signed, signer, trust):
    trust(key=signer.public)
    (signed / "notes.txt").unlink()

    assert "notes.txt" in refused(pod)


def test_s10_a_file_that_the_signer_left_out(pod, signed, signer, trust):
    """Signers may ignore paths; whoever may write there could put anything under them."""
    (signed / "model.sig").unlink()
    signer.sign_here(signed, signed / "model.sig", ignore=(signed / "notes.txt",))
    trust(key=signer.public)

    assert "leaves notes.txt out" in refused(pod)


def test_s10_a_folder_of_git_may_not_hide_files(pod, signed, signer, trust):
    (signed / ".git").mkdir()
    (signed / ".git" / "model.py").write_text("import os")
    (signed / ".gitattributes").write_text("*.onnx filter=lfs")
    trust(key=signer.public)

    assert "leaves .git/model.py out" in refused(pod)

    (signed / ".git" / "model.py").unlink()
    assert pod.fetch(URI, **VERIFIED)[0] == 0, ".gitattributes alone is what the hub adds to every repository"


def test_s10_no_signature(pod, signed, signer, trust):
    trust(key=signer.public)
    (signed / "model.sig").unlink()

    assert "has no model.sig" in refused(pod)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff\xfe", b'{"dsseEnvelope": {"payload": "!"}}', b'{"dsseEnvelope": []}', b"[" * 100_000],
    ids=["empty", "no envelope", "no text", "no base64", "a list", "deep"],
)
def test_s10_a_signature_that_is_none(pod, signed, signer, trust, content):
    trust(key=signer.public)
    (signed / "model.sig").write_bytes(content)

    assert "cannot be read" in refused(pod)


def test_s10_the_envelope_of_a_signature_around_another_statement(pod, signed, signer, trust):
    """The statement is read before it is verified, to know how to hash; changing it must not help."""
    bundle = json.loads((signed / "model.sig").read_text())
    said = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    (signed / "notes.txt").write_text("nine digits")
    for resource in said["predicate"]["resources"]:
        if resource["name"] == "notes.txt":
            resource["digest"] = sha256(b"nine digits").hexdigest()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
    (signed / "model.sig").write_text(json.dumps(bundle))
    trust(key=signer.public)

    refused(pod)


def test_s10_the_right_signature_of_another_model(pod, signed, signer, trust, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    save_mlp(other / "model.onnx", seed=9)
    signer.sign_here(other, tmp_path / "other.sig")
    (signed / "model.sig").write_bytes((tmp_path / "other.sig").read_bytes())
    trust(key=signer.public)

    assert "model.onnx" in refused(pod)


def test_s10_big_files_signed_in_shards(pod, signed, signer, trust):
    (signed / "model.sig").unlink()
    signer.sign_here(signed, signed / "model.sig", shards=1000)
    trust(key=signer.public)
    assert pod.fetch(URI, **VERIFIED)[0] == 0

    (pod.work / commands.SOURCE_NOTE).unlink()
    (signed / "added.onnx").write_bytes(b"x")
    assert "added.onnx" in refused(pod)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "holds no key"),
        ({"key": b"ssh-rsa AAAA"}, "is not a public key in PEM"),
    ],
    ids=["none", "another format"],
)
def test_a_secret_without_public_keys_is_named(pod, signed, trust, keys, says):
    trust(**keys)

    code, told = pod.fetch(URI, **VERIFIED)

    assert (code, told.reason) == (10, Reason.INPUT_INVALID)
    assert says in told.message
    assert "spec.model.verification.publicKeySecret" in told.message


def test_a_private_key_in_the_secret_is_told_and_never_printed(pod, signed, signer, trust, capfd):
    private = (signer.folder / "private.pem").read_bytes()
    trust(key=private)

    code, told = pod.fetch(URI, **VERIFIED)

    assert (code, told.reason) == (10, Reason.INPUT_INVALID)
    assert private.splitlines()[1].decode() not in told.message + "".join(capfd.readouterr())


@pytest.fixture
def web(tmp_path):
    """A web server over a folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_s10_a_single_file_has_its_signature_beside_it(pod, web, signer, trust):
    folder, address = web
    uri = f"{address}/digits.onnx?version=3"
    save_mlp(folder / "digits.onnx")
    trust(key=signer.public)
    assert f"no signature at {address}/digits.onnx.sig?version=3" in refused(pod, uri)

    signer.sign_here(folder / "digits.onnx", folder / "digits.onnx.sig")
    code, told = pod.fetch(uri, **VERIFIED)
    assert (code, told.source.signed_by) == (0, signer.fingerprint), told.message

    save_mlp(folder / "digits.onnx", seed=5)
    (pod.work / commands.SOURCE_NOTE).unlink()
    assert "Signature mismatch" in refused(pod, uri)


def test_s10_bytes_that_are_in_the_store_already_are_verified_all_the_same(pod, signed, signer, stranger, trust):
    code, told = pod.fetch(URI)
    assert code == 0
    (pod.work / commands.SOURCE_NOTE).unlink()
    trust(key=stranger.public)

    refused(pod, digest=told.source.digest)


def test_s10_a_finished_artifact_is_not_taken_on_another_keys_word(pod, signed, signer, stranger, trust):
    """A Job that runs again after the Secret was replaced goes by the keys that are trusted now."""
    manifest = write_artifact(pod.store, "artifacts/abcd2345")
    by_us = manifest.source.model_copy(update={"signed_by": signer.fingerprint})
    note = pod.store / "artifacts" / "abcd2345" / "manifest.json"
    note.write_text(manifest.model_copy(update={"source": by_us}).to_json())
    trust(key=signer.public)
    assert pod.fetch(URI, **VERIFIED)[1].reason is Reason.ARTIFACT_REUSED

    trust(key=stranger.public)
    assert pod.fetch(URI, **VERIFIED)[1].reason is Reason.SOURCE_SIGNATURE_INVALID


def test_the_keys_are_mounted_into_the_fetch_container_alone():
    spec = make_spec({"model": {"uri": "s3://m/d/", **VERIFIED, "refresh": {"interval": "1h"}}})
    intent = JobIntent(spec=spec, revision="abcd2345", recipe_key="abcd2345", generation=1)

    pod = make_job(OWNER, intent, POLICY)["spec"]["template"]["spec"]
    look = make_refresh_job(OWNER, spec.model, POLICY)["spec"]["template"]["spec"]

    assert {"name": "verification", "secret": {"secretName": "keys", "defaultMode": 0o440}} in pod["volumes"]
    mounts = {
        c["name"]: [m["mountPath"] for m in c["volumeMounts"]] for c in (*pod["initContainers"], *pod["containers"])
    }
    assert "/var/run/pilotfish/verification" in mounts.pop("fetch")
    assert not any("verification" in path for paths in mounts.values() for path in paths)
    assert "verification" not in json.dumps(look)


def test_the_same_check_in_a_shell(signed_once, signer, stranger, tmp_path):
    manifest = tmp_path / "digits.yaml"
    model = {"uri": f"file://{signed_once}", **VERIFIED}
    manifest.write_text(
        yaml.safe_dump({"kind": "ModelDeployment", "metadata": {"name": "d"}, "spec": {"model": model}})
    )
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "key.pem").write_bytes(stranger.public)
    command = ["optimize", "-f", str(manifest), "--out", str(tmp_path / "out")]

    without = CliRunner().invoke(app, command)
    wrong = CliRunner().invoke(app, [*command, "--public-keys", str(keys)])

    assert without.exit_code == wrong.exit_code == 1
    assert "--public-keys" in without.output
    assert "does not hold" in " ".join(wrong.output.split())
    assert not (tmp_path / "out" / "artifacts").exists()
