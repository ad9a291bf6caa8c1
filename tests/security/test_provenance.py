"""From the source's digest to the pod: printed from live objects, and broken links are told.

The cluster is the simulated one; its nodes leave in a pod's status what a kubelet leaves there.
"""

import json
from contextlib import asynccontextmanager
from copy import deepcopy
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from pilotfish import names
from pilotfish.api.report import OptimizerReason, Outcome, SourceRecord, TerminationMessage
from pilotfish.cli import report_source, session
from pilotfish.cli.main import app
from pilotfish.core.objects import label_of, name_of, ref_of
from pilotfish.core.scope import read_records
from pilotfish.core.testimony import witnessed
from support.builders import POLICY, make_result, make_spec
from support.specs import make_wanted
from support.stores import write_artifact
from support.world import World

KEY = "sha256:" + "9" * 64
FETCHED = "sha256:" + "c" * 64
RUN = "docker.io/pilotfish/optimizer-torch@sha256:" + "1" * 64
TRITON = "docker.io/pilotfish/triton-cpu@sha256:" + "2" * 64


def said(**more):
    return {"outcome": "Succeeded", "reason": "Succeeded", "message": "done", **more}


def job_pod(*, fetched=None, message=None):
    """The pod of an optimization Job as a kubelet leaves it."""
    images = POLICY.images

    def ended(name, text, **more):
        return {"name": name, "state": {"terminated": {"exitCode": 0, "message": text}}, **more}

    return {
        "spec": {
            "initContainers": [{"name": "fetch", "image": images.optimizer_torch}],
            "containers": [{"name": "optimize", "image": images.optimizer_torch}],
        },
        "status": {
            "initContainerStatuses": [ended("fetch", "" if fetched is None else json.dumps(fetched))],
            "containerStatuses": [ended("optimize", (message or make_result()).to_json(), imageID=RUN)],
        },
    }


class TestTestimony:
    """The container that opens the model may run the model's code: what its word is worth."""

    FETCH = said(source={"digest": FETCHED, "bytes": 7, "signedBy": KEY})

    def test_the_source_is_what_fetch_saw(self):
        lied = make_result().model_copy(update={"source": SourceRecord(digest=KEY, format="ONNX", bytes=1)})
        source = witnessed(lied, job_pod(fetched=self.FETCH)).source
        assert source == SourceRecord(digest=FETCHED, format="ONNX", bytes=7, signed_by=KEY)

    def test_a_signature_that_fetch_did_not_see_is_none(self):
        lied = make_result().model_copy(update={"source": SourceRecord(digest=FETCHED, bytes=7, signed_by=KEY)})
        told = said(source={"digest": FETCHED, "bytes": 7})
        assert witnessed(lied, job_pod(fetched=told)).source.signed_by is None

    @pytest.mark.parametrize("fetched", [None, said(), said(outcome="Failed", reason="InternalError")])
    def test_without_a_word_of_fetch_the_result_stands(self, fetched):
        assert witnessed(make_result(), job_pod(fetched=fetched)).source == make_result().source

    def test_the_image_is_what_the_pod_ran(self):
        told = TerminationMessage.model_validate(
            {**make_result().to_wire(), "optimizer": {"version": "0.1.0", "image": "evil", "imageId": "evil"}}
        )
        made = witnessed(told, job_pod()).optimizer
        assert (made.version, made.image, made.image_id) == ("0.1.0", POLICY.images.optimizer_torch, RUN)

    def test_an_artifact_of_another_job_is_not_this_images(self):
        told = make_result().model_copy(update={"reason": OptimizerReason.ARTIFACT_REUSED})
        reused = TerminationMessage.model_validate({**told.to_wire(), "optimizer": {"version": "0.0.9"}})
        assert witnessed(reused, job_pod()).optimizer.to_wire() == {"version": "0.0.9"}
        assert witnessed(TerminationMessage.model_validate(told.to_wire()), job_pod()).optimizer is None


@pytest.fixture(scope="module")
def settled():
    world = World()
    world.submit(make_wanted("v1", gpus=0, replicas=2))
    world.settle()
    serve(world)
    return world


@pytest.fixture
def world(settled):
    return deepcopy(settled)


