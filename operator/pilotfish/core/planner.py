"""plan(): one pass from what was observed to what to do. The order of the steps is the order of a rollout."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import HistoryEntry
from pilotfish.core import history
from pilotfish.core.artifact import advance_artifact, job_in_use
from pilotfish.core.conditions import View
from pilotfish.core.invalid import plan_for_invalid_spec
from pilotfish.core.objects import Body, is_deleting, name_of, ref_of
from pilotfish.core.observed import Observed
from pilotfish.core.plan import Apply, Plan
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.report import report
from pilotfish.core.retire import retire
from pilotfish.core.scope import Scope, make_scope
from pilotfish.core.serving import advance_serving, count_pods, find_trouble, keep_serving
from pilotfish.core.status import make_status
from pilotfish.core.traffic import keep_traffic, unwanted_budget
from pilotfish.resources.policy import Policy

# Pods first: they hold what is scarce.
_GOING = (
    "Deployment",
    "Job",
    "PodDisruptionBudget",
    "Service",
    "ConfigMap",
    "ControllerRevision",
    "PersistentVolumeClaim",
)
_LOOK_AGAIN_FOR_FOREIGN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one pass has decided: `stable` has the traffic once the applies are done."""

    progress: Progress
    stable: str | None
    applies: tuple[Apply, ...]
    deletes: tuple[Body, ...]
    history: tuple[HistoryEntry, ...]
    wake: datetime | None


def plan(observed: Observed, policy: Policy, now: datetime) -> Plan:
    """What brings the world to the spec, pure and total: the same arguments give the same plan. `now` is aware UTC."""
    if is_deleting(observed.body):
        return Plan()
    try:
        spec = ModelDeploymentSpec.model_validate(observed.body.get("spec") or {})
    except ValueError as error:
        return plan_for_invalid_spec(observed, error, now)
    scope = make_scope(observed, spec, policy, now)
    decision = freeze(scope) if spec.paused else decide(scope)
    view = make_view(scope, decision)
    told = report(scope, make_status(view, decision.history))
    return Plan(
        applies=decision.applies,
        deletes=tuple(ref_of(body) for body in decision.deletes),
        status=told.status,
        events=told.events,
        requeue_after=None if decision.wake is None else max(decision.wake - now, timedelta(seconds=1)),
        notes=_notes(scope, decision),
    )


def decide(scope: Scope) -> Decision:
    """Take the wanted revision one step further, hand over the traffic when it is ready, clear up behind it."""
    progress = advance(scope)
    stable = scope.revision if progress.stage is Stage.READY else scope.stable
    past = _history(scope, progress, stable)
    released = progress.stage is Stage.FAILED and scope.revision != stable
    kept = frozenset(r for r in (stable, None if released else scope.revision) if r)
    over = retire(
        scope,
        serving=kept,
        wanted=kept | {scope.revision},
        job=None if progress.record else job_in_use(scope),
        history=past,
    )
    return Decision(
        progress=progress,
        stable=stable,
        applies=_owned(scope, (*progress.applies, *_upkeep(scope, stable))),
        deletes=_unique((*progress.deletes, *over.deletes, *unwanted_budget(scope))),
        history=past,
        wake=_earliest(progress.wake, over.wake),
    )


def freeze(scope: Scope) -> Decision:
    """Paused: see how things stand, touch nothing."""
    progress = replace(advance(scope), applies=(), deletes=(), wake=None)
    return Decision(
        progress=progress, stable=scope.stable, applies=(), deletes=(), history=scope.status.history, wake=None
    )


def advance(scope: Scope) -> Progress:
    """How far the wanted revision is, and its next step."""
    blocked = find_foreign(scope)
    if blocked is not None:
        return blocked
    failed = scope.failure_on_record()
    if failed is not None:
        return Progress(stage=Stage.FAILED, reason=_reason(failed.reason), message=failed.message or "It failed before")
    return advance_serving(scope, advance_artifact(scope))


def find_foreign(scope: Scope) -> Progress | None:
    """An object of somebody else under a name that is needed: reported, never overwritten."""
    name = scope.owner.name
    revision = names.revision_name(name, scope.revision)
    needed = {
        ("PersistentVolumeClaim", names.store_claim(name)),
        ("Job", names.optimize_job(name, scope.revision)),
        *((kind, revision) for kind in ("ControllerRevision", "ConfigMap", "Service", "Deployment")),
        ("Service", names.traffic_service(name)),
        ("PodDisruptionBudget", names.traffic_service(name)),
    }
    for ref in scope.observed.foreign:
        if (ref.kind, ref.name) in needed:
            return Progress(
                stage=Stage.BLOCKED,
                reason=Reason.NOT_OWNED,
                message=f'{ref.kind} "{ref.name}" exists and belongs to somebody else; remove or rename it, or give '
                "the ModelDeployment another name",
                wake=scope.now + _LOOK_AGAIN_FOR_FOREIGN,
            )
    return None


def make_view(scope: Scope, decision: Decision) -> View:
    """What status is made from."""
    stable = decision.stable
    pods = count_pods(scope, stable or scope.revision)
    return View(
        scope=scope,
        progress=decision.progress,
        stable=stable,
        pods=pods,
        trouble=None if stable is None else find_trouble(scope, stable),
        record=decision.progress.record or scope.records.get(scope.revision),
    )


def _upkeep(scope: Scope, stable: str | None) -> tuple[Apply, ...]:
    """Keep what serves as it was recorded, and the traffic on it. Before the switch the new pods come first."""
    if stable is None:
        return ()
    record = scope.records.get(stable)
    own = () if record is None or stable == scope.revision else keep_serving(scope, record)
    return (*own, *keep_traffic(scope, stable))


def _history(scope: Scope, progress: Progress, stable: str | None) -> tuple[HistoryEntry, ...]:
    if stable is not None and stable != scope.stable:
        return history.after_switch(scope, stable=stable)
    if progress.stage is Stage.FAILED and scope.revision != stable:
        return history.after_failure(scope, progress)
    return history.while_going(scope)


def _owned(scope: Scope, applies: Iterable[Apply]) -> tuple[Apply, ...]:
    foreign = {(ref.kind, ref.name) for ref in scope.observed.foreign}
    return tuple(apply for apply in applies if (apply.body["kind"], name_of(apply.body)) not in foreign)


def _unique(bodies: Iterable[Body]) -> tuple[Body, ...]:
    unique = {(_GOING.index(body["kind"]), name_of(body)): body for body in bodies if not is_deleting(body)}
    return tuple(unique[key] for key in sorted(unique))


def _reason(text: str | None) -> Reason:
    """A stored reason; one that another version wrote and this one does not know is an internal error."""
    return Reason(text) if text in set(Reason) else Reason.INTERNAL_ERROR


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _notes(scope: Scope, decision: Decision) -> tuple[str, ...]:
    progress = decision.progress
    notes = [f"revision {scope.revision} {progress.stage.value}: {progress.message}"]
    if decision.stable != scope.stable:
        notes.append(f"traffic goes from revision {scope.stable or 'none'} to {decision.stable}: {progress.message}")
    return tuple(notes)
