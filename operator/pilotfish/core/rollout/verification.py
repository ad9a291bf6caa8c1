"""Verification before traffic: the golden set against the loaded pods, asked in a Job, its result read and judged here.

A failed verification says something about the model. Everything else that goes wrong says nothing about it: the Job
starts anew, and only when that does not help either the verification ends in an error.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.report import TerminationMessage
from pilotfish.api.rollout_status import AnalysisVerdict
from pilotfish.core.drift import create_if_missing
from pilotfish.core.failures import ARTIFACT_LOST, Finding
from pilotfish.core.image_settings import wants_other_images
from pilotfish.core.job_outcome import JobKind, Lost, Running, job_outcome, look_again
from pilotfish.core.objects import Body, annotation_of, is_deleting, name_of
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.verify_job import GOLDEN_CONTAINER, VERIFY_CONTAINER, VerifyIntent, make_verify_job

MOST_ERRORS = 2
"""Jobs in a row that could not verify; the last one decides. Each tries with three pods."""

VERIFICATION = JobKind(
    containers=frozenset({GOLDEN_CONTAINER, VERIFY_CONTAINER}),
    result=VERIFY_CONTAINER,
    is_result=lambda told: told.verification is not None,
    failed=Reason.VERIFICATION_ERROR,
    out_of_memory=Reason.VERIFICATION_ERROR,
    deadline_exceeded=Reason.VERIFICATION_ERROR,
    more_memory="give fewer or smaller samples in spec.model.samples",
    more_time="give fewer samples in spec.model.samples, or see whether the pods answer at all",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far it is. `verdict`: PASS, FAIL, ERROR (it could not be verified), None while it runs."""

    verdict: AnalysisVerdict | None
    reason: Reason
    message: str
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Body, ...] = ()
    held_up: bool = False
    """Something outside keeps its pod from running; it recovers by itself."""
    wake: datetime | None = None
    errors: int = 0
    """Jobs in a row that could not verify, for status.rollout.verification.errors."""


def advance_verification(scope: Scope, record: RevisionRecord) -> Verification:
    """One step of verifying the pods that the revision's Deployment has. Reads the errors so far from the status."""
    errors = _errors_so_far(scope, record)
    wanted = _wanted_job(scope, record)
    if wanted is None:
        return _going(f"Revision {record.revision} waits for pods that can be verified", errors)
    job = scope.observed.child("Job", name_of(wanted))
    if job is None:
        created = create_if_missing(scope.observed, wanted)
        working = _going(_doing(record), errors)
        return replace(working, applies=() if created is None else (created,))
    if is_deleting(job):
        return _going(f"Job {name_of(job)} is going away before it starts anew", errors)
    if annotation_of(job, names.VERIFIES) != annotation_of(wanted, names.VERIFIES):
        return replace(_going(f"Job {name_of(job)} starts anew: it asked other pods", errors), deletes=(job,))
    return _heed(scope, record, job, wanted=wanted)


def _heed(scope: Scope, record: RevisionRecord, job: Body, *, wanted: Body) -> Verification:
    errors = _errors_so_far(scope, record)
    deadline = f"{job['spec']['activeDeadlineSeconds']}s"
    outcome = job_outcome(scope.observed, job, kind=VERIFICATION, deadline=deadline, now=scope.now)
    match outcome:
        case TerminationMessage(message=message):
            return Verification(verdict=AnalysisVerdict.PASS, reason=Reason.VERIFYING, message=message)
        case Lost():
            return replace(_going(f"Job {name_of(job)} runs again, its result is gone", errors), deletes=(job,))
        case Running(finding=finding):
            working = replace(_going(_doing(record), errors), wake=look_again(scope.observed, job, scope.now))
            return working if finding is None else _held_up(job, wanted, finding, working)
        case Finding():
            return _failed(scope, record, job, outcome)


def _held_up(job: Body, wanted: Body, finding: Finding, working: Verification) -> Verification:
    if wants_other_images(job, wanted, finding):
        anew = f"Job {name_of(job)} starts anew: the settings name another image"
        return replace(working, message=anew, deletes=(job,), wake=None)
    return replace(working, reason=finding.reason, message=finding.message, held_up=True)


def _failed(scope: Scope, record: RevisionRecord, job: Body, finding: Finding) -> Verification:
    if finding.reason is Reason.VERIFICATION_FAILED:
        return Verification(verdict=AnalysisVerdict.FAIL, reason=finding.reason, message=finding.message)
    if finding.reason in ARTIFACT_LOST:
        kept = names.revision_name(scope.owner.name, record.revision)
        again = f'{finding.message}; delete ControllerRevision "{kept}" to make it again'
        return Verification(verdict=AnalysisVerdict.ERROR, reason=finding.reason, message=again)
    return _errored(job, finding, _errors_so_far(scope, record) + 1)


def _errored(job: Body, finding: Finding, errors: int) -> Verification:
    """The Job's own retries are used up: a fresh one, unless that did not help before."""
    if errors < MOST_ERRORS:
        return replace(_going(f"{finding.message} (it is tried again)", errors), deletes=(job,), held_up=True)
    return Verification(
        verdict=AnalysisVerdict.ERROR,
        reason=Reason.VERIFICATION_ERROR,
        message=f"The revision could not be verified: {finding.message}",
        errors=errors,
    )


def _wanted_job(scope: Scope, record: RevisionRecord) -> Body | None:
    """The Job for the pods that stand now; None while there are none to ask."""
    deployment = scope.observed.child("Deployment", names.revision_name(scope.owner.name, record.revision))
    if deployment is None or is_deleting(deployment):
        return None
    pods = int(deployment["spec"].get("replicas", 1))
    if pods == 0:
        return None
    verification, optimization = scope.spec.rollout.verification, scope.spec.optimization
    own = verification.tolerance if verification else None
    intent = VerifyIntent(
        record=record,
        tolerance=own or optimization.tolerance,
        tolerance_field=f"spec.{'rollout.verification' if own else 'optimization'}.tolerance",
        pods=pods,
        deployment_uid=deployment["metadata"]["uid"],
        storage=scope.spec.storage,
    )
    return make_verify_job(scope.owner, intent, scope.policy)


def _errors_so_far(scope: Scope, record: RevisionRecord) -> int:
    rollout = scope.status.rollout
    if rollout is None or rollout.revision != record.revision or rollout.verification is None:
        return 0
    return rollout.verification.errors or 0


def _doing(record: RevisionRecord) -> str:
    return f"The answers of revision {record.revision} are compared with the original's"


def _going(message: str, errors: int) -> Verification:
    return Verification(verdict=None, reason=Reason.VERIFYING, message=message, errors=errors)
