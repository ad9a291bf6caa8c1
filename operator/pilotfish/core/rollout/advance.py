"""Which way a pass goes: somebody else's object in the way, a failure, a revision that leaves first, or one step on."""

from dataclasses import replace
from datetime import timedelta

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.access import access_names
from pilotfish.core.artifact import advance_artifact
from pilotfish.core.autoscaling import autoscaler_names
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.judging import judge_candidate
from pilotfish.core.rollout.layout import as_found, at_rest, go_back
from pilotfish.core.rollout.machine import advance_rollout
from pilotfish.core.rollout.routes import route_names
from pilotfish.core.rollout.state import lasting
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.core.rollout.turn import Rollout, give_up
from pilotfish.core.scope import Scope
from pilotfish.core.serving import advance_serving
from pilotfish.resources.storage import bucket_uri

_LOOK_AGAIN_FOR_FOREIGN = timedelta(seconds=60)


def advance(scope: Scope) -> Rollout:
    """How far the wanted revision is, and its next step."""
    blocked = find_foreign(scope)
    if blocked is not None:
        return Rollout(progress=blocked, state=scope.rollout, layout=as_found(scope))
    leaving = left_behind(scope)
    if leaving is not None:
        return _after(scope, leaving)
    if scope.revision == scope.stable:
        progress = advance_serving(scope, advance_artifact(scope), replicas=scope.spec.serving.replicas)
        ready = progress.stage is Stage.READY
        return Rollout(progress=progress, state=lasting(scope.rollout), layout=at_rest(scope), promoted=ready)
    failure = _failure(scope)
    if failure is not None:
        return give_up(scope, scope.rollout, failure)
    return advance_rollout(scope, advance_artifact(scope))


def guard(scope: Scope) -> Rollout | None:
    """While paused: judge what has requests, go back when it is bad or when that is ordered, and nothing else.

    None when there is nothing to watch.
    """
    if scope.stable is None or scope.revision == scope.stable:
        return None
    failure = _failure(scope)
    if failure is not None:
        return give_up(scope, scope.rollout, failure)
    state = scope.rollout
    baking = state.stage is RolloutStage.BAKING
    since = state.stage_started_at if baking else state.step.ready_at if state.step else None
    if (
        state.revision != scope.revision
        or since is None
        or state.stage not in {RolloutStage.STEPPING, RolloutStage.BAKING}
    ):
        return None
    judged = judge_candidate(scope, state, since=parse_time(since), baking=baking)
    waiting = Progress(
        stage=Stage.CANARYING,
        reason=Reason.PAUSED,
        message="Paused",
        record=scope.records.get(scope.revision),
        wake=judged.wake,
    )
    if judged.abort is not None:
        steps = resolve_steps(scope.spec.rollout)
        where = (
            "while it baked"
            if baking or not steps or not state.step
            else f"at step {state.step.index + 1}/{len(steps)}"
        )
        failed = replace(waiting, stage=Stage.FAILED, reason=judged.abort, message=f"Aborted {where}: {judged.message}")
        return give_up(scope, judged.state, failed)
    return Rollout(progress=waiting, state=judged.state, layout=as_found(scope))


def left_behind(scope: Scope) -> str | None:
    """A former candidate whose pods still stand although another revision is asked for."""
    former = scope.rollout.revision
    if former is None or former in {scope.revision, scope.stable} or former not in scope.serving_revisions():
        return None
    return former


def _after(scope: Scope, leaving: str) -> Rollout:
    """The one that leaves goes back first; the wanted one's artifact is made meanwhile."""
    state = scope.rollout
    layout = go_back(scope, state, leaving)
    artifact = advance_artifact(scope)
    if scope.revision == scope.stable:
        wanted = layout.replicas.get(scope.revision, 0)
        progress = advance_serving(scope, artifact, replicas=wanted)
        if progress.stage is Stage.READY and wanted != scope.spec.serving.replicas:
            progress = replace(progress, stage=Stage.STARTING, reason=Reason.STARTING)
        # Its own pods are all ready: that another one drains beside it changes nothing for it.
        return Rollout(progress=progress, state=state, layout=layout, promoted=progress.stage is Stage.READY)
    if artifact.record is None or artifact.stage is Stage.FAILED:
        return Rollout(progress=artifact, state=state, layout=layout)
    message = f"Revision {scope.revision} waits until revision {leaving} has gone"
    return Rollout(progress=replace(artifact, message=message), state=state, layout=layout)


def _failure(scope: Scope) -> Progress | None:
    """Why the wanted revision goes no further: it failed before, or the user gives it up now."""
    failed = scope.failure_on_record()
    if failed is not None:
        return Progress(stage=Stage.FAILED, reason=_reason(failed.reason), message=failed.message or "It failed before")
    if not scope.orders.abort:
        return None
    state, steps = scope.rollout, resolve_steps(scope.spec.rollout)
    at_step = state.revision == scope.revision and state.step is not None and state.step.index < len(steps)
    where = f" at {steps[state.step.index].title}" if at_step and state.step else ""
    return Progress(
        stage=Stage.FAILED,
        reason=Reason.ABORTED_BY_USER,
        message=f"Aborted{where} by action {scope.orders.id}",
        record=scope.records.get(scope.revision),
    )


def find_foreign(scope: Scope) -> Progress | None:
    """An object of somebody else under a name that is needed: reported, never overwritten."""
    name = scope.owner.name
    revision = names.revision_name(name, scope.revision)
    needed = {
        *(() if bucket_uri(scope.spec.storage) else {("PersistentVolumeClaim", names.store_claim(name))}),
        ("Job", names.optimize_job(name, scope.revision)),
        ("Job", names.verify_job(name, scope.revision)),
        *({("Deployment", names.shadow(name, scope.revision))} if scope.spec.rollout.shadow else ()),
        *((kind, revision) for kind in ("ControllerRevision", "ConfigMap", "Service", "Deployment")),
        ("Service", names.traffic_service(name)),
        ("PodDisruptionBudget", names.traffic_service(name)),
        *access_names(scope),
        *autoscaler_names(scope.spec, name),
        *({("Deployment", names.certificate_watcher(name))} if scope.spec.serving.access.tls else ()),
        *route_names(scope),
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


def _reason(text: str | None) -> Reason:
    """A stored reason; one that another version wrote and this one does not know is an internal error."""
    return Reason(text) if text in set(Reason) else Reason.INTERNAL_ERROR
