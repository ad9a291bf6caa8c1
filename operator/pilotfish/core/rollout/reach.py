"""Whether clients of the gateway reach what is stable. Those inside the cluster are served without it.

A gateway takes a changed route over within seconds: for that long nobody who was reached before is called unreached.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from pilotfish.api.conditions import Condition, ConditionStatus, ConditionType
from pilotfish.api.reasons import Reason
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.routes import RoutesState, assigned_weights, routes_state
from pilotfish.core.rollout.turn import sooner
from pilotfish.core.scope import Scope

PATIENCE = timedelta(seconds=10)
_LOOK_FOR_GATEWAY_API = timedelta(seconds=60)


def wait_for_gateway(scope: Scope, progress: Progress, stable: str | None) -> Progress:
    """The progress of a revision that serves, with what its gateway still has to do; anything else as it is.

    `stable` is the stable revision after this pass.
    """
    if progress.stage is not Stage.READY or stable is None or stable != scope.revision:
        return progress
    state = _state(scope, stable)
    if state.ready:
        return progress
    reason = state.reason or Reason.WAITING_FOR_ROUTES
    # Nobody tells when a kind comes to be served; of routes every change is told.
    again = scope.now + _LOOK_FOR_GATEWAY_API if reason is Reason.GATEWAY_UNAVAILABLE else None
    wake = sooner(progress.wake, overlooked_until(scope), again)
    return replace(progress, stage=Stage.STARTING, reason=reason, message=state.message, held_up=True, wake=wake)


def waits_for_gateway(progress: Progress) -> bool:
    """Whether its pods are ready and its gateway alone is missing."""
    return progress.stage is Stage.STARTING and progress.reason in {
        Reason.WAITING_FOR_ROUTES,
        Reason.GATEWAY_UNAVAILABLE,
    }


def overlooked_until(scope: Scope) -> datetime | None:
    """Until when a gateway that does not follow changes nothing for Ready; None when that is over or never was so."""
    stored = {condition.type: condition for condition in scope.status.conditions}
    if scope.spec.paused or not _was_ready(scope, stored.get(ConditionType.READY)):
        return None
    waiting = stored.get(ConditionType.PROGRESSING)
    begun = waiting is not None and waiting.status == ConditionStatus.TRUE
    until = (parse_time(waiting.last_transition_time) if waiting and begun else scope.now) + PATIENCE
    return until if until > scope.now else None


def _was_ready(scope: Scope, ready: Condition | None) -> bool:
    """Another spec is waited for from its first moment."""
    generation = scope.observed.generation
    return ready is not None and ready.status == ConditionStatus.TRUE and ready.observed_generation == generation


def _state(scope: Scope, stable: str) -> RoutesState:
    """Whether all requests go to it, by routes that every gateway has taken over; others may stand there with 0."""
    stored = assigned_weights(scope) or {}
    alone = {revision for revision, weight in stored.items() if weight > 0} == {stable}
    return routes_state(scope, stored if alone else {stable: 100})
