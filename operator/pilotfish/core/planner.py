"""plan(): one pass from what was observed to what to do. The order of the steps is the order of a rollout."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import HistoryEntry
from pilotfish.core import history
from pilotfish.core.access import keep_access, unwanted_access
from pilotfish.core.artifact import job_in_use
from pilotfish.core.autoscaling import keep_autoscaler, unwanted_autoscaler
from pilotfish.core.certificate import keep_certificate, unwanted_certificate
from pilotfish.core.conditions import View
from pilotfish.core.invalid import plan_for_invalid_spec
from pilotfish.core.objects import Body, is_deleting, name_of, ref_of
from pilotfish.core.observed import Observed
from pilotfish.core.plan import Apply, Plan
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.refresh import advance_refresh
from pilotfish.core.report import report
from pilotfish.core.retire import retire
from pilotfish.core.rollout.advance import advance, guard
from pilotfish.core.rollout.departure import find_leaving, stays_until
from pilotfish.core.rollout.layout import Layout, as_found
from pilotfish.core.rollout.reach import wait_for_gateway
from pilotfish.core.rollout.shadow import unwanted_shadow
from pilotfish.core.rollout.state import paused
from pilotfish.core.rollout.telling import count_serving, describe, serving_revisions
from pilotfish.core.rollout.turn import Rollout, sooner
from pilotfish.core.scope import Scope, make_scope
from pilotfish.core.serving import find_trouble, keep_serving
from pilotfish.core.status import make_status
from pilotfish.core.traffic import keep_traffic, unwanted_traffic
from pilotfish.resources.policy import Policy

# Pods first: they hold what is scarce.
_GOING = (
    "Deployment",
    "Job",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "HTTPRoute",
    "GRPCRoute",
    "Service",
    "ConfigMap",
    "ControllerRevision",
    "PersistentVolumeClaim",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one pass has decided: `stable` is the last revision that finished its rollout, once the applies are done."""

    progress: Progress
    rollout: RolloutStatus
    layout: Layout
    stable: str | None
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Body, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    wake: datetime | None = None


def plan(observed: Observed, policy: Policy, now: datetime) -> Plan:
    """What brings the world to the spec, pure and total: the same arguments give the same plan. `now` is aware UTC."""
    if is_deleting(observed.body):
        return Plan()
    try:
        spec = ModelDeploymentSpec.model_validate(observed.body.get("spec") or {})
    except ValueError as error:
        return plan_for_invalid_spec(observed, error, now)
    scope = make_scope(observed, spec, policy, now)
    decision = freeze(scope) if spec.paused else decide(scope, advance(scope))
    refresh = advance_refresh(scope)
    told = report(scope, make_status(make_view(scope, decision), decision.history, refresh))
    wake = sooner(decision.wake, refresh.wake)
    return Plan(
        applies=(*decision.applies, *_owned(scope, refresh.applies)),
        deletes=tuple(ref_of(body) for body in _unique((*decision.deletes, *refresh.deletes))),
        status=told.status,
        events=(*told.events, *refresh.events),
        requeue_after=None if wake is None else max(wake - now, timedelta(seconds=1)),
        notes=_notes(scope, decision),
    )


def decide(scope: Scope, rollout: Rollout) -> Decision:
    """Pods and traffic as the rollout wants them, and behind it everything that is over."""
    layout = rollout.layout
    stable = scope.revision if rollout.promoted else scope.stable
    progress = wait_for_gateway(scope, rollout.progress, stable)
    past = _history(scope, rollout, stable)
    leaving = find_leaving(scope, rollout)
    stays = None if leaving is None else stays_until(scope, rollout.state, layout, leaving)
    kept = {stable, scope.revision} - {leaving}
    held = frozenset(r for r in (*kept, leaving if stays is not None else None) if r)
    over = retire(
        scope,
        serving=held,
        wanted=held | {scope.revision},
        job=None if progress.record else job_in_use(scope),
        history=past,
    )
    return Decision(
        progress=progress,
        rollout=rollout.state,
        layout=layout,
        stable=stable,
        # Before any pod that it protects.
        applies=_owned(
            scope,
            (
                *keep_access(scope),
                *keep_certificate(scope),
                *progress.applies,
                *_upkeep(scope, layout, held, stable),
            ),
        ),
        deletes=_unique(
            (
                *progress.deletes,
                *over.deletes,
                *unwanted_traffic(scope, held),
                *unwanted_access(scope),
                *unwanted_autoscaler(scope),
                *unwanted_certificate(scope),
                *unwanted_shadow(scope, rollout.state),
            )
        ),
        history=past,
        wake=sooner(progress.wake, over.wake, stays),
    )


