"""What the command line says of artifacts: what the cluster knows, and what lies in a store."""

import json
import os
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from pilotfish.cli import session
from pilotfish.cli.artifacts import size_of
from pilotfish.cli.main import app
from pilotfish.optimizer.store.references import Owner, refer
from pilotfish.optimizer.store.shelf import open_shelf
from support.fake_cluster import FakeCluster
from support.rollouts import OLD, STABLE, make_deployment, records, settled
from support.stores import write_artifact

NOW = datetime.now(tz=UTC)
BUILD = "0123456789abcdef"
USED, FREE, HALF = f"artifacts/used/{BUILD}", f"artifacts/free/{BUILD}", f"artifacts/half/{BUILD}"


def run(*arguments):
    return CliRunner().invoke(app, ["artifacts", *arguments])


@pytest.fixture
def cluster(monkeypatch):
    cluster = FakeCluster()

    @asynccontextmanager
    async def open_cluster(place):
        yield cluster, place.namespace or "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    return cluster


@pytest.fixture
def store(tmp_path):
    """Three artifacts of two days ago: one in use, one not, one half made."""
    folder = tmp_path / "store"
    for path in (USED, FREE, HALF):
        write_artifact(folder, path, whole=path != HALF)
    refer(open_shelf(str(folder), {}), Owner(name="team/digits", file="refs/team/digits/1.json"), USED, now=NOW)
    aged(folder, timedelta(days=2))
    return folder


def placed(*revisions):
    """Their records, each with the place of its artifact."""
    bodies = deepcopy(records(*revisions))
    for body in bodies:
        body["data"]["artifact"]["path"] = f"artifacts/{body['metadata']['name']}"
    return bodies


def aged(folder, age):
    then = (NOW - age).timestamp()
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def paths(store):
    return {p.parent.relative_to(store).as_posix() for p in store.glob("artifacts/*/*/model_repository")}


def test_what_the_cluster_knows(cluster):
    for body in (make_deployment(**settled()), *placed(OLD, STABLE)):
        cluster.create_now(body)
    done = run("list", "digits", "-n", "team", "-o", "json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [(one["revision"], one["role"]) for one in told] == [(STABLE, "stable"), (OLD, "kept")]
    assert all(one["where"].startswith("pvc://digits-store/artifacts/") for one in told)
    table = run("list", "digits", "-n", "team").output
    assert table.splitlines()[0].split() == ["REVISION", "ROLE", "VARIANT", "SIZE", "ARTIFACT", "SOURCE", "WHERE"]
    assert len(table.splitlines()) == 3


def test_a_bucket_s_artifacts_are_said_to_lie_there(cluster):
    body = make_deployment(**settled())
    body["spec"]["storage"] = {"kind": "Bucket", "bucket": {"uri": "s3://a/team/"}}
    for one in (body, *placed(STABLE)):
        cluster.create_now(one)
    (told,) = json.loads(run("list", "digits", "-n", "team", "-o", "json").output)
    assert told["where"].startswith("s3://a/team/artifacts/")


def test_what_lies_in_a_store(store):
    told = {one["path"]: one for one in json.loads(run("list", "--store", str(store), "-o", "json").output)}
    assert {path: (one["state"], one["usedBy"]) for path, one in told.items()} == {
        USED: ("Whole", ["team/digits"]),
        FREE: ("Whole", []),
        HALF: ("Half", []),
    }
    assert told[USED]["variant"] == "onnx-fp32"
    table = run("list", "--store", str(store)).output
    assert "nobody" in table
    assert "2d ago" in table
    assert "3 artifacts, " in table


@pytest.mark.parametrize("arguments", [(), ("digits", "--store", "x")])
def test_one_of_both_is_listed(arguments):
    done = run("list", *arguments)
    assert done.exit_code == 2
    assert "give the name of a ModelDeployment, or --store" in " ".join(done.output.replace("│", " ").split())


def test_prune_says_what_would_go_and_removes_nothing(store):
    done = run("prune", "--store", str(store))
    assert done.exit_code == 0, done.output
    assert "would remove 2 things, " in done.output
    assert "nothing was removed, add --no-dry-run" in done.output
    assert paths(store) == {USED, FREE, HALF}
    told = json.loads(run("prune", "--store", str(store), "-o", "json").output)
    assert told["dryRun"]
    assert {one["path"] for one in told["removals"]} == {FREE, HALF}
    assert told["bytes"] == sum(one["bytes"] for one in told["removals"]) > 0


def test_prune_removes_what_nobody_uses(store):
    done = run("prune", "--store", str(store), "--no-dry-run")
    assert done.exit_code == 0, done.output
    assert "removed 2 things" in done.output
    assert paths(store) == {USED}
    assert "is unused" in run("prune", "--store", str(store)).output


def test_what_was_written_lately_stays(store):
    aged(store, timedelta(hours=1))
    assert "nothing in" in run("prune", "--store", str(store)).output
    assert "would remove 2" in run("prune", "--store", str(store), "--older-than", "30m").output


def test_what_a_deleted_object_used_goes_when_one_says_that_it_is_gone(store):
    dry = run("prune", "--store", str(store), "--gone", "team/digits")
    assert "would remove 3 things" in dry.output
    assert "usedBy" in run("list", "--store", str(store), "-o", "json").output
    assert run("prune", "--store", str(store), "--gone", "team/digits", "--no-dry-run").exit_code == 0
    assert paths(store) == set()


@pytest.mark.parametrize(
    ("gone", "code", "says"),
    [("team/other", 1, "refers to nothing"), ("digits", 2, "NAMESPACE/NAME"), ("../refs", 2, "NAMESPACE/NAME")],
)
def test_a_name_that_is_nobody_s(store, gone, code, says):
    done = run("prune", "--store", str(store), "--gone", gone, "--no-dry-run")
    assert done.exit_code == code
    assert says in " ".join(done.output.split())
    assert paths(store) == {USED, FREE, HALF}


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    write_artifact(tmp_path, FREE)
    done = run("prune", "--store", str(tmp_path), "--no-dry-run", "--older-than", "0s")
    assert done.exit_code == 1
    assert "says what is in use" in done.output
    assert paths(tmp_path) == {FREE}


@pytest.mark.parametrize(
    ("store", "says"), [("/nowhere", "is no folder"), ("ftp://a/b", "is no store"), ("pvc://a/b", "is no store")]
)
def test_a_store_that_is_none(store, says):
    done = run("list", "--store", store)
    assert (done.exit_code, says in done.output) == (1, True), done.output


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**4, "5.0 TiB")]
)
def test_sizes_as_people_read_them(amount, text):
    assert size_of(amount) == text
