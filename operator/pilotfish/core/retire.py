"""What may go: pods of revisions that nobody wants, Jobs that nobody waits for, records beyond the limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pilotfish import names
from pilotfish.api.status import HistoryEntry
from pilotfish.core.failures import ARTIFACT_LOST
from pilotfish.core.history import drained_at
from pilotfish.core.job_outcome import is_finished
from pilotfish.core.objects import Body, is_deleting, label_of, name_of
from pilotfish.core.scope import Scope
from pilotfish.core.serving import find_trouble

_SERVING_KINDS = ("Deployment", "Service", "ConfigMap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """What to delete now, and when to look again for what still drains."""

    deletes: tuple[Body, ...] = ()
    wake: datetime | None = None


def retire(
    scope: Scope, *, serving: frozenset[str], wanted: frozenset[str], job: Body | None, history: Sequence[HistoryEntry]
) -> Retirement:
    """Delete what is over.

    `serving` are revisions whose pods stay, `wanted` those whose records and Jobs stay, `job` is the Job in use and
    `history` the one that this pass stores: pods that it calls superseded drain first.
    """
    deletes: list[Body] = []
    due: list[datetime] = []
    for revision in sorted(_revisions(scope) - serving):
        until = drained_at(history, revision, scope.policy.drain)
        if until is not None and until > scope.now:
            due.append(until)
            continue
        deletes += _serving_objects(scope, revision)
    used = None if job is None else name_of(job)
    deletes += _needless_jobs(scope, used)
    deletes += _jobs_that_made_what_is_lost(scope)
    deletes += _jobs_that_hold_a_leaving_claim(scope, used)
    deletes += _beyond_limit(scope, wanted | serving, used)
    return Retirement(deletes=tuple(deletes), wake=min(due, default=None))


def _revisions(scope: Scope) -> set[str]:
    """All revisions that have objects of their own."""
    labelled = (label_of(child, names.REVISION_LABEL) for child in scope.observed.children)
    return {revision for revision in labelled if revision is not None}


def _serving_objects(scope: Scope, revision: str) -> list[Body]:
    name = names.revision_name(scope.owner.name, revision)
    found = [scope.observed.child(kind, name) for kind in _SERVING_KINDS]
    # What was verified were these pods: their proof goes with them.
    found.append(scope.observed.child("Job", names.verify_job(scope.owner.name, revision)))
    return [body for body in found if body is not None]


def _needless_jobs(scope: Scope, used: str | None) -> list[Body]:
    """Jobs that run for nobody. Finished ones keep their logs until their revision goes."""
    return [job for job in _optimize_jobs(scope) if not is_finished(job) and name_of(job) != used]


def _jobs_that_made_what_is_lost(scope: Scope) -> list[Body]:
    """Ended Jobs of the stable revision, once its pods say that the store no longer holds what was proven.

    Their result must not be taken for an artifact again when somebody deletes the record to have it made again.
    """
    finding = None if scope.stable is None else find_trouble(scope, scope.stable)
    if finding is None or finding.reason not in ARTIFACT_LOST:
        return []
    ended = (job for job in _optimize_jobs(scope) if is_finished(job))
    return [job for job in ended if label_of(job, names.REVISION_LABEL) == scope.stable]


def _jobs_that_hold_a_leaving_claim(scope: Scope, used: str | None) -> list[Body]:
    """Ended Jobs while somebody's deletion of the claim waits: Kubernetes keeps it as long as any pod names it.

    Pods that have ended count as well, and theirs would stand until their revision goes.
    """
    claim = scope.observed.child("PersistentVolumeClaim", names.store_claim(scope.owner.name))
    if claim is None or not is_deleting(claim):
        return []
    return [job for job in scope.observed.of_kind("Job") if is_finished(job) and name_of(job) != used]


def _optimize_jobs(scope: Scope) -> list[Body]:
    jobs = scope.observed.of_kind("Job")
    return [job for job in jobs if label_of(job, names.COMPONENT_LABEL) == names.Component.OPTIMIZE]


def _beyond_limit(scope: Scope, kept: frozenset[str], used: str | None) -> list[Body]:
    """Records and finished Jobs of the oldest revisions; a revision whose pods still stand keeps its record."""
    bodies = [
        *scope.observed.of_kind("ControllerRevision"),
        *(job for job in _optimize_jobs(scope) if name_of(job) != used),
    ]
    pods = {label_of(body, names.REVISION_LABEL) for body in scope.observed.of_kind("Deployment")}
    newest: dict[str, str] = {}
    for body in bodies:
        revision = label_of(body, names.REVISION_LABEL)
        if revision is not None and revision not in kept and revision not in pods:
            newest[revision] = max(newest.get(revision, ""), body["metadata"].get("creationTimestamp", ""))
    ranked = sorted(newest, key=lambda revision: (newest[revision], revision), reverse=True)
    over = set(ranked[scope.spec.revision_history_limit :])
    return [body for body in bodies if label_of(body, names.REVISION_LABEL) in over]
