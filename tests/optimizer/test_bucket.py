"""Artifacts in a real S3 API: made once, found by every namespace, never taken by half, removed when nobody uses them."""

import errno
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import numpy as np
import pytest
from azure.storage.blob import BlobServiceClient
from gcp_storage_emulator.server import create_server
from safetensors.numpy import load_file
from typer.testing import CliRunner

from pilotfish.api.job_input import InstallInput, JobInput, RefreshInput, VerifyInput
from pilotfish.api.report import Manifest
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.cli.main import app
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.store import artifacts, cleaning
from pilotfish.optimizer.store.keys import artifact_key
from pilotfish.optimizer.store.references import GRACE, Owner, Reference, References, read_all, refer, write_references
from pilotfish.optimizer.store.shelf import open_shelf, told
from support.azure import running_azurite
from support.onnx_models import save_mlp
from support.s3_server import s3_server
from support.triton import free_port

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
URI = "s3://artifacts/team"


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture
def s3(server):
    """A client of a server with one empty bucket."""
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    client.create_bucket(Bucket="artifacts")
    yield client
    for item in client.list_objects_v2(Bucket="artifacts").get("Contents", ()):
        client.delete_object(Bucket="artifacts", Key=item["Key"])


@dataclass
class Place:
    """One bucket: what lies in it, and Jobs of many ModelDeployments that use it."""

    s3: object
    server: str
    pod: object
    made: Path

    @property
    def shelf(self):
        return open_shelf(URI, KEYS | {"AWS_ENDPOINT_URL": self.server})

    def names(self, prefix=""):
        found = self.s3.list_objects_v2(Bucket="artifacts", Prefix=f"team/{prefix}").get("Contents", ())
        return {item["Key"].removeprefix("team/") for item in found}

    def told(self, *, namespace="a", name="m", keep=None, **more):
        told = {
            "name": name,
            "revision": "abcd2345",
            "recipeKey": "abcd2345",
            "model": {"uri": "pvc://claim/model.onnx"},
        }
        place = {"uri": URI, "namespace": namespace, "name": name, "uid": f"uid-{namespace}"}
        return JobInput.model_validate(told | {"bucket": place, "keep": keep} | more)

    def pod_of(self, **told):
        """A fresh pod: its volumes are empty, but for the source that is mounted."""
        for folder in ("work", "store", "order"):
            shutil.rmtree(self.pod.folder / folder, ignore_errors=True)
        secret = self.pod.run / "store-credentials"
        secret.mkdir(exist_ok=True)
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": self.server}).items():
            (secret / name).write_text(value)
        self.pod.environment.setenv("PILOTFISH_JOB", self.told(**told).to_json())

    def job(self, **told):
        """All three containers; the result, and whether a model was optimized.

        What is optimized is `made`, once for all tests: the bucket does not look into it.
        """
        self.pod_of(**told)
        assert self.pod.command("fetch")[0] == 0
        code, optimized = self.pod.command("optimize") if self.is_reused else self.optimize()
        assert code == 0, optimized.message
        code, told = self.pod.command("publish")
        assert code == 0, told.message
        return told, optimized.artifact is not None

    @property
    def is_reused(self):
        return (self.pod.work / "reused").exists()

    def optimize(self):
        shutil.copytree(self.made, self.pod.store / "artifacts" / self.made.name)
        return 0, Manifest.model_validate_json((self.made / "manifest.json").read_text()).result

    def install(self, told, name="m", **more):
        order = InstallInput(artifact=told.artifact.path, digest=told.artifact.digest, model=name, bucket=URI, **more)
        self.pod.environment.setenv("PILOTFISH_INSTALL", order.to_json())
        return self.pod.command("install")


@pytest.fixture
def place(s3, server, pod, made):
    save_mlp(pod.source / "model.onnx")
    return Place(s3, server, pod, made)


def test_made_once_and_found_in_every_namespace(place):
    first, opened = place.job(namespace="a")
    assert opened
    assert first.reason is Reason.SUCCEEDED
    again, opened = place.job(namespace="b", name="other")
    assert not opened, "the artifact is there"
    assert again.reason is Reason.ARTIFACT_REUSED
    assert (again.artifact, again.signature, again.summary) == (first.artifact, first.signature, first.summary)
    assert place.names("refs") == {"refs/a/m/uid-a.json", "refs/b/other/uid-b.json"}
    assert len({name.split("/")[2] for name in place.names("artifacts")}) == 1
    code, told = place.install(again, name="other")
    assert code == 0, told.message
    assert (place.pod.models / "other" / "1" / "model.onnx").read_bytes()
    assert not (place.pod.models / "m").exists(), "the folder has the name of the model that is served"