def serve(world):
    """What a kubelet writes about the containers of Triton pods."""

    def change(pod):
        told = json.loads(pod["spec"]["initContainers"][0]["env"][0]["value"])
        message = TerminationMessage(
            outcome=Outcome.SUCCEEDED,
            reason=OptimizerReason.SUCCEEDED,
            message=f"installed 3 files of {told['digest']}",
        ).to_json()
        ended = {"terminated": {"exitCode": 0, "message": message}}
        pod["status"]["initContainerStatuses"] = [{"name": "install", "state": ended}]
        for status in pod["status"]["containerStatuses"]:
            status["imageID"] = TRITON

    for pod in triton_pods(world):
        world.cluster.change_now("Pod", name_of(pod), change)


def triton_pods(world):
    return [p for p in world.cluster.find("Pod", {}) if label_of(p, names.COMPONENT_LABEL) == "triton"]


@pytest.fixture
def run(world, monkeypatch):
    """`pilotfish provenance` over the world; `files` are what a pod in its claim would print."""
    files = SimpleNamespace(text=b"")

    class Cluster:
        def __getattr__(self, name):
            return getattr(world.cluster, name)

        async def create(self, body, *, manager):
            files.asked = body["spec"]["containers"][0]["command"][-1]
            return world.cluster.create_now({**body, "status": {"phase": "Succeeded"}})

        async def log(self, ref, *, container, limit):
            return files.text

    @asynccontextmanager
    async def open_cluster(place):
        yield Cluster(), place.namespace or "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    monkeypatch.setattr(report_source, "POLL_SECONDS", 0.001)

    def run(*arguments):
        return CliRunner().invoke(app, ["provenance", "digits", "-n", "team", *arguments])

    run.files = files
    return run


def chain(run, *arguments):
    done = run("-o", "json", *arguments)
    assert done.exit_code == 0, done.output
    (only,) = json.loads(done.stdout)["revisions"]
    return only


def record_of(world):
    (record,) = read_records(world.observed()).values()
    return record


def test_s33_every_link_from_the_source_to_the_pods(run, world):
    found, record = chain(run), record_of(world)

    assert (found["revision"], found["role"]) == (record.revision, "stable")
    assert found["source"]["uri"] == "s3://models/digits/v1/"
    assert found["source"]["digest"] == record.source.digest
    assert found["optimizer"]["image"] == POLICY.images.optimizer_torch
    assert found["optimizer"]["job"] == f"digits-{record.revision}-optimize"
    assert found["optimizer"]["recipeKey"] == record.recipe_key
    assert found["artifact"]["digest"] == record.artifact.digest
    assert found["artifact"]["place"] == f"pvc://digits-store/{record.artifact.path}"
    assert [pod["installed"] for pod in found["pods"]] == [record.artifact.digest] * 2
    assert {pod["name"] for pod in found["pods"]} == {name_of(pod) for pod in triton_pods(world)}
    assert {pod["imageId"] for pod in found["pods"]} == {TRITON}
    assert found["broken"] == []


def test_s33_it_can_be_read_by_people_in_full(run, world):
    done = run()

    assert done.exit_code == 0, done.output
    record = record_of(world)
    for word in (
        record.source.digest,
        record.artifact.digest,
        record.recipe_key,
        POLICY.images.optimizer_torch,
        TRITON,
    ):
        assert word in done.output, word


def test_s33_what_made_it_is_known_when_the_job_is_gone(run, world):
    for job in world.cluster.find("Job", {}):
        world.cluster.delete_now(ref_of(job))

    found = chain(run)

    assert found["optimizer"]["image"] == POLICY.images.optimizer_torch
    assert "job" not in found["optimizer"]


def test_s33_a_record_of_before_it_was_written_down_is_read_from_the_job(run, world):
    (record,) = world.cluster.find("ControllerRevision", {})
    world.cluster.change_now("ControllerRevision", name_of(record), lambda body: body["data"].pop("optimizer"))

    assert chain(run)["optimizer"]["image"] == POLICY.images.optimizer_torch


OTHER = "sha256:" + "e" * 64


def _installs_another(body):
    env = body["spec"]["initContainers"][0]["env"][0]
    env["value"] = json.dumps({**json.loads(env["value"]), "digest": OTHER})


def _runs_another(body):
    body["spec"]["containers"][0]["image"] = "evil/triton:1"


def _never_checked(body):
    body["status"]["initContainerStatuses"] = []


