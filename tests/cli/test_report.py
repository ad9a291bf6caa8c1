"""`pilotfish report`: of a file and of a ModelDeployment, with and without the right to make a pod."""

import json
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import boto3
import kubernetes_validate
import pytest
from typer.testing import CliRunner

from pilotfish.api.report import Report
from pilotfish.cli import report_source, session
from pilotfish.cli.main import app
from pilotfish.cli.report_view import number, safe
from pilotfish.core.objects import label_of, name_of, ref_of
from pilotfish.names import NAME_LABEL, pod_selector
from pilotfish.ports import ClusterError, Forbidden
from support.reports import candidate, make_report, make_wire
from support.s3_server import s3_server
from support.specs import make_wanted
from support.world import World

NAMES = (
    "winner",
    "onnx-int8-static",
    "Refused",
    "relative error 0.31 is above 0.05",
    "distill",
    "QLinearConv",
    "/features/0/Conv",
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(make_report().to_json(indent=2))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


class TestFile:
    def test_everything_is_shown(self, file):
        done = run("--file", file)
        assert done.exit_code == 0, done.output
        for word in (*NAMES, "best by Latency", "the batch dimension was free", "accuracy", "0.95 before, 0.97 after", "benchmark",
                     "profile/winner.trace.json.gz", "the profiler ended with exit code 1", "1.4 times the throughput", "the server did not load it",
                     "exports/model.tflite", "the operator Loop has no counterpart", "kept in higher precision",
                     "largest completeness error: 0.0002", "1, 0", "its attributions are not finite numbers"):  # fmt: skip
            assert word in done.output, word

    @pytest.mark.parametrize("depth", ["artifact", "store"])
    def test_a_folder_does(self, tmp_path, depth):
        folder = tmp_path / "artifacts" / "abcd2345"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(make_report().to_json())
        assert run("--file", folder if depth == "artifact" else tmp_path).exit_code == 0

    def test_for_machines_it_is_the_report(self, file):
        done = run("--file", file, "-o", "json")
        assert Report.model_validate_json(done.stdout) == make_report()

    def test_as_a_page(self, file, tmp_path):
        done = run("--file", file, "--html", tmp_path / "page.html")
        assert done.exit_code == 0, done.output
        assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")

    def test_in_the_browser(self, file, monkeypatch):
        shown = []
        monkeypatch.setattr("typer.launch", shown.append)
        assert run("--file", file, "--open").exit_code == 0
        assert Path(shown[0]).read_text().startswith("<!doctype html>")

    def test_a_hostile_name_does_not_reach_the_terminal_as_code(self, tmp_path):
        name = "\x1b]0;owned\x07\x1b[31mred[/nothing][bold]\u202e\r\nsecond :warning:"
        wire = make_wire(
            candidates=[candidate("onnx-fp32", reason=name)], winner="onnx-fp32", name=name, notes=[name], why=name
        )
        (tmp_path / "report.json").write_text(json.dumps(wire))
        done = run("--file", tmp_path)
        assert done.exit_code == 0, done.output
        assert not {c for c in done.output if not c.isprintable()} - {"\n"}
        assert "[31mred[/nothing][bold]" in done.output
        assert ":warning:" in done.output

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [("{", "is no report: Invalid JSON"), ("{}", "is no report: name: Field required"), (None, "No such file")],
    )
    def test_what_is_no_report_is_one_sentence(self, tmp_path, text, sentence):
        if text is not None:
            (tmp_path / "report.json").write_text(text)
        done = run("--file", tmp_path / "report.json")
        assert done.exit_code == 1
        assert sentence in done.stderr.replace("\n", " ")

    def test_several_reports_below_a_folder_are_named(self, tmp_path):
        for key in ("a", "b"):
            (tmp_path / "artifacts" / key).mkdir(parents=True)
            (tmp_path / "artifacts" / key / "report.json").write_text("{}")
        assert "2 reports" in run("--file", tmp_path).stderr

    @pytest.mark.parametrize("arguments", [(), ("digits", "--file", "x")])
    def test_one_of_both_must_be_given(self, arguments):
        assert run(*arguments).exit_code == 2


