"""Artifacts in a bucket, as the operator plans them: no claim, another last container, and who is still in use."""

import json

import pytest

from pilotfish import names
from pilotfish.api.job_input import JOB_ENV, VERIFY_ENV
from pilotfish.cli.preview import preview
from pilotfish.core import observe
from pilotfish.core.keeping import artifacts_in_use
from support.builders import OWNER, POLICY, make_model_deployment
from support.neighbours import SILENT
from support.specs import make_wanted, uri
from support.world import World

STORAGE = {"kind": "Bucket", "bucket": {"uri": "s3://artifacts/team/", "secretName": "keys"}}


def wanted(version="v1", **storage):
    bucket = {**STORAGE["bucket"], **storage}
    return {**make_wanted(version), "storage": {"kind": "Bucket", "bucket": bucket}}


@pytest.fixture
def world():
    world = World()
    world.submit(wanted())
    world.settle()
    return world


def jobs(world, component="optimize"):
    return world.cluster.find("Job", {names.COMPONENT_LABEL: component})


def told(job, variable=JOB_ENV):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return json.loads(next(e["value"] for e in container["env"] if e["name"] == variable))


def test_it_serves_and_has_no_claim(world):
    assert world.said("Ready") == ("True", "Serving")
    assert not world.cluster.find("PersistentVolumeClaim")
    assert world.status["optimization"]["report"].startswith("s3://artifacts/team/artifacts/")
    (job,) = jobs(world)
    assert told(job)["bucket"] == {
        "uri": "s3://artifacts/team/",
        "namespace": OWNER.namespace,
        "name": OWNER.name,
        "uid": OWNER.uid,
    }


def test_the_verification_reads_the_bucket():
    world = World()
    world.submit(wanted())
    world.until(lambda: bool(jobs(world, "verify")))
    (job,) = jobs(world, "verify")
    assert told(job, VERIFY_ENV)["bucket"] == "s3://artifacts/team/"


def test_the_next_run_is_told_what_is_in_use(world):
    (first,) = jobs(world)
    assert "keep" not in told(first), "nobody knows of anything before the first"
    world.submit(wanted("v2"))
    world.settle()
    second = next(job for job in jobs(world) if job["metadata"]["name"] != first["metadata"]["name"])
    assert told(second)["keep"] == [f"artifacts/{told(first)['recipeKey']}"]


def test_a_result_counts_only_from_the_container_that_published():
    world = World()
    world.around.models[uri("v1")] = SILENT
    world.submit(wanted())
    world.settle()
    assert world.said("Stalled") == ("True", "WrongImage")


def test_another_secret_helps_a_job_that_waits_for_one():
    world = World()
    world.around.missing_secrets = {"keys"}
    world.submit(wanted())
    world.settle()
    assert world.said("Ready")[1] == "CredentialsMissing"
    world.submit(wanted(secretName="others"))
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_the_preview_shows_what_is_applied():
    kinds = [body["kind"] for body in preview(make_model_deployment(wanted()), POLICY)]
    assert "PersistentVolumeClaim" not in kinds
    assert {"Job", "Deployment"} <= set(kinds)


def test_what_stands_without_its_record_is_in_use(world):
    (deployment,) = world.cluster.find("Deployment")
    found = artifacts_in_use(observe(world.body, [deployment]))
    assert found == artifacts_in_use(world.observed())
    assert len(found) == 1


def test_nobody_knows_what_a_record_uses_that_cannot_be_read(world):
    (record,) = world.cluster.find("ControllerRevision")
    assert artifacts_in_use(observe(world.body, [record]))
    assert artifacts_in_use(observe(world.body, [{**record, "data": {"of": "another version"}}])) is None
    assert artifacts_in_use(observe(world.body, [])) is None