def test_what_drift_is_told_against_comes_out_of_the_bucket_as_well(place):
    told, _ = place.job()
    place.pod.config.mkdir(exist_ok=True)
    (place.pod.config / "predict.pbtxt").write_text('name: "m-predict"')

    code, said = place.install(told, golden=told.artifact.golden)

    assert code == 0, said.message
    second = place.pod.models / "m-predict"
    assert (second / "config.pbtxt").read_text() == 'name: "m-predict"'
    figures = np.load(second / "1" / "golden.npz")
    inputs = load_file(place.made / "golden" / "inputs.safetensors")
    np.testing.assert_allclose(figures["input x"], inputs["x"].mean(axis=1), rtol=1e-5)
    assert len(figures["output y"]) == len(inputs["x"])

    code, said = place.install(told, golden="sha256:" + "b" * 64)
    assert (code, said.reason) == (10, Reason.ARTIFACT_DIGEST_MISMATCH)


def test_the_record_says_where_it_lies(place):
    told, _ = place.job()
    path = told.artifact.path
    manifest = json.loads(place.shelf.read(f"{path}/manifest.json"))
    report = json.loads(place.shelf.read(f"{path}/report.json"))
    assert manifest["artifact"]["path"] == manifest["result"]["artifact"]["path"] == report["artifact"]["path"] == path
    here = {file.relative_to(place.made).as_posix() for file in place.made.rglob("*") if file.is_file()}
    assert {name.removeprefix(f"{path}/") for name in place.names("artifacts")} == here


def test_other_bytes_at_the_same_address_are_another_artifact(place):
    first, _ = place.job(namespace="a")
    save_mlp(place.pod.source / "model.onnx", seed=7)
    second, opened = place.job(namespace="b")
    assert opened
    assert first.artifact.path.split("/")[1] != second.artifact.path.split("/")[1]


def test_a_pinned_source_that_is_known_is_not_even_fetched(place):
    first, _ = place.job(namespace="a")
    (place.pod.source / "model.onnx").unlink()
    model = {"uri": "pvc://elsewhere/model.onnx", "digest": first.source.digest}
    again, opened = place.job(namespace="b", model=model)
    assert not opened
    assert again.artifact == first.artifact


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"name": "other"}, True),
        ({"namespace": "b"}, True),
        ({"revision": "other"}, True),
        ({"recipeKey": "other"}, True),
        ({"model": {"uri": "s3://elsewhere/m.onnx"}}, True),
        ({"model": {"uri": "pvc://claim/model.onnx", "credentials": {"secretName": "x"}}}, True),
        ({"model": {"uri": "pvc://claim/model.onnx", "verification": {"publicKeySecret": "x"}}}, True),
        ({"optimization": {"deadline": "2h"}}, True),
        ({"optimization": {"precisions": ["FP32"]}}, True),  # the default, written out
        ({"optimization": {"precisions": ["FP32", "INT8"]}}, False),
        ({"model": {"uri": "pvc://claim/model.onnx", "trust": "Executable"}}, False),
        ({"serving": {"maxBatchSize": 4}}, False),
        ({"serving": {"gpus": 1}}, False),
        ({"serving": {"cpuThreads": 2}}, False),
    ],
)
def test_what_names_an_artifact(change, same):
    told, digests = Place(None, None, None, None).told, {"source": "sha256:" + "a" * 64}
    assert (artifact_key(told(**change), digests) == artifact_key(told(), digests)) is same
    assert artifact_key(told(**change), {"source": "sha256:" + "b" * 64}) != artifact_key(told(), digests)
    assert artifact_key(told(**change), digests | {"samples": digests["source"]}) != artifact_key(told(), digests)


def test_a_half_upload_is_no_artifact_and_the_next_try_cleans_it(place, monkeypatch):
    uploads = []
    upload = artifacts.Shelf.upload

    def breaks_off(shelf, source, path):
        uploads.append(path)
        if len(uploads) == 3:
            raise OptimizerError(Reason.STORE_UNREACHABLE, "the line is dead")
        upload(shelf, source, path)

    monkeypatch.setattr(artifacts.Shelf, "upload", breaks_off)
    place.pod_of()
    assert place.pod.command("fetch")[0] == 0
    place.optimize()
    assert place.pod.command("publish")[0] == 1
    half = place.names("artifacts")
    assert half
    assert not any(name.endswith("manifest.json") for name in half)
    told, opened = place.job()
    assert opened, "nothing was taken from the half"
    assert not half & place.names("artifacts"), "the half is gone"
    assert place.install(told)[0] == 0


