"""What is read from pods, Deployments and Jobs: reason, sentence, and whether it is over."""

import json
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.report import OptimizerReason, OptimizerRecord, TerminationMessage
from pilotfish.core import observe
from pilotfish.core.failures import Finding, find_in_deployment, log_error
from pilotfish.core.job_outcome import Lost, Running, job_outcome
from pilotfish.core.pod_checks import find_in_pods
from pilotfish.resources import JobIntent, ServingIntent, make_deployment, make_job
from support.builders import NOW, OWNER, POLICY, make_artifact, make_model_deployment, make_result, make_spec

SPEC = make_spec(
    {"model": {"uri": "s3://m/", "credentials": {"secretName": "creds"}}, "serving": {"gpus": {"count": 2}}}
)
JOB = make_job(OWNER, JobIntent(spec=SPEC, revision="r", recipe_key="k", generation=1), POLICY)
DEPLOYMENT = make_deployment(OWNER, ServingIntent(serving=SPEC.serving, revision="r", artifact=make_artifact()), POLICY)
LONG_AGO = (NOW - timedelta(hours=1)).isoformat()


def make_pod(template, *, number=0, **status):
    labels = dict(template["metadata"]["labels"])
    meta = {"name": f"p{number}", "labels": labels, "creationTimestamp": f"2026-01-01T00:00:0{number}Z"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"], "status": status}


def triton_pod(**status):
    return make_pod(DEPLOYMENT["spec"]["template"], **status)


def unschedulable(message):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def container(name, state, *, init=False, last=None, ready=False, restarts=0):
    found = {
        "name": name,
        "state": state,
        "lastState": last or {},
        "ready": ready,
        "restartCount": restarts,
        "image": "i:1",
    }
    return {"initContainerStatuses" if init else "containerStatuses": [found], "phase": "Running"}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def ended(code, message="", reason="Error"):
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def failed_message(reason, text="it is so"):
    return TerminationMessage(outcome="Failed", reason=reason, message=text).to_json()


BACK_OFF = waiting("CrashLoopBackOff", "back-off 40s restarting failed container")
LOAD_LOG = """I1122 10:20:30.123456 1 server.cc:1] Started
E1122 10:20:30.123456 1 model_lifecycle.cc:642] "failed to load 'digits' version 1: Internal: unknown op Foo"
+--------+
error: creating server: Internal - failed to load all models
"""
DISRUPTED = [{"type": "DisruptionTarget", "status": "True"}]
NO_SANDBOX = [{"type": "PodReadyToStartContainers", "status": "False"}]

PODS = {
    "no gpu": (
        unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."),
        Reason.INSUFFICIENT_GPU,
        ["2 nvidia.com/gpu", "3 Insufficient nvidia.com/gpu", "spec.serving.gpus.count"],
        False,
    ),
    "no cpu": (
        unschedulable("0/1 nodes are available: 1 Insufficient cpu."),
        Reason.UNSCHEDULABLE,
        ["Insufficient cpu"],
        False,
    ),
    "volume": (
        unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        Reason.VOLUME_UNBOUND,
        ["spec.storage"],
        False,
    ),
    "claim that goes": (
        unschedulable('0/1 nodes are available: persistentvolumeclaim "m-store" is being deleted. not found'),
        Reason.VOLUME_UNBOUND,
        ['"m-store" is being deleted', "made anew once no pod uses it"],
        False,
    ),
    "no image": (
        container("triton", waiting("ErrImagePull", "403")),
        Reason.IMAGE_PULL_FAILED,
        ['"i:1"', "pull secrets"],
        False,
    ),
    "back-off of an image": (
        container("install", waiting("ImagePullBackOff"), init=True),
        Reason.IMAGE_PULL_FAILED,
        ['"i:1"'],
        False,
    ),
    "bad image name": (container("triton", waiting("InvalidImageName")), Reason.IMAGE_PULL_FAILED, ['"i:1"'], False),
    "secret key": (
        container("triton", waiting("CreateContainerConfigError", 'secret "x" not found')),
        Reason.CREDENTIALS_MISSING,
        ['secret "x" not found'],
        False,
    ),
    "config": (
        container(
            "triton", waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
        ),
        Reason.CONTAINER_CONFIG_INVALID,
        ["run as root"],
        False,
    ),
    "claim": (
        {"phase": "Pending", "conditions": NO_SANDBOX, "startTime": LONG_AGO},
        Reason.VOLUME_UNBOUND,
        ['claim "digits-store"'],
        False,
    ),
    "damaged artifact": (
        container("install", BACK_OFF, init=True, last=ended(10, failed_message("ArtifactDigestMismatch"))),
        Reason.ARTIFACT_DIGEST_MISMATCH,
        ["it is so"],
        True,
    ),
    "install dies once": (
        container("install", ended(1), init=True),
        Reason.INSTALL_FAILED,
        ["exit code 1", "kubectl logs"],
        False,
    ),
    "install dies often": (
        container("install", BACK_OFF, init=True, last=ended(1), restarts=3),
        Reason.INSTALL_FAILED,
        [],
        True,
    ),
    "model fails once": (
        container("triton", BACK_OFF, last=ended(1, LOAD_LOG), restarts=1),
        Reason.MODEL_LOAD_FAILED,
        [
            "failed to load 'digits' version 1: Internal: unknown op Foo",
            "kubectl logs deployment/digits-r -c triton --previous",
        ],
        False,
    ),
    "model fails often": (
        container("triton", {"running": {}}, last=ended(1, LOAD_LOG), restarts=3),
        Reason.MODEL_LOAD_FAILED,
        ["unknown op Foo"],
        True,
    ),
    "model fails without a word": (container("triton", ended(134)), Reason.MODEL_LOAD_FAILED, ["exit code 134"], False),
    "memory": (
        container("triton", BACK_OFF, last=ended(137, reason="OOMKilled"), restarts=3),
        Reason.SERVING_OUT_OF_MEMORY,
        ["2Gi", "spec.serving.resources.memory"],
        True,
    ),
    "evicted": ({"phase": "Failed", "reason": "Evicted"}, Reason.POD_EVICTED, ["evicted"], False),
    "drained": ({"phase": "Failed", "conditions": DISRUPTED}, Reason.POD_EVICTED, ["evicted"], False),
}


@pytest.mark.parametrize("case", PODS)
def test_a_pod_that_is_not_ready(case):
    status, reason, said, fatal = PODS[case]
    finding = find_in_pods([triton_pod(**status)], of='Deployment "digits-r"', now=NOW)
    assert finding is not None
    assert (finding.reason, finding.fatal) == (reason, fatal)
    for text in said:
        assert text in finding.message
    assert "p0" not in finding.message, "pod names change, sentences stay"
    assert "\n" not in finding.message


FINE = {
    "just made": {"phase": "Pending"},
    "starting": container("triton", {"running": {}}),
    "installing": container("install", {"running": {}}, init=True),
    "creating": container("triton", waiting("ContainerCreating")),
    "came up again": container("triton", {"running": {}}, last=ended(1), ready=True, restarts=2),
    "installed": container("install", ended(0, reason="Completed"), init=True, ready=True),
    "waits for volumes since a moment": {"phase": "Pending", "conditions": NO_SANDBOX, "startTime": NOW.isoformat()},
    "done": {"phase": "Succeeded"},
}


@pytest.mark.parametrize("case", FINE)
def test_a_pod_that_is_well_or_on_its_way(case):
    assert find_in_pods([triton_pod(**FINE[case])], of="x", now=NOW) is None


def test_the_order_of_checks_decides_not_the_order_of_pods():
    crash = triton_pod(**container("triton", ended(1)))
    no_gpu = triton_pod(**unschedulable("1 Insufficient nvidia.com/gpu"))
    for pods in ([crash, no_gpu], [no_gpu, crash]):
        assert find_in_pods(pods, of="x", now=NOW).reason is Reason.INSUFFICIENT_GPU


def test_a_missing_secret_is_named():
    pod = make_pod(JOB["spec"]["template"], phase="Pending", conditions=NO_SANDBOX, startTime=LONG_AGO)
    finding = find_in_pods([pod], of="x", now=NOW)
    assert finding.reason is Reason.CREDENTIALS_MISSING
    assert 'Secret "creds"' in finding.message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1', Reason.QUOTA_EXCEEDED),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', Reason.PODS_NOT_CREATED),
    ],
)
def test_pods_that_may_not_be_made(message, reason):
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    finding = find_in_deployment({**DEPLOYMENT, "status": {"conditions": [condition]}})
    assert finding.reason is reason
    assert finding.recovers


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (LOAD_LOG, "failed to load 'digits' version 1: Internal: unknown op Foo"),
        ("error: creating server: Internal - no", "error: creating server: Internal - no"),
        ("all is well", None),
        ("", None),
        ("E1122 1] " + "x" * 1000, "x" * 299 + "…"),
    ],
)
def test_what_a_log_says(tail, expected):
    assert log_error(tail) == expected