def freeze(scope: Scope) -> Decision:
    """Paused: see how things stand and touch nothing, but let nobody be served by what is known to be bad."""
    safety = guard(scope)
    if safety is not None and safety.progress.stage is Stage.FAILED:
        return decide(scope, safety)
    seen = safety or advance(scope)
    return Decision(
        progress=replace(wait_for_gateway(scope, seen.progress, scope.stable), applies=(), deletes=()),
        rollout=paused(scope.rollout if safety is None else safety.state, scope.now),
        layout=as_found(scope),
        stable=scope.stable,
        history=scope.status.history,
        wake=None if safety is None else safety.progress.wake,
    )


def make_view(scope: Scope, decision: Decision) -> View:
    """What status is made from."""
    stable = decision.stable
    layout = decision.layout
    return View(
        scope=scope,
        progress=decision.progress,
        stable=stable,
        pods=count_serving(scope, layout, stable or scope.revision),
        trouble=None if stable is None else find_trouble(scope, stable),
        record=decision.progress.record or scope.records.get(scope.revision),
        rollout=describe(scope, decision.rollout, layout),
        serving=() if stable is None else serving_revisions(layout, stable),
    )


def _upkeep(scope: Scope, layout: Layout, held: frozenset[str], stable: str | None) -> tuple[Apply, ...]:
    """Keep what serves as it was recorded, and the traffic where it belongs. The wanted revision keeps itself."""
    applies: list[Apply] = []
    for revision, replicas in layout.replicas.items():
        record = scope.records.get(revision)
        if record is None or revision not in held or (revision == scope.revision and _keeps_itself(scope, layout)):
            continue
        applies += keep_serving(scope, record, replicas=replicas)
    return (*applies, *(() if stable is None else (*keep_traffic(scope, layout, stable), *keep_autoscaler(scope))))


def _keeps_itself(scope: Scope, layout: Layout) -> bool:
    """Whether the wanted revision's own progress applies its objects; one that goes back has none."""
    return scope.revision == scope.stable or not layout.returns


def _history(scope: Scope, rollout: Rollout, stable: str | None) -> tuple[HistoryEntry, ...]:
    if stable is not None and stable != scope.stable:
        return history.after_switch(scope, stable=stable)
    if rollout.progress.stage is Stage.FAILED and scope.revision != stable:
        return history.after_failure(scope, rollout.progress)
    dropped = rollout.state.revision
    if rollout.layout.returns and dropped is not None and dropped != scope.revision:
        return history.after_drop(scope, dropped=dropped)
    return history.while_going(scope)


def _owned(scope: Scope, applies: Iterable[Apply]) -> tuple[Apply, ...]:
    foreign = {(ref.kind, ref.name) for ref in scope.observed.foreign}
    return tuple(apply for apply in applies if (apply.body["kind"], name_of(apply.body)) not in foreign)


def _unique(bodies: Iterable[Body]) -> tuple[Body, ...]:
    unique = {(_GOING.index(body["kind"]), name_of(body)): body for body in bodies if not is_deleting(body)}
    return tuple(unique[key] for key in sorted(unique))


def _notes(scope: Scope, decision: Decision) -> tuple[str, ...]:
    progress = decision.progress
    notes = [f"revision {scope.revision} {progress.stage.value}: {progress.message}"]
    if decision.stable != scope.stable:
        notes.append(f"revision {decision.stable} is stable, after {scope.stable or 'none'}: {progress.message}")
    return tuple(notes)