def _checked_another(body):
    ended = {"terminated": {"exitCode": 0, "message": json.dumps(said(message=f"installed 3 files of {OTHER}"))}}
    body["status"]["initContainerStatuses"] = [{"name": "install", "state": ended}]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_installs_another, f"installs {OTHER}, the record has"),
        (_runs_another, "runs evil/triton:1, the record has"),
        (_never_checked, "nothing says that it checked its artifact"),
        (_checked_another, "nothing says that it checked its artifact"),
    ],
)
def test_s33_a_pod_that_does_not_belong_is_told(run, world, change, says):
    pod = triton_pods(world)[0]
    world.cluster.change_now("Pod", name_of(pod), change)

    done = run()

    assert done.exit_code == 1
    assert f"pod {name_of(pod)} " in done.stderr
    assert says in done.stderr
    assert json.loads(run("-o", "json").stdout)["revisions"][0]["broken"]


def test_s33_another_job_under_the_name_is_told(run, world):
    def change(job):
        for one in (*job["spec"]["template"]["spec"]["initContainers"], *job["spec"]["template"]["spec"]["containers"]):
            for env in one["env"]:
                if env["name"] == "PILOTFISH_JOB":
                    env["value"] = json.dumps({**json.loads(env["value"]), "recipeKey": "zzzzzzzz"})

    (job,) = [job for job in world.cluster.find("Job", {}) if name_of(job).endswith("-optimize")]
    world.cluster.change_now("Job", name_of(job), change)

    assert "was told recipe zzzzzzzz" in run().stderr


def test_s33_a_pin_that_does_not_hold_is_told(run, world):
    def change(body):
        body["data"]["intent"]["model"]["digest"] = OTHER

    (record,) = world.cluster.find("ControllerRevision", {})
    world.cluster.change_now("ControllerRevision", name_of(record), change)

    assert f"the spec pins the source {OTHER}" in run().stderr


def test_s33_the_manifest_adds_files_and_packages(run, world, tmp_path):
    record = record_of(world)
    manifest = write_artifact(tmp_path, record.artifact.path)
    environment = manifest.environment.model_copy(update={"packages": {"onnx": "1.22", "pilotfish": "0.1.0"}})
    files = [{"path": "digits/1/model.onnx", "bytes": 3, "sha256": "f" * 64}]
    update = {"artifact": record.artifact, "source": record.source, "environment": environment}
    wire = manifest.model_copy(update=update).to_wire()
    run.files.text = json.dumps({**wire, "files": files}).encode()

    found = chain(run, "--manifest")

    assert run.files.asked == f"/store/{record.artifact.path}/manifest.json"
    assert found["optimizer"]["packages"] == {"onnx": "1.22", "pilotfish": "0.1.0"}
    assert found["optimizer"]["version"] == "0.1.0"
    assert found["artifact"]["files"] == {"digits/1/model.onnx": "sha256:" + "f" * 64}


def test_s33_a_manifest_of_something_else_is_told(run, world, tmp_path):
    manifest = write_artifact(tmp_path, "artifacts/other", source=OTHER)
    run.files.text = manifest.to_json().encode()

    done = run("--manifest")

    assert done.exit_code == 1
    assert f"the manifest has the source {OTHER}" in done.stderr
    assert f"the manifest is of {manifest.artifact.digest}" in done.stderr


@pytest.mark.parametrize("text", [b"", b"{}", b"cat: no such file"])
def test_s33_what_is_no_manifest_is_one_sentence(run, text):
    run.files.text = text

    done = run("--manifest")

    assert done.exit_code == 1
    assert "is no manifest that this version reads" in done.stderr


def test_s33_an_unknown_revision_and_an_object_without_an_artifact(run, world):
    assert "is not on record" in run("--revision", "zzzzzzzz").stderr

    for record in world.cluster.find("ControllerRevision", {}):
        world.cluster.delete_now(ref_of(record))
    done = run()
    assert done.exit_code == 1
    assert "has no artifact yet" in done.stderr


def test_a_signature_asked_for_later_is_another_recipe_so_that_it_is_checked():
    plain = make_spec({"model": {"uri": "s3://m/d/"}})
    signed = make_spec({"model": {"uri": "s3://m/d/", "verification": {"publicKeySecret": "keys"}}})
    assert names.recipe_key(plain) != names.recipe_key(signed)
    assert names.revision_hash(plain) != names.revision_hash(signed)