# Jobs


def outcome_of(pods, *conditions, age=timedelta()):
    created = (NOW - age).isoformat()
    meta = {**JOB["metadata"], "uid": "job", "creationTimestamp": created}
    status = {"conditions": [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]}
    job = {**JOB, "metadata": meta, "status": status}
    owner = {"kind": "Job", "uid": "job", "controller": True}
    owned = [{**p, "metadata": {**p["metadata"], "ownerReferences": [owner]}} for p in pods]
    return job_outcome(observe(make_model_deployment(), [job, *owned]), job, deadline="1h", now=NOW)


def job_pod(name="optimize", code=0, message="", reason="Error", **more):
    status = container(name, ended(code, message, reason), init=name == "fetch")
    return make_pod(JOB["spec"]["template"], **{**status, "phase": "Failed" if code else "Succeeded", **more})


FAILED = ("Failed", "BackoffLimitExceeded")
COMPLETE = ("Complete", "CompletionsReached")


def test_a_result_is_read_from_a_complete_job_only():
    pod = job_pod(message=make_result().to_json())
    by = OptimizerRecord(image=POLICY.images.optimizer_torch)
    assert outcome_of([pod], COMPLETE) == make_result().model_copy(update={"optimizer": by})
    assert outcome_of([pod]) == Running()


