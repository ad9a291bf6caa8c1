"""The server that tuning measures: in the Job's pod, as large as a serving pod, out of everybody's reach."""

import json

import pytest

from pilotfish import names
from pilotfish.api.report import ArtifactRecord
from pilotfish.api.serving_settings import GivenServing
from pilotfish.api.tuning import TunedServing
from pilotfish.core.effective import make_effective
from pilotfish.resources import JobIntent, RevisionRecord, make_config_map, make_deployment, make_job
from pilotfish.resources.deployment import ServingIntent
from support.builders import OWNER, POLICY, make_artifact, make_signature, make_spec

MODEL = {"uri": "s3://models/digits/v1/"}


def make_pod(**spec):
    whole = make_spec({"model": MODEL, **spec})
    job = make_job(OWNER, JobIntent(spec=whole, revision="r", recipe_key="k", generation=1), POLICY)
    return job["spec"]["template"]["spec"]


def containers(pod):
    return {c["name"]: c for c in (*pod["initContainers"], *pod["containers"])}


def told(pod):
    return json.loads(next(e["value"] for e in containers(pod)["optimize"]["env"] if e["name"] == "PILOTFISH_JOB"))


TUNED = {"optimization": {"tuning": {}}, "serving": {"resources": {"cpu": "2", "memory": "3Gi"}}}


def test_no_server_unless_it_is_asked_for():
    pod = make_pod()
    assert set(containers(pod)) == {"fetch", "optimize"}
    assert "tuning" not in told(pod)["serving"]


def test_the_server_starts_after_fetch_and_is_as_large_as_a_serving_pod():
    pod = make_pod(**TUNED)
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "tuning-triton"]
    server = containers(pod)["tuning-triton"]
    assert server["restartPolicy"] == "Always"
    assert server["resources"]["limits"] == {"cpu": "2", "memory": "3Gi"}
    assert server["image"] == POLICY.images.triton_torch, "either format may win"
    assert {e["name"]: e["value"] for e in server["env"]}["OMP_NUM_THREADS"] == "2"


def test_with_a_bucket_it_is_there_while_the_model_is_optimized():
    storage = {"kind": "Bucket", "bucket": {"uri": "s3://artifacts/team", "secretName": "store"}}
    pod = make_pod(**TUNED, storage=storage)
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "tuning-triton", "optimize"]
    assert "tune" not in {m["name"] for m in containers(pod)["publish"]["volumeMounts"]}


def test_only_onnx_is_measured_in_the_small_image():
    pod = make_pod(optimization={"tuning": {}, "formats": ["ONNX"]})
    assert containers(pod)["tuning-triton"]["image"] == POLICY.images.triton


def test_nobody_else_reaches_it_and_it_reaches_nothing():
    server = containers(make_pod(**TUNED))["tuning-triton"]
    assert "--grpc-address=127.0.0.1" in server["args"]
    assert {"--allow-http=false", "--allow-metrics=false"} <= set(server["args"])
    assert "ports" not in server
    mounts = {m["mountPath"]: m.get("readOnly", False) for m in server["volumeMounts"]}
    assert mounts == {"/tune": True, "/tmp": False, "/dev/shm": False}
    assert not [e for e in server["env"] if "PILOTFISH" in e["name"]]


def test_the_optimizer_is_told_what_the_user_wrote_and_the_cpu_limit():
    serving = {"resources": {"cpu": "1500m"}, "instances": 2, "batching": {"maxBatchSize": 8, "maxQueueDelay": "5ms"}}
    where = told(make_pod(optimization={"tuning": {}}, serving=serving))["serving"]["tuning"]
    assert where == {
        "address": "127.0.0.1:8001", "folder": "/tune", "cores": 2,
        "given": {"instances": 2, "maxQueueDelayMicroseconds": 5000},
    }  # fmt: skip


def test_without_tuning_the_recipe_is_the_model_s_alone():
    for serving in ({}, {"instances": 2}, {"resources": {"cpu": "4"}}):
        assert names.recipe_key(make_spec({"model": MODEL, "serving": serving})) == names.recipe_key(
            make_spec({"model": MODEL})
        )


