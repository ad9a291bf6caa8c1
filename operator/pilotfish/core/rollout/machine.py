"""The step machine: one pass takes a candidate as far as what was observed allows.

STARTING → VERIFYING → STEPPING (a canary's steps) → PROMOTING → BAKING → stable. Each stage is one function; it either
stays, with what it waits for, or hands the next state on. Nothing here looks at a clock or asks anybody.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import AnalysisVerdict, RolloutStage, RolloutStatus, VerificationStatus
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.actions import FULL
from pilotfish.core.rollout.following import heed_gateway, silent_until
from pilotfish.core.rollout.judging import judge_candidate
from pilotfish.core.rollout.layout import Layout, Share, arrival, at_rest
from pilotfish.core.rollout.moving import lost_pods, move, stay, while_nobody_else_serves
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.rollout.room import first_pods, keep_plan, room_overdue
from pilotfish.core.rollout.state import at_step, begin, enter, lasting
from pilotfish.core.rollout.stepping import stepping
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.core.rollout.turn import Rollout, Turn, abort, done, give_up, sooner
from pilotfish.core.rollout.verification import advance_verification
from pilotfish.core.rollout.waiting import held_by_window, unplaced, untold_plan
from pilotfish.core.scope import Scope


def advance_rollout(scope: Scope, artifact: Progress) -> Rollout:
    """One pass for a wanted revision that is not stable."""
    state = scope.rollout
    if artifact.record is None or artifact.stage is Stage.FAILED:
        fresh = state if state.revision == scope.revision else lasting(state).model_copy(update={"aborted": None})
        if artifact.stage is Stage.FAILED:
            return give_up(scope, fresh, artifact)
        return Rollout(progress=artifact, state=fresh, layout=at_rest(scope))
    if state.revision != scope.revision or state.aborted is not None or not _has_come_so_far(scope, state):
        state = begin(state, scope.revision, scope.now)
    steps = resolve_steps(scope.spec.rollout)
    while True:
        turn = Turn(scope=scope, artifact=artifact, state=state, steps=steps)
        outcome = _HANDLERS[state.stage or RolloutStage.STARTING](turn)
        if isinstance(outcome, Rollout):
            return replace(outcome, layout=while_nobody_else_serves(turn, outcome.layout))
        state = outcome


def _has_come_so_far(scope: Scope, state: RolloutStatus) -> bool:
    """Whether the pods that came to this stage still stand: what was verified of others says nothing."""
    if state.stage in {None, RolloutStage.STARTING}:
        return state.stage is not None
    return count_pods(scope, scope.revision).exists


def _starting(turn: Turn) -> Rollout | RolloutStatus:
    """Its first pods, in a place that was planned and told before anything is stopped for it."""
    scope = turn.scope
    if turn.replicas == 0:
        return _resting(turn)
    state, blocked = keep_plan(scope, turn.state)
    turn = replace(turn, state=state)
    if turn.mode is not Capacity.SURGE:
        held = held_by_window(turn) or untold_plan(turn) or unplaced(turn)
        if held is not None:
            return held
    wanted = first_pods(scope, turn.mode, turn.steps)
    stable_target = {Capacity.SURGE: turn.replicas, Capacity.SWAP: turn.replicas - 1}.get(turn.mode, 0)
    layout, progress = move(turn, stable=stable_target, candidate=wanted, share=Share.STABLE)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    overdue = room_overdue(scope, turn.mode)
    if overdue is not None:
        return abort(turn, overdue.reason, f"The room goes back to revision {scope.stable}: {overdue.message}")
    if progress.stage is Stage.READY:
        return enter(state, RolloutStage.VERIFYING, scope.now)
    if blocked is not None and progress.held_up:
        progress = replace(progress, reason=blocked.reason, message=blocked.message)
    return Rollout(progress=progress, state=state, layout=layout)


def _resting(turn: Turn) -> Rollout:
    """No pods are asked for, and nothing can be verified without one: it is stable once its first pods have passed."""
    state = turn.state.model_copy(update={"capacity": None})
    layout, progress = move(turn, stable=0, candidate=0, share=Share.STABLE)
    if progress.stage is Stage.FAILED:
        return give_up(turn.scope, state, progress)
    if progress.stage is Stage.READY:
        message = f"Revision {turn.scope.revision} is verified once pods are asked for"
        progress = replace(progress, reason=Reason.SCALED_TO_ZERO, message=message)
    return Rollout(progress=progress, state=state, layout=layout)


def _verifying(turn: Turn) -> Rollout | RolloutStatus:
    """The golden set through the loaded server; no traffic before it passes."""
    scope, state = turn.scope, turn.state
    verified = state.verification is not None and state.verification.verdict is AnalysisVerdict.PASS
    if not verified and turn.replicas == 0:
        return enter(state, RolloutStage.STARTING, scope.now)
    layout, progress = stay(turn, share=Share.STABLE)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    passed = state if verified else _verify(turn, layout, progress)
    if isinstance(passed, Rollout):
        return passed
    turn = replace(turn, state=passed)
    if scope.stable is None and progress.stage is not Stage.READY:
        return Rollout(progress=progress, state=passed, layout=layout)  # Scaled, or hurt, while it was verified.
    if scope.stable is None:
        return Rollout(progress=done(turn, progress), state=lasting(passed), layout=layout, promoted=True)
    return held_by_window(turn) or _after_verification(turn)


def _verify(turn: Turn, layout: Layout, progress: Progress) -> Rollout | RolloutStatus:
    """The state of a revision that has passed, else what it waits for or why it goes back."""
    record = turn.artifact.record
    assert record is not None  # noqa: S101 - a candidate has its artifact before it has a turn
    told = advance_verification(turn.scope, record)
    if told.verdict in {AnalysisVerdict.FAIL, AnalysisVerdict.ERROR}:
        return abort(turn, told.reason, told.message, verdict=told.verdict)
    if told.verdict is None:
        waiting = replace(
            progress,
            stage=Stage.VERIFYING,
            reason=told.reason,
            message=told.message,
            held_up=told.held_up,
            applies=(*progress.applies, *told.applies),
            deletes=(*progress.deletes, *told.deletes),
            wake=sooner(progress.wake, told.wake),
        )
        return Rollout(progress=waiting, state=_with_errors(turn.state, told.errors), layout=layout)
    passed = VerificationStatus(verdict=told.verdict, message=told.message, at=timestamp(turn.scope.now))
    return turn.state.model_copy(update={"verification": passed})


def _with_errors(state: RolloutStatus, errors: int) -> RolloutStatus:
    """How often the verification could not be made, for its budget."""
    if errors == 0 and state.verification is None:
        return state
    counted = VerificationStatus(verdict=AnalysisVerdict.NOT_RUN, errors=errors)
    return state.model_copy(update={"verification": counted})


def _after_verification(turn: Turn) -> RolloutStatus:
    """Steps only where somebody serves to be compared with and the room lets both serve."""
    comparable = turn.stable.ready > 0 and turn.replicas > 0 and turn.mode is not Capacity.RECREATE
    if not turn.steps or not comparable or turn.state.promotion == FULL:
        return enter(turn.state, RolloutStage.PROMOTING, turn.scope.now)
    return at_step(enter(turn.state, RolloutStage.STEPPING, turn.scope.now), turn.steps[0], turn.scope.now)


def _promoting(turn: Turn) -> Rollout | RolloutStatus:
    """All of its pods, then all of the traffic."""
    scope = turn.scope
    keep = turn.replicas if turn.mode is Capacity.SURGE else 0
    weight = turn.steps[-1].weight if turn.steps else 0
    share = _share_on_the_way(turn)
    layout, progress = move(turn, stable=keep, candidate=turn.replicas, share=share, weight=weight, takes_over=True)
    if progress.stage is Stage.READY:
        layout = replace(layout, share=Share.OTHER, weight=100)
    arrived = arrival(scope, layout)
    heeded = lost_pods(turn, progress, "promotion") or heed_gateway(turn, arrived, "promotion")
    if isinstance(heeded, Rollout):
        return heeded
    turn, state = heeded, heeded.state
    if progress.stage is Stage.READY:
        if arrived.there:
            return _arrived(turn, layout, progress)
        progress = replace(progress, message=f"All of the traffic goes to revision {scope.revision}")
        if arrived.reason is not Reason.CANARYING:
            progress = replace(progress, reason=arrived.reason, message=arrived.message)
    reason = progress.reason if progress.held_up or progress.stage is Stage.READY else Reason.PROMOTING
    if reason is Reason.ALL_PODS_READY:
        reason = Reason.PROMOTING
    wake = sooner(progress.wake, turn.look_again, silent_until(turn))
    going = replace(progress, stage=Stage.PROMOTING, reason=reason, wake=wake)
    return Rollout(progress=going, state=state, layout=layout)


def _arrived(turn: Turn, layout: Layout, progress: Progress) -> Rollout | RolloutStatus:
    bake = turn.scope.spec.rollout.bake
    if bake is not None and parse_duration(bake) > timedelta() and turn.state.promotion != FULL:
        return enter(turn.state, RolloutStage.BAKING, turn.scope.now)
    return Rollout(progress=done(turn, progress), state=lasting(turn.state), layout=layout, promoted=True)


def _baking(turn: Turn) -> Rollout | RolloutStatus:
    """All of the traffic, judged a while longer, with the old revision kept as far as there is room."""
    scope, state = turn.scope, turn.state
    keep = turn.replicas if turn.mode is Capacity.SURGE else 0
    layout, progress = move(turn, stable=keep, candidate=turn.replicas, share=Share.OTHER, weight=100)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    began = parse_time(state.stage_started_at) if state.stage_started_at else scope.now
    judged = judge_candidate(scope, state, since=began, baking=True)
    turn = replace(turn, state=judged.state)
    if judged.abort is not None:
        return abort(turn, judged.abort, f"Aborted while it baked: {judged.message}")
    over = began + parse_duration(scope.spec.rollout.bake or "0s")
    if scope.now >= over or state.promotion is not None:
        return Rollout(progress=done(turn, progress), state=lasting(judged.state), layout=layout, promoted=True)
    staying = replace(
        progress,
        stage=Stage.BAKING,
        reason=Reason.BAKING,
        message=f"Revision {scope.revision} has all of the traffic; revision {scope.stable} is kept for "
        f"{scope.spec.rollout.bake}",
        wake=sooner(judged.wake, over),
    )
    return Rollout(progress=staying, state=judged.state, layout=layout)


def _share_on_the_way(turn: Turn) -> Share:
    """A canary keeps its share until all of its pods are there; swapped pods serve as they come."""
    shares = turn.mode is Capacity.SWAP or (turn.steps and turn.mode is Capacity.SURGE)
    return Share.BOTH if shares else Share.STABLE


_HANDLERS: Mapping[RolloutStage, Callable[[Turn], Rollout | RolloutStatus]] = {
    RolloutStage.STARTING: _starting,
    RolloutStage.VERIFYING: _verifying,
    RolloutStage.STEPPING: stepping,
    RolloutStage.PROMOTING: _promoting,
    RolloutStage.BAKING: _baking,
}