def test_a_complete_job_without_pods_has_lost_its_result():
    assert outcome_of([], COMPLETE) == Lost()


def test_a_pod_of_a_complete_job_that_is_seen_before_its_end_has_said_nothing_yet():
    behind = job_pod(message=make_result().to_json()) | {"status": {"phase": "Running"}}
    assert outcome_of([behind], COMPLETE) == Running()
    assert outcome_of([behind, job_pod(code=1)], COMPLETE) == Running()


def test_a_complete_job_whose_pod_that_succeeded_is_gone_has_lost_its_result():
    assert outcome_of([job_pod(code=137, reason="OOMKilled")], COMPLETE) == Lost()


@pytest.mark.parametrize("message", ["", "not json", json.dumps({"outcome": "Succeeded"}), '{"schemaVersion": 99}'])
def test_a_complete_job_that_says_nothing_readable_has_the_wrong_image(message):
    finding = outcome_of([job_pod(message=message)], COMPLETE)
    assert isinstance(finding, Finding)
    assert finding.reason is Reason.WRONG_IMAGE


@pytest.mark.parametrize("reason", [r for r in OptimizerReason if r not in {"Succeeded", "ArtifactReused"}])
def test_the_job_s_own_reasons_are_passed_on(reason):
    finding = outcome_of([job_pod("fetch", 10, failed_message(reason))], ("Failed", "PodFailurePolicy"))
    assert (finding.reason.value, finding.message) == (reason.value, "it is so")


def test_memory_names_the_limit_and_the_field():
    finding = outcome_of([job_pod(code=137, reason="OOMKilled")], FAILED)
    assert finding.reason is Reason.OPTIMIZER_OUT_OF_MEMORY
    assert "4Gi" in finding.message
    assert "spec.optimization.resources.memory" in finding.message


def test_a_deadline_names_itself_and_what_held_the_job_up():
    pod = make_pod(JOB["spec"]["template"], **unschedulable("0/1 nodes are available: 1 Insufficient cpu."))
    finding = outcome_of([pod], ("Failed", "DeadlineExceeded"))
    assert finding.reason is Reason.OPTIMIZER_DEADLINE_EXCEEDED
    assert "1h" in finding.message
    assert "Insufficient cpu" in finding.message


def test_a_silent_failure_points_to_the_logs():
    finding = outcome_of([job_pod(code=1)], FAILED)
    assert finding.reason is Reason.OPTIMIZER_FAILED
    assert "exit code 1" in finding.message
    assert f"kubectl logs job/{JOB['metadata']['name']} -c optimize" in finding.message


def test_a_failure_without_pods_still_has_a_sentence():
    assert "BackoffLimitExceeded" in outcome_of([], FAILED).message


def test_the_newest_pod_explains():
    pods = [job_pod(code=1, number=1), job_pod("fetch", 10, failed_message("SourceNotFound"), number=2)]
    assert outcome_of(pods, FAILED).reason is Reason.SOURCE_NOT_FOUND


def test_between_attempts_the_last_failure_is_told():
    running = outcome_of([job_pod(code=1)])
    assert isinstance(running, Running)
    assert running.finding.reason is Reason.OPTIMIZER_FAILED
    assert running.finding.message.endswith("(it is tried again)")


def test_a_user_s_error_is_not_announced_as_tried_again():
    assert outcome_of([job_pod("fetch", 10, failed_message("SourceNotFound"))]) == Running()


def test_a_job_without_pods_is_stuck_after_a_minute():
    assert outcome_of([]) == Running()
    stuck = outcome_of([], age=timedelta(minutes=2))
    assert stuck.finding.reason is Reason.PODS_NOT_CREATED


# Reasons


def test_every_reason_of_the_optimizer_is_one_of_ours():
    assert {r.value for r in OptimizerReason} <= {r.value for r in Reason}


def test_anchors_tell_reasons_apart():
    assert Reason.INSUFFICIENT_GPU.anchor == "insufficientgpu"
    assert len({r.anchor for r in Reason}) == len(Reason)


def test_labels_of_a_job_tell_its_recipe():
    assert JOB["metadata"]["labels"][names.RECIPE_LABEL] == "k"