def test_two_that_make_it_at_once_do_not_mix(place):
    place.pod_of(namespace="a")
    assert place.pod.command("fetch")[0] == 0
    place.optimize()
    for folder in ("store", "order"):
        (place.pod.folder / folder).rename(place.pod.folder / f"{folder}-of-a")
    second, opened = place.job(namespace="b")
    assert opened, "the first one is not there yet"
    place.pod_of(namespace="a")
    for folder in ("store", "order"):
        (place.pod.folder / f"{folder}-of-a").rename(place.pod.folder / folder)
    code, first = place.pod.command("publish")
    assert code == 0, first.message
    assert first.artifact.path != second.artifact.path
    assert [place.install(told)[0] for told in (first, second)] == [0, 0]


def test_what_arrived_short_is_no_artifact(place, monkeypatch):
    upload = artifacts.Shelf.upload

    def cuts(shelf, source, path):
        if path.endswith("model.onnx"):
            shelf.write(path, source.read_bytes()[:-1])
        else:
            upload(shelf, source, path)

    monkeypatch.setattr(artifacts.Shelf, "upload", cuts)
    place.pod_of()
    assert place.pod.command("fetch")[0] == 0
    place.optimize()
    code, told = place.pod.command("publish")
    assert (code, told.reason) == (1, Reason.STORE_UNREACHABLE)
    assert "bytes of" in told.message
    assert not any(name.endswith("manifest.json") for name in place.names("artifacts"))


def test_a_damaged_artifact_is_not_taken_and_made_beside(place):
    first, _ = place.job()
    place.shelf.write(f"{first.artifact.path}/model_repository/m/1/model.onnx", b"other bytes")
    code, told = place.install(first)
    assert (code, told.reason) == (10, Reason.ARTIFACT_DIGEST_MISMATCH)
    assert not (place.pod.models / "m").exists()
    second, opened = place.job(namespace="b")
    assert opened
    assert second.artifact.path.split("/")[1] == first.artifact.path.split("/")[1]
    assert place.install(second)[0] == 0
    place.shelf.remove_folder(second.artifact.path)
    assert place.install(second)[1].reason is Reason.ARTIFACT_MISSING


def test_the_golden_set_is_brought_to_where_it_is_verified(place):
    told, _ = place.job()
    order = {
        "model": "m",
        "host": "h",
        "pods": 1,
        "artifact": told.artifact,
        "signature": told.signature,
        "bucket": URI,
    }
    place.pod.environment.setenv("PILOTFISH_VERIFY", VerifyInput(**order).to_json())
    shutil.rmtree(place.pod.store)
    code, message = place.pod.command("golden")
    assert code == 0, message.message
    golden = place.pod.store / told.artifact.path / "golden"
    assert folder_digest(hash_folder(golden)) == told.artifact.golden


def test_the_last_look_is_remembered_in_the_bucket(place):
    place.pod_of()
    order = RefreshInput.model_validate({"name": "m", "uri": "pvc://claim/model.onnx", "bucket": place.told().bucket})
    place.pod.environment.setenv("PILOTFISH_REFRESH", order.to_json())
    assert place.pod.command("refresh")[1].look.changed
    shutil.rmtree(place.pod.store)
    code, told = place.pod.command("refresh")
    assert (code, told.look.changed) == (0, False)
    assert not (place.pod.store / "sources" / told.source.digest.removeprefix("sha256:")).exists(), "nothing was read"
    save_mlp(place.pod.source / "model.onnx", seed=7)
    assert place.pod.command("refresh")[1].look.changed