@pytest.fixture(scope="module")
def world():
    world = World()
    world.submit(make_wanted("v1", gpus=0))
    world.settle()
    return world


@pytest.fixture
def played(world, monkeypatch):
    """The world's cluster, with a node that runs pods which print a file."""
    told = SimpleNamespace(
        text=make_report().to_json(indent=2).encode(), phase="Succeeded", refusal=None, pods=[], polls=[], containers=[]
    )
    fake = world.cluster

    class Cluster:
        def __getattr__(self, name):
            return getattr(fake, name)

        async def create(self, body, *, manager):
            if told.refusal is not None:
                raise told.refusal
            told.pods.append((body, manager))
            return fake.create_now(body)

        async def get(self, ref):
            if ref.kind == "Pod" and fake.look("Pod", ref.name) is not None:
                told.polls.append(ref.name)
                phase = "Pending" if len(told.polls) < 3 else told.phase
                fake.change_now(
                    "Pod",
                    ref.name,
                    lambda body: body.update(status={"phase": phase, "containerStatuses": told.containers}),
                )
            return await fake.get(ref)

        async def log(self, ref, *, container, limit):
            assert (container, limit >= 4096) == ("report", True)
            return told.text

    @asynccontextmanager
    async def open_cluster(place):
        yield Cluster(), place.namespace or "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    monkeypatch.setattr(report_source, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(report_source, "WAIT_SECONDS", 0.5)
    return told


@pytest.fixture
def bucket(monkeypatch):
    """A client of an S3 server, whose keys are in the environment."""
    with s3_server() as url:
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
        for name, value in (keys | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="artifacts")
        yield client