@pytest.mark.parametrize(
    ("serving", "anew"),
    [
        ({"resources": {"cpu": "4"}}, True),
        ({"instances": 2}, True),
        ({"batching": {"maxQueueDelay": "5ms"}}, True),
        ({"threads": {"intraOp": 1}}, True),
        ({"replicas": 3}, False),
        ({"warmup": False}, False),
        ({"terminationGracePeriod": "30s"}, False),
    ],
)
def test_what_was_measured_is_measured_anew_when_it_changes(serving, anew):
    first = make_spec({"model": MODEL, "optimization": {"tuning": {}}})
    then = make_spec({"model": MODEL, "optimization": {"tuning": {}}, "serving": serving})
    for key in (names.recipe_key, names.job_input_hash):
        assert (key(first) != key(then)) is anew


def make_record(spec, tuned):
    artifact = ArtifactRecord(**{**make_artifact().model_dump(), "serving": tuned})
    signature = make_signature()
    intent = ServingIntent(serving=spec.serving, revision="r", artifact=artifact)
    config_map = make_config_map(
        OWNER, revision="r", serving=spec.serving, backend=artifact.backend, signature=signature, policy=POLICY,
        tuned=artifact.serving,
    )  # fmt: skip
    deployment = make_deployment(OWNER, intent, POLICY)
    return RevisionRecord(
        hash_version=1, revision="r", recipe_key="k", intent=names.intent(spec), artifact=artifact, signature=signature,
        objects={"deployment": deployment, "config_map": config_map, "service": {}},
    )  # fmt: skip


FOUND = TunedServing(
    max_batch_size=16, preferred_sizes=(), max_queue_delay_microseconds=0, instances=2, intra_op_threads=1, cores=2
)


def test_what_was_measured_is_rendered_and_told():
    spec = make_spec({"model": MODEL, "serving": {"resources": {"cpu": "2"}}})
    record = make_record(spec, FOUND)
    text = record.objects.config_map["data"]["config.pbtxt"]
    assert "max_batch_size: 16" in text
    assert "max_queue_delay_microseconds: 0" in text
    assert "count: 2" in text
    effective = make_effective(record)
    assert (effective.max_batch_size, effective.max_queue_delay, effective.instances) == (16, "0s", 2)
    assert effective.intra_op_threads == 1
    origins = effective.origins.to_wire()
    assert origins == {
        "image": "Default", "maxBatchSize": "Tuned", "maxQueueDelay": "Tuned", "instances": "Tuned",
        "intraOpThreads": "Tuned", "tolerance": "Default",
    }  # fmt: skip
    assert effective.tolerance.relative_error == "0.0001"


def test_the_user_s_word_stands_above_what_was_measured():
    serving = {"resources": {"cpu": "2"}, "batching": {"maxQueueDelay": "7ms"}, "threads": {"intraOp": 2}}
    spec = make_spec({"model": MODEL, "serving": serving, "optimization": {"tolerance": {"cosine": "0.9"}}})
    effective = make_effective(make_record(spec, FOUND))
    assert (effective.max_queue_delay, effective.intra_op_threads, effective.instances) == ("7ms", 2, 2)
    assert (effective.origins.max_queue_delay, effective.origins.intra_op_threads) == ("Spec", "Spec")
    assert (effective.origins.instances, effective.origins.tolerance) == ("Tuned", "Spec")
    assert effective.tolerance.cosine == "0.9"


def test_instances_and_threads_hold_for_the_cpu_limit_that_was_measured():
    spec = make_spec({"model": MODEL, "serving": {"resources": {"cpu": "4"}}})
    effective = make_effective(make_record(spec, FOUND))
    assert (effective.instances, effective.intra_op_threads) == (1, 4)
    assert (effective.max_batch_size, effective.origins.max_batch_size) == (16, "Tuned")
    assert effective.origins.instances == "Default"


def test_given_is_what_differs_from_the_defaults():
    assert GivenServing().to_wire() == {}