def test_the_command_line_lists_and_prunes_the_bucket(place, monkeypatch):
    first, _ = place.job()
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": place.server}).items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        done = CliRunner().invoke(app, ["artifacts", *arguments, "--store", URI, "-o", "json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    (row,) = run("list")
    assert (row["path"], row["usedBy"], row["state"]) == (first.artifact.path, ["a/m"], "Whole")
    assert run("prune", "--older-than", "0s", "--no-dry-run")["removals"] == []
    order = RefreshInput.model_validate({"name": "m", "uri": "pvc://claim/model.onnx", "bucket": place.told().bucket})
    place.pod.environment.setenv("PILOTFISH_REFRESH", order.to_json())
    assert place.pod.command("refresh")[0] == 0
    assert run("prune", "--older-than", "0s", "--no-dry-run", "--gone", "a/m")["bytes"] == row["bytes"]
    assert place.names() == set()


@pytest.mark.parametrize(
    ("bucket", "keys", "reason"),
    [
        ("s3://nowhere/team", KEYS, Reason.STORE_NOT_FOUND),
        (URI, KEYS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, Reason.STORE_UNREACHABLE),
    ],
)
def test_a_bucket_that_cannot_be_written_is_told_before_the_work(place, bucket, keys, reason, monkeypatch):
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    told = place.told().model_dump(mode="json", by_alias=True)
    place.pod_of(bucket=told["bucket"] | {"uri": bucket})
    for name, value in keys.items():
        (place.pod.run / "store-credentials" / name).write_text(value)
    code, message = place.pod.command("fetch")
    assert (code, message.reason) == (1 if reason is Reason.STORE_UNREACHABLE else 10, reason)
    assert bucket in message.message
    assert not (place.pod.store / "sources").exists(), "nothing was fetched"


def test_an_artifact_that_does_not_fit_is_not_uploaded(place):
    first, _ = place.job()
    size = sum(file.bytes for file in place.shelf.files(first.artifact.path))
    save_mlp(place.pod.source / "model.onnx", seed=7)
    bucket = place.told().bucket.to_wire()
    place.pod_of(keep=[first.artifact.path], bucket=bucket | {"maxBytes": int(size * 1.5)})
    assert place.pod.command("fetch")[0] == 0
    place.optimize()
    before = place.names("artifacts")
    code, told = place.pod.command("publish")
    assert (code, told.reason) == (10, Reason.STORE_FULL)
    assert "spec.storage.bucket.maxSize" in told.message
    assert place.names("artifacts") == before
    again, _ = place.job(keep=[first.artifact.path], bucket=bucket | {"maxBytes": int(size * 2.5)})
    assert again.reason is Reason.SUCCEEDED


OWNER, OTHER = Owner(name="a/m", file="refs/a/m/1.json"), Owner(name="b/m", file="refs/b/m/2.json")


def _put(shelf, path, *, whole=True):
    shelf.write(f"{path}/model_repository/m/1/model.onnx", b"x" * 10)
    if whole:
        shelf.write(f"{path}/manifest.json", b"{}")


@pytest.fixture(scope="module")
def google():
    """Google's storage with one bucket, and the keys that lead there."""
    port = free_port()
    service = create_server("127.0.0.1", port, in_memory=True, default_bucket="artifacts")
    service.start()
    yield {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
    service.stop()


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    """Azure's storage with one container, and the keys that lead there."""
    with running_azurite(tmp_path_factory.mktemp("azurite")) as blobs:
        connection = blobs.connection(blobs.endpoint)
        BlobServiceClient.from_connection_string(connection).create_container("artifacts")
        yield {"AZURE_STORAGE_CONNECTION_STRING": connection}


@pytest.fixture(params=["s3", "gs", pytest.param("az", marks=pytest.mark.soak), "folder"])
def shelf(request, tmp_path):
    """An empty place of each kind that artifacts may be kept in."""
    if request.param == "folder":
        return open_shelf(str(tmp_path / "store"), {})
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_shelf(URI, KEYS | {"AWS_ENDPOINT_URL": request.getfixturevalue("server")})
    keys = request.getfixturevalue({"gs": "google", "az": "azure"}[request.param])
    return open_shelf(f"{request.param}://artifacts/{tmp_path.name}", keys)


def test_a_shelf_keeps_files(shelf, tmp_path):
    assert shelf.folders("a") == shelf.files("a") == ()
    assert shelf.read("a/b") is None
    (tmp_path / "file").write_bytes(b"x" * 100)
    shelf.upload(tmp_path / "file", "a/b/file")
    shelf.write("a/c.json", b"1")
    shelf.write("a/c.json", b"22")
    assert shelf.folders("a") == ("b",)
    assert {file.path: file.bytes for file in shelf.files("a")} == {"a/b/file": 100, "a/c.json": 2}
    assert all(abs(file.changed - datetime.now(tz=UTC)) < timedelta(minutes=5) for file in shelf.files("a"))
    assert (shelf.read("a/c.json"), b"".join(shelf.stream("a/b/file"))) == (b"22", b"x" * 100)
    shelf.remove("a/c.json")
    shelf.remove("a/c.json")
    assert shelf.remove_folder("a") == 100
    assert shelf.remove_folder("a") == 0
    assert shelf.files("a") == ()
    with pytest.raises(OptimizerError) as caught:
        list(shelf.stream("a/b/file"))
    assert caught.value.reason is Reason.ARTIFACT_MISSING


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("The specified bucket does not exist"), Reason.STORE_NOT_FOUND),
        (PermissionError("Forbidden"), Reason.STORE_FORBIDDEN),
        (TimeoutError("slow"), Reason.STORE_UNREACHABLE),
        (OSError(errno.ENOSPC, "No space left on device"), Reason.STORE_FULL),
    ],
)
def test_what_goes_wrong_is_told_of_the_store(error, reason):
    with pytest.raises(OptimizerError) as caught, told("s3://artifacts/team"):
        raise error
    assert caught.value.reason is reason
    assert "s3://artifacts/team" in caught.value.message
    assert "spec.model" not in caught.value.message


