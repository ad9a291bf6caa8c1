"""What status tells of a rollout: who has the requests, the share asked for, given and measured, the step."""

from pilotfish.api.rollout_status import RolloutStage, RolloutStatus, TrafficStatus
from pilotfish.core.rollout.layout import Layout, Share, mode_of, stored_share
from pilotfish.core.rollout.pods import Pods, count_pods
from pilotfish.core.rollout.routes import assigned_weights, uses_routes
from pilotfish.core.rollout.shadow import shadow_endpoints
from pilotfish.core.rollout.split import achievable_by, split_warning_by
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.core.scope import Scope

_GATEWAY = "Gateway"
_REPLICAS = "Replicas"


def count_serving(scope: Scope, layout: Layout, stable: str) -> Pods:
    """The pods that requests reach."""
    if layout.other is None or layout.share is Share.STABLE or layout.other == stable:
        return count_pods(scope, stable, wanted=layout.replicas.get(stable, scope.spec.serving.replicas))
    chosen = (layout.other,) if layout.share is Share.OTHER else (stable, layout.other)
    counted = [count_pods(scope, revision, wanted=layout.replicas.get(revision, 0)) for revision in chosen]
    return Pods(
        wanted=sum(pods.wanted for pods in counted),
        asked=sum(pods.asked for pods in counted),
        total=sum(pods.total for pods in counted),
        ready=sum(pods.ready for pods in counted),
        complete=all(pods.complete for pods in counted),
        exists=any(pods.exists for pods in counted),
    )


def serving_revisions(layout: Layout, stable: str) -> tuple[str, ...]:
    """Who the requests reach, stable first."""
    if layout.other is None or layout.share is Share.STABLE or layout.other == stable:
        return (stable,)
    return (layout.other,) if layout.share is Share.OTHER else (stable, layout.other)


def describe(scope: Scope, state: RolloutStatus, layout: Layout) -> RolloutStatus:
    """The state with what is known about the traffic; `achieved` stays as it was measured last."""
    if state.stage not in {RolloutStage.STEPPING, RolloutStage.PROMOTING, RolloutStage.BAKING} or scope.stable is None:
        return state.model_copy(update={"traffic": None})
    gateway = uses_routes(scope)
    desired = state.step.weight if state.step else 100 if layout.share is Share.OTHER else None
    warning = None
    if state.step and not gateway:
        warning = split_warning_by(mode_of(state), scope.spec.serving.replicas, state.step.weight)
    traffic = TrafficStatus(
        desired=0 if layout.returns else desired,
        assigned=_assigned(scope, layout),
        achieved=state.traffic.achieved if state.traffic else None,
        source=_GATEWAY if gateway else _REPLICAS,
        achievable=() if gateway or not state.step else achievable_by(mode_of(state), scope.spec.serving.replicas),
        message=warning,
    )
    return state.model_copy(update={"traffic": traffic})


def describe_step(scope: Scope, state: RolloutStatus | None) -> str | None:
    """`2/4 25%` while a canary is at a step."""
    steps = resolve_steps(scope.spec.rollout)
    if state is None or state.step is None or state.aborted is not None or state.step.index >= len(steps):
        return None
    if state.revision != scope.revision:
        return None  # The step of one that leaves.
    return f"{state.step.index + 1}/{len(steps)} {state.step.weight}%"


def _assigned(scope: Scope, layout: Layout) -> int | None:
    """Percent that the world gives the candidate as it was read."""
    if layout.other is None:
        return None
    share = stored_share(scope, layout.other)
    if uses_routes(scope):
        stored = assigned_weights(scope)
        total = sum(stored.values()) if stored else 0
        return round(100 * stored.get(layout.other, 0) / total) if stored and total else None
    if share is Share.BOTH:
        ready = count_pods(scope, layout.other).ready
        total = ready + count_pods(scope, scope.stable or "").ready + shadow_endpoints(scope)
        return round(100 * ready / total) if total else None
    return {Share.OTHER: 100, Share.STABLE: 0}.get(share) if share else None
