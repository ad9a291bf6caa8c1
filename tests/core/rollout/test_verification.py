"""Verification before traffic: what its Job says, what that means for the revision, and when it starts anew."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.job_input import VERIFY_ENV, VerifyInput
from pilotfish.api.reasons import Reason
from pilotfish.api.report import TerminationMessage, VerificationSummary
from pilotfish.api.rollout_status import AnalysisVerdict
from pilotfish.core import observe
from pilotfish.core.rollout.verification import MOST_ERRORS, advance_verification
from pilotfish.core.scope import make_scope
from pilotfish.resources import (
    RevisionObjects,
    RevisionRecord,
    ServingIntent,
    VerifyIntent,
    make_config_map,
    make_deployment,
    make_headless_service,
    make_verify_job,
    with_scale,
)
from support.builders import NOW, OWNER, POLICY, UID, make_artifact, make_model_deployment, make_result, make_signature
from support.builders import make_spec as read_spec
from support.neighbours import UNASKED, WRONG
from support.specs import make_wanted, uri
from support.world import World

PASSED = TerminationMessage(
    outcome="Succeeded",
    reason="Succeeded",
    message="1 pod answers 32 samples like the original: relative error 1e-07",
    verification=VerificationSummary(pods=1, samples=32, max_abs_error="0", relative_error="0", cosine="1"),
)
COMPLETE = ("Complete", "CompletionsReached")
REFUSED = ("Failed", "PodFailurePolicy")
EXHAUSTED = ("Failed", "BackoffLimitExceeded")
TOO_LATE = ("Failed", "DeadlineExceeded")


def failed(reason, message="output 'logits' of pod 1 of 2: relative error 0.31 is above 0.0001"):
    return TerminationMessage(outcome="Failed", reason=reason, message=message)


def make_record(spec):
    revision = names.revision_hash(spec)
    artifact, signature = make_artifact(names.recipe_key(spec)), make_signature()
    intent = ServingIntent(serving=spec.serving, revision=revision, artifact=artifact)
    objects = RevisionObjects(
        deployment=make_deployment(OWNER, intent, POLICY),
        config_map=make_config_map(
            OWNER, revision=revision, serving=spec.serving, backend=artifact.backend, signature=signature, policy=POLICY
        ),
        service=make_headless_service(OWNER, revision=revision),
    )
    return RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=revision,
        recipe_key=names.recipe_key(spec),
        intent=names.intent(spec),
        artifact=artifact,
        signature=signature,
        summary=make_result().summary,
        objects=objects,
    )


class Case:
    """A revision whose pods stand, and its verification Job in whatever state a test asks for."""

    def __init__(self, *, replicas=2, deployed=None, errors=None, policy=POLICY, **spec):
        told = {"model": {"uri": "s3://m/"}, "serving": {"replicas": replicas}, **spec}
        self.spec, self.policy, self.errors = read_spec(told), policy, errors
        self.record = make_record(self.spec)
        self.counted_for = self.record.revision
        self.wire = told
        scaled = with_scale(
            self.record.objects.deployment, replicas=replicas if deployed is None else deployed, progress_deadline="10m"
        )
        self.deployment = {**scaled, "metadata": {**scaled["metadata"], "uid": "deployment-1"}}
        self.job = None
        self.pods = []

    def intent(self, **changes):
        told = {"record": self.record, "tolerance": None, "tolerance_field": "spec.optimization.tolerance"}
        return VerifyIntent(**{**told, "pods": 2, "deployment_uid": "deployment-1", **changes})

    def with_job(self, *conditions, age=timedelta(seconds=10), deleting=False, **changes):
        body = make_verify_job(OWNER, self.intent(**changes), POLICY)
        meta = {**body["metadata"], "uid": "job", "creationTimestamp": (NOW - age).isoformat()}
        if deleting:
            meta["deletionTimestamp"] = NOW.isoformat()
        status = {"conditions": [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]}
        self.job = {**body, "metadata": meta, "status": status}
        return self

    def with_pod(self, *, code=0, message="", **status):
        state = {"terminated": {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}}
        found = {"name": "verify", "state": state, "restartCount": 0, "ready": False, "image": "i:1"}
        phase = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [found]}
        template = self.job["spec"]["template"]
        owner = {"kind": "Job", "uid": "job", "controller": True, "name": self.job["metadata"]["name"]}
        number = len(self.pods)
        meta = {"name": f"p{number}", "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
        meta["creationTimestamp"] = f"2026-01-01T00:00:0{number}Z"
        self.pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"], "status": status or phase})  # fmt: skip
        return self

    def advance(self):
        status = {"rollout": {"revision": self.counted_for, "verification": {"verdict": "NotRun"}}}
        if self.errors is not None:
            status["rollout"]["verification"]["errors"] = self.errors
        body = make_model_deployment(self.wire, status=status)
        objects = [o for o in (self.deployment, self.job) if o is not None]
        observed = observe(body, [*objects, *self.pods])
        return advance_verification(make_scope(observed, self.spec, self.policy, NOW), self.record)


def test_the_job_is_made_once_and_told_all():
    found = Case().advance()
    (apply,) = found.applies
    assert (found.verdict, found.reason, found.deletes) == (None, Reason.VERIFYING, ())
    assert apply.uid is None
    assert apply.body["metadata"]["name"] == f"digits-{names.revision_hash(read_spec(Case().wire))}-verify"
    (container,) = apply.body["spec"]["template"]["spec"]["containers"]
    told = VerifyInput.model_validate_json(next(e["value"] for e in container["env"] if e["name"] == VERIFY_ENV))
    assert (told.pods, told.model, told.port) == (2, "digits", 8001)
    assert told.host == f"digits-{names.revision_hash(read_spec(Case().wire))}.team.svc"

    again = Case().with_job().advance()
    assert (again.applies, again.deletes, again.verdict) == ((), (), None)


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        ({}, ("0.5", "spec.optimization.tolerance")),
        ({"verification": {}}, ("0.5", "spec.optimization.tolerance")),
        ({"verification": {"tolerance": {"maxAbs": "0.1"}}}, ("0.1", "spec.rollout.verification.tolerance")),
    ],
)
def test_the_rollout_s_tolerance_comes_before_the_optimization_s(rollout, expected):
    case = Case(optimization={"tolerance": {"maxAbs": "0.5"}}, rollout=rollout)
    (apply,) = case.advance().applies
    env = apply.body["spec"]["template"]["spec"]["containers"][0]["env"]
    told = VerifyInput.model_validate_json(env[0]["value"])
    assert (told.tolerance.max_abs, told.tolerance_field) == expected


@pytest.mark.parametrize("state", ["absent", "deleting", "scaled to zero"])
def test_pods_that_are_wanted_and_not_there_are_waited_for(state):
    case = Case(deployed=0 if state == "scaled to zero" else None)
    if state == "absent":
        case.deployment = None
    if state == "deleting":
        case.deployment["metadata"]["deletionTimestamp"] = NOW.isoformat()
    found = case.advance()
    assert (found.verdict, found.applies, found.deletes) == (None, (), ())
    assert "waits for pods" in found.message


def test_a_passed_verification_tells_its_figures():
    found = Case().with_job(COMPLETE).with_pod(message=PASSED.to_json()).advance()
    assert (found.verdict, found.message) == (AnalysisVerdict.PASS, PASSED.message)
    assert (found.applies, found.deletes, found.errors) == ((), (), 0)


@pytest.mark.parametrize(("code", "message"), [(0, PASSED), (10, failed("VerificationFailed"))])
def test_a_result_counts_only_from_a_job_that_has_ended(code, message):
    found = Case().with_job().with_pod(code=code, message=message.to_json()).advance()
    assert (found.verdict, found.deletes) == (None, ())


def test_a_failed_verification_fails_with_its_numbers_and_is_not_tried_again():
    case = Case().with_job(REFUSED).with_pod(code=10, message=failed("VerificationFailed").to_json())
    found = case.advance()
    assert (found.verdict, found.reason) == (AnalysisVerdict.FAIL, Reason.VERIFICATION_FAILED)
    assert found.message == "output 'logits' of pod 1 of 2: relative error 0.31 is above 0.0001"
    assert found.deletes == ()


def test_the_attempt_that_judged_counts_and_not_the_newest():
    case = Case().with_job(REFUSED).with_pod(code=10, message=failed("VerificationFailed").to_json())
    found = case.with_pod(code=1, message=failed("VerificationError").to_json()).advance()
    assert found.verdict is AnalysisVerdict.FAIL


@pytest.mark.parametrize("condition", [COMPLETE, REFUSED])
def test_a_result_that_is_lost_is_asked_for_again(condition):
    found = Case(errors=1).with_job(condition).advance()
    assert (found.verdict, found.errors) == (None, 1)
    assert [body["kind"] for body in found.deletes] == ["Job"]


ERRORS = {
    "not reachable": (EXHAUSTED, 1, failed("VerificationError", "0 of 2 pods say that the model is ready").to_json()),
    "killed": (EXHAUSTED, 137, ""),
    "silent": (EXHAUSTED, 1, ""),
    "too late": (TOO_LATE, 143, failed("Interrupted").to_json()),
    "another image": (EXHAUSTED, 2, ""),
    "says nothing": (COMPLETE, 0, ""),
    "another job's result": (COMPLETE, 0, make_result().to_json()),
    "told nonsense": (REFUSED, 10, failed("InputInvalid").to_json()),
}


@pytest.mark.parametrize("name", ERRORS)
def test_ta15_an_infrastructure_failure_is_an_error_and_never_a_failure_of_the_model(name):
    condition, code, message = ERRORS[name]
    for before in range(MOST_ERRORS - 1):
        case = Case(errors=before).with_job(condition).with_pod(code=code, message=message)
        found = case.advance()
        assert (found.verdict, found.errors) == (None, before + 1)
        assert found.deletes == (case.job,)
        assert found.held_up
    found = Case(errors=MOST_ERRORS - 1).with_job(condition).with_pod(code=code, message=message).advance()
    assert (found.verdict, found.reason) == (AnalysisVerdict.ERROR, Reason.VERIFICATION_ERROR)
    assert (found.deletes, found.errors) == ((), MOST_ERRORS)
    assert found.message.startswith("The revision could not be verified: ")


def test_a_deadline_without_pods_is_an_error_too():
    found = Case(errors=MOST_ERRORS - 1).with_job(TOO_LATE).advance()
    assert found.verdict is AnalysisVerdict.ERROR
    assert "did not end within 720s" in found.message


def test_errors_of_another_revision_do_not_count():
    case = Case(errors=MOST_ERRORS - 1).with_job(EXHAUSTED).with_pod(code=1)
    case.counted_for = "zzzzzzzz"
    found = case.advance()
    assert (found.verdict, found.errors) == (None, 1)


@pytest.mark.parametrize("reason", ["ArtifactMissing", "ArtifactDigestMismatch"])
def test_a_golden_set_that_was_changed_is_told_at_once_with_the_way_out(reason):
    found = Case().with_job(REFUSED).with_pod(code=10, message=failed(reason, "the store was changed").to_json()).advance()  # fmt: skip
    assert (found.verdict, found.reason) == (AnalysisVerdict.ERROR, Reason(reason))
    assert 'the store was changed; delete ControllerRevision "digits-' in found.message
    assert found.deletes == ()


STALE = {
    "other pods": {"deployment_uid": "deployment-0"},
    "another tolerance": {"tolerance_field": "spec.rollout.verification.tolerance"},
}


@pytest.mark.parametrize("name", STALE)
def test_a_job_of_an_earlier_life_says_nothing_and_is_made_anew(name):
    case = Case().with_job(REFUSED, **STALE[name]).with_pod(code=10, message=failed("VerificationFailed").to_json())
    found = case.advance()
    assert (found.verdict, found.deletes, found.applies) == (None, (case.job,), ())
    gone = Case().with_job(REFUSED, deleting=True, **STALE[name]).advance()
    assert (gone.verdict, gone.deletes, gone.applies) == (None, (), ())


def test_another_number_of_the_same_pods_starts_nothing_anew():
    found = Case().with_job(COMPLETE, pods=1).with_pod(message=PASSED.to_json()).advance()
    assert found.verdict is AnalysisVerdict.PASS


def unschedulable(detail):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": detail}
    return {"phase": "Pending", "conditions": [condition]}


def unpullable():
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    return {"phase": "Pending", "containerStatuses": [{"name": "verify", "image": "i:1", "state": waiting}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (unschedulable("0/1 nodes are available: 1 Insufficient cpu."), Reason.UNSCHEDULABLE),
        (unpullable(), Reason.IMAGE_PULL_FAILED),
    ],
)
def test_what_holds_its_pod_up_is_told(status, reason):
    found = Case().with_job().with_pod(**status).advance()
    assert (found.verdict, found.reason, found.held_up) == (None, reason, True)
    assert (found.deletes, found.applies) == ((), ())


def test_another_image_in_the_settings_reaches_a_job_that_cannot_pull_its_own():
    images = replace(POLICY.images, optimizer="elsewhere/optimizer:0.1.0")
    case = Case(policy=replace(POLICY, images=images)).with_job().with_pod(**unpullable())
    found = case.advance()
    assert (found.verdict, found.deletes, found.held_up) == (None, (case.job,), False)


def test_a_job_without_pods_is_told_after_a_minute_and_looked_at_then():
    young = Case().with_job(age=timedelta(seconds=59)).advance()
    assert (young.held_up, young.wake) == (False, NOW + timedelta(seconds=1))
    old = Case().with_job(age=timedelta(seconds=60)).advance()
    assert (old.held_up, old.reason) == (True, Reason.PODS_NOT_CREATED)


def test_between_attempts_the_last_error_is_told():
    found = Case().with_job().with_pod(code=1, message=failed("VerificationError", "no answer").to_json()).advance()
    assert (found.verdict, found.message, found.held_up) == (None, "no answer (it is tried again)", True)


def test_it_belongs_to_its_owner_alone():
    case = Case().with_job(COMPLETE).with_pod(message=PASSED.to_json())
    stranger = {**case.job["metadata"]["ownerReferences"][0], "uid": UID.replace("1", "9")}
    case.job["metadata"]["ownerReferences"] = [stranger]
    assert case.advance().verdict is None


class TestInTheWorld:
    """The same over many passes, with what the status remembers."""

    @pytest.fixture
    def world(self):
        made = World()
        made.submit(make_wanted("v1"))
        made.settle()
        return made

    def update(self, world, behaviour):
        before = len(world.cluster.effects)
        world.around.models[uri("v2")] = behaviour
        world.submit(make_wanted("v2"))
        world.settle()
        made = [e for e in world.cluster.effects[before:] if e.kind == "Job" and e.name.endswith("-verify")]
        assert [e.verb for e in made] == ["apply", "delete"] * (len(made) // 2) + ["apply"] * (len(made) % 2)
        return sum(e.verb == "apply" for e in made)

    def test_ta18_no_traffic_before_one_inference_was_answered(self, world):
        stable = world.status["stableRevision"]["hash"]
        assert self.update(world, UNASKED) == MOST_ERRORS
        assert world.status["stableRevision"]["hash"] == stable
        assert world.status["rollout"]["aborted"]["reason"] == "VerificationError"
        assert "0 of 1 pods say they are ready" in world.status["rollout"]["aborted"]["message"]

    def test_a_wrong_model_is_verified_once(self, world):
        stable = world.status["stableRevision"]["hash"]
        assert self.update(world, WRONG) == 1
        assert world.status["stableRevision"]["hash"] == stable
        assert world.status["rollout"]["aborted"]["reason"] == "VerificationFailed"

    def test_going_back_asks_no_pod_again(self, world):
        assert self.update(world, WRONG) == 1
        before = len(world.cluster.effects)
        world.submit(make_wanted("v1"))
        world.settle()
        assert not [e for e in world.cluster.effects[before:] if e.kind == "Job" and e.verb == "apply"]