def test_what_a_revision_used_goes_with_it_but_never_what_others_use(shelf):
    old, shared, live, new = (f"artifacts/{key}/{'0' * 16}" for key in ("old", "shared", "live", "new"))
    for path in (old, shared, live, new):
        _put(shelf, path)
        refer(shelf, OWNER, path, now=NOW)
    refer(shelf, OTHER, shared, now=NOW)
    later = NOW + GRACE
    let_go = cleaning.settle(shelf, OWNER, new, keep=[live], now=later)
    assert set(let_go) == {old, shared}
    removed = cleaning.remove_released(shelf, let_go)
    assert [(one.path, one.bytes) for one in removed] == [(old, 12)]
    assert set(artifacts.find_paths(shelf)) == {shared, live, new}
    assert {owner: set(told.paths) for owner, told in read_all(shelf).items()} == {
        OWNER.file: {live, new},
        OTHER.file: {shared},
    }


def test_nothing_goes_while_nobody_knows_what_is_in_use(shelf):
    old, new = f"artifacts/old/{'0' * 16}", f"artifacts/new/{'0' * 16}"
    for path in (old, new):
        _put(shelf, path)
        refer(shelf, OWNER, path, now=NOW)
    assert cleaning.settle(shelf, OWNER, new, keep=None, now=NOW + timedelta(days=9)) == ()
    assert cleaning.settle(shelf, OWNER, new, keep=[], now=NOW + GRACE - timedelta(seconds=1)) == (), "too young"
    assert cleaning.settle(shelf, OWNER, new, keep=[], now=NOW + GRACE) == (old,)


def test_a_reference_that_comes_between_saves_the_artifact(shelf):
    path = f"artifacts/key/{'0' * 16}"
    _put(shelf, path)
    asked = []

    def in_use(one):
        asked.append(one)
        return len(asked) > 1  # the second look, after the manifest went

    assert artifacts.take_away(shelf, path, in_use=in_use) is None
    assert shelf.read(f"{path}/manifest.json") == b"{}"


def test_references_that_cannot_be_read_stop_every_removal(shelf):
    _put(shelf, f"artifacts/key/{'0' * 16}")
    shelf.write(OTHER.file, b'{"schemaVersion": 2}')
    with pytest.raises(OptimizerError, match=r"refs/b/m/2\.json is no list of references"):
        cleaning.find_unused(shelf, older_than=timedelta(0), now=NOW)


def test_a_reference_never_leaves_the_artifacts(shelf):
    text = References(owner="x", artifacts=(Reference(path="artifacts/a", since=NOW),)).to_json()
    for bad in ("artifacts/../refs", "refs/a", "artifacts/a/../..", "artifacts"):
        shelf.write(OTHER.file, text.replace("artifacts/a", bad).encode())
        with pytest.raises(OptimizerError, match="no list of references"):
            read_all(shelf)
    write_references(shelf, OTHER, ())
    assert cleaning.settle(shelf, OWNER, "artifacts/a", keep=["../../etc", "artifacts/b"], now=NOW) == ()
    assert read_all(shelf)[OWNER.file].paths == {"artifacts/a", "artifacts/b"}