class TestCluster:
    def test_a_pod_reads_it_and_is_gone(self, played, world):
        done = run("digits", "-n", "team")
        assert done.exit_code == 0, done.output
        for word in NAMES:
            assert word in done.output
        ((pod, manager),) = played.pods
        assert manager == "pilotfish-cli"
        assert world.cluster.look("Pod", name_of(pod)) is None

    def test_the_pod_is_harmless_and_nobody_takes_it_for_one_of_his(self, played, world):
        run("digits", "-n", "team")
        ((pod, _),) = played.pods
        kubernetes_validate.validate(pod, "1.30", strict=True)
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert not pod["spec"]["automountServiceAccountToken"]
        (volume,) = pod["spec"]["volumes"]
        assert volume["persistentVolumeClaim"] == {"claimName": "digits-store", "readOnly": True}
        assert container["volumeMounts"] == [{"name": "store", "mountPath": "/store", "readOnly": True}]
        assert label_of(pod, NAME_LABEL) is None
        assert not pod["metadata"]["labels"].items() >= pod_selector("digits").items()
        assert not any(owner.get("controller") for owner in pod["metadata"]["ownerReferences"])
        place = world.cluster.look("ModelDeployment", "digits")["status"]["optimization"]["report"]
        assert container["command"] == ["cat", f"/store/{place.removeprefix('pvc://digits-store/')}"]
        deployment = next(iter(world.cluster.find("Deployment", {})))
        assert container["image"] == deployment["spec"]["template"]["spec"]["initContainers"][0]["image"]

    def test_the_operator_does_not_mind_the_pod(self, played, world):
        run("digits", "-n", "team")
        ((pod, _),) = played.pods
        world.cluster.create_now(pod)
        before = world.cluster.changes
        world.reconcile()
        assert world.cluster.changes == before
        world.cluster.delete_now(ref_of(world.cluster.look("Pod", name_of(pod))))

    def test_without_the_right_the_summary_is_shown_and_what_is_missing(self, played):
        played.refusal = Forbidden('pods is forbidden: User "eve" cannot create resource "pods"')
        done = run("digits", "-n", "team")
        assert done.exit_code == 1
        assert "onnx-fp32" in done.stdout
        assert "which you may not make here" in done.stderr
        assert 'User "eve" cannot create' in done.stderr

    def test_the_summary_alone_makes_no_pod(self, played):
        done = run("digits", "-n", "team", "--summary")
        assert done.exit_code == 0, done.output
        assert "pvc://digits-store/artifacts/" in done.stdout
        assert played.pods == []
        assert json.loads(run("digits", "--summary", "-o", "json").stdout)["winner"] == "onnx-fp32"

    @pytest.mark.parametrize(
        ("phase", "text", "sentence"),
        [
            ("Failed", b"cat: /store/x: No such file or directory\n", "cat: /store/x: No such file"),
            ("Pending", b"", "did not end within 0.5 s"),
            ("Succeeded", b"<html>", "is no report"),
        ],
    )
    def test_a_report_that_cannot_be_had_is_told_with_the_summary_and_no_pod_stays(
        self, played, world, phase, text, sentence
    ):
        played.phase, played.text = phase, text
        done = run("digits", "-n", "team")
        assert done.exit_code == 1
        assert sentence in done.stderr.replace("\n", " ")
        assert "onnx-fp32" in done.stdout
        assert world.cluster.look("Pod", name_of(played.pods[0][0])) is None

    def test_a_pod_that_cannot_start_is_not_waited_for(self, played, world, monkeypatch):
        monkeypatch.setattr(report_source, "PATIENCE_SECONDS", 0.01)
        monkeypatch.setattr(report_source, "WAIT_SECONDS", 60)
        waiting = {"reason": "ImagePullBackOff", "message": "not found"}
        played.phase = "Pending"
        played.containers = [{"name": "report", "image": "x/optimizer:1", "state": {"waiting": waiting}}]
        done = run("digits", "-n", "team")
        assert done.exit_code == 1
        said = done.stderr.replace("\n", " ")
        assert 'Image "x/optimizer:1" of the pod that reads the report cannot be pulled' in said
        assert "kubectl" not in said
        assert world.cluster.look("Pod", name_of(played.pods[0][0])) is None

    def test_trouble_with_the_cluster_on_the_way_is_told_with_the_summary(self, played):
        played.refusal = ClusterError("exceeded quota: pods")
        done = run("digits", "-n", "team")
        assert (done.exit_code, "exceeded quota: pods" in done.stderr) == (1, True)
        assert "onnx-fp32" in done.stdout

    def test_one_revision(self, played, world):
        (record,) = world.cluster.find("ControllerRevision", {})
        revision = record["data"]["revision"]
        assert run("digits", "--revision", revision).exit_code == 0
        done = run("digits", "--revision", "nothing2")
        assert (done.exit_code, f"on record: {revision}" in done.stderr) == (1, True)

    def test_a_report_in_a_bucket_is_read_with_the_keys_of_the_shell(self, played, world, bucket):
        place = world.cluster.look("ModelDeployment", "digits")["status"]["optimization"]["report"]
        there = place.replace("pvc://digits-store/", "s3://artifacts/team/")

        def move(body):
            body["status"]["optimization"]["report"] = there

        world.cluster.change_now("ModelDeployment", "digits", move)
        missing = run("digits")
        assert (missing.exit_code, played.pods) == (1, [])
        assert f"nothing at {there}" in missing.stderr.replace("\n", " ")
        bucket.put_object(Bucket="artifacts", Key=there.removeprefix("s3://artifacts/"), Body=make_report().to_json())
        done = run("digits")
        assert done.exit_code == 0, done.output
        assert all(word in done.output for word in NAMES)
        assert played.pods == []
        world.reconcile()


def test_before_there_is_an_artifact(monkeypatch):
    world = World()
    world.submit(make_wanted("v1", gpus=0))
    world.reconcile()

    @asynccontextmanager
    async def open_cluster(_place):
        yield world.cluster, "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    done = run("digits")
    assert done.exit_code == 1
    assert "has no artifact yet: Job digits-" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0123, "0.0123"), (12345.6, "12,346"), (1e12, "1e+12"), (float("nan"), "nan")]
)
def test_figures(value, text):
    assert number(value) == text


def test_safe_keeps_letters_of_all_scripts():
    assert safe("größe 模型\tx\x1b") == "größe 模型 x\N{REPLACEMENT CHARACTER}"
