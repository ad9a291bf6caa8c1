"""From a spec to an artifact: use the one on record, else make one in a Job. At most one Job lives per recipe."""

from dataclasses import replace

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.report import OptimizerReason, Summary, TerminationMessage
from pilotfish.core.drift import create_if_missing, holds
from pilotfish.core.failures import Finding
from pilotfish.core.image_settings import wants_other_images, wants_other_secrets
from pilotfish.core.job_outcome import Lost, Running, is_finished, job_outcome, kind_of, look_again
from pilotfish.core.job_progress import describe_progress, make_progress
from pilotfish.core.keeping import artifacts_in_use
from pilotfish.core.objects import Body, annotation_of, condition_is_true, is_deleting, label_of, name_of
from pilotfish.core.plan import Apply
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.revision import new_record
from pilotfish.core.scope import Scope
from pilotfish.resources.job import JobIntent, make_job
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.storage import bucket_uri
from pilotfish.resources.store import make_store_claim


def advance_artifact(scope: Scope) -> Progress:
    """One step towards the wanted revision's record. STARTING with a record means that the artifact is there."""
    known = scope.records.get(scope.revision)
    if known is not None:
        return _have(scope, known)
    sibling = next((r for r in reversed(tuple(scope.records.values())) if r.recipe_key == scope.recipe_key), None)
    if sibling is not None:
        result = TerminationMessage.model_validate(
            {
                "outcome": "Succeeded",
                "reason": OptimizerReason.ARTIFACT_REUSED,
                "message": f"revision {sibling.revision} has it already",
                **sibling.model_dump(include={"source", "optimizer", "artifact", "signature", "summary"}),
            }
        )
        return _made(scope, result)
    return _run(scope)


def job_in_use(scope: Scope) -> Body | None:
    """The Job that works, or has worked, for the wanted revision: its own, or one told the very same."""
    own = scope.observed.child("Job", names.optimize_job(scope.owner.name, scope.revision))
    if own is not None:
        return own
    told = names.job_input_hash(scope.spec)
    same = (job for job in _jobs_of_recipe(scope) if annotation_of(job, names.INPUT_HASH) == told)
    return next((job for job in same if not is_deleting(job) and not condition_is_true(job, "Failed")), None)


def _run(scope: Scope) -> Progress:
    job = job_in_use(scope)
    if job is None:
        return _start(scope)
    if is_deleting(job):
        return _optimizing(f"Job {name_of(job)} is going away before it starts anew")
    return _heed(scope, job)


def _heed(scope: Scope, job: Body) -> Progress:
    deadline = scope.spec.optimization.deadline
    outcome = job_outcome(scope.observed, job, kind=kind_of(job), deadline=deadline, now=scope.now)
    match outcome:
        case TerminationMessage() if not scope.wants_artifact_again:
            return _made(scope, outcome)
        case TerminationMessage() | Lost():
            again = f"Job {name_of(job)} runs again, what it made is gone"
            return replace(_optimizing(again), deletes=(job,))
        case Finding():
            if _is_stale(scope, job):
                return replace(_optimizing(f"Job {name_of(job)} failed before and is tried again"), deletes=(job,))
            return _failed(outcome, outcome.summary)
        case Running(finding=finding):
            return _running(scope, job, finding)


def _running(scope: Scope, job: Body, finding: Finding | None) -> Progress:
    if finding is None:
        return _working(scope, job)
    wanted = _wanted_job(scope)
    if wants_other_images(job, wanted, finding):
        return replace(_optimizing(f"Job {name_of(job)} starts anew: the settings name another image"), deletes=(job,))
    if wants_other_secrets(job, wanted, finding):
        return replace(_optimizing(f"Job {name_of(job)} starts anew: the spec names another Secret"), deletes=(job,))
    stuck = replace(_optimizing(finding.message), reason=finding.reason, held_up=True)
    return replace(stuck, applies=keep_store(scope), deletes=misfit_store(scope))


def _working(scope: Scope, job: Body) -> Progress:
    stored = scope.status.optimization.progress if scope.status.optimization else None
    told = make_progress(scope.observed.progress, job, stored=stored)
    doing = f"Job {name_of(job)} optimizes the model"
    working = _optimizing(doing if told is None else f"{doing}: {describe_progress(told)}")
    due = look_again(scope.observed, job, scope.now)
    return replace(working, applies=keep_store(scope), wake=due, job=told)


def keep_store(scope: Scope) -> tuple[Apply, ...]:
    """The claim must stand for pods to write to and read from, whoever removed it; a bucket is the user's."""
    if bucket_uri(scope.spec.storage) is not None:
        return ()
    claim = create_if_missing(scope.observed, make_store_claim(scope.owner, scope.spec.storage))
    return () if claim is None else (claim,)


def misfit_store(scope: Scope) -> tuple[Body, ...]:
    """The claim, if it waits for a volume that the spec no longer asks for: it holds nothing and is made again."""
    if bucket_uri(scope.spec.storage) is not None:
        return ()
    wanted = make_store_claim(scope.owner, scope.spec.storage)
    found = scope.observed.child("PersistentVolumeClaim", name_of(wanted))
    if found is None or is_deleting(found) or found.get("status", {}).get("phase") == "Bound":
        return ()
    return () if holds(found["spec"], wanted["spec"]) else (found,)


def _start(scope: Scope) -> Progress:
    name = names.optimize_job(scope.owner.name, scope.revision)
    in_the_way = [job for job in _jobs_of_recipe(scope) if not is_finished(job)]
    if in_the_way:
        going = tuple(job for job in in_the_way if not is_deleting(job))
        return replace(_optimizing(f"Job {name} waits until {name_of(in_the_way[0])} is gone"), deletes=going)
    job = create_if_missing(scope.observed, _wanted_job(scope))
    applies = (*keep_store(scope), *(() if job is None else (job,)))
    return replace(_optimizing(f"Job {name} optimizes the model"), applies=applies)


def _wanted_job(scope: Scope) -> Body:
    intent = JobIntent(
        spec=scope.spec,
        revision=scope.revision,
        recipe_key=scope.recipe_key,
        generation=scope.observed.generation,
        keep=artifacts_in_use(scope.observed),
    )
    return make_job(scope.owner, intent, scope.policy)


def _made(scope: Scope, result: TerminationMessage) -> Progress:
    record = new_record(scope, result)
    if isinstance(record, Finding):
        return _failed(record, result.summary)
    return _have(scope, record)


def _have(scope: Scope, record: RevisionRecord) -> Progress:
    return Progress(
        stage=Stage.STARTING,
        reason=Reason.STARTING,
        message=f"Revision {record.revision} has its artifact",
        applies=keep_store(scope),
        record=record,
        summary=record.summary,
    )


def _is_stale(scope: Scope, job: Body) -> bool:
    """A failed Job of an earlier attempt: something else was asked for since, and now this again, or a retry."""
    if scope.orders.retry:
        return True
    if scope.is_same_attempt:
        return False
    return annotation_of(job, names.GENERATION) != str(scope.observed.generation)


def _jobs_of_recipe(scope: Scope) -> list[Body]:
    jobs = scope.observed.of_kind("Job")
    return [job for job in jobs if label_of(job, names.RECIPE_LABEL) == scope.recipe_key]


def _optimizing(message: str) -> Progress:
    return Progress(stage=Stage.OPTIMIZING, reason=Reason.OPTIMIZING, message=message)


def _failed(finding: Finding, summary: Summary | None) -> Progress:
    return Progress(stage=Stage.FAILED, reason=finding.reason, message=finding.message, summary=summary)
