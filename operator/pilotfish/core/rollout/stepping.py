"""The steps of a canary: a share of the requests, for as long as the step holds and the numbers are good."""

from dataclasses import replace
from datetime import datetime, timedelta

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStage, RolloutStatus
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.actions import FULL, STEP
from pilotfish.core.rollout.following import heed_gateway, silent_until
from pilotfish.core.rollout.judging import Judged, judge_candidate
from pilotfish.core.rollout.layout import Layout, Share, arrival
from pilotfish.core.rollout.moving import lost_pods, move
from pilotfish.core.rollout.room import step_pods
from pilotfish.core.rollout.shadow import keep_shadow, shadow_ready, shadow_trouble
from pilotfish.core.rollout.state import at_step, enter, reached
from pilotfish.core.rollout.steps import ResolvedStep
from pilotfish.core.rollout.turn import Rollout, Turn, abort, heading, sooner
from pilotfish.core.rollout.waiting import held_by_window


def stepping(turn: Turn) -> Rollout | RolloutStatus:
    """A share of the requests, for as long as the step holds and the numbers are good."""
    scope, state, step = turn.scope, turn.state, turn.state.step
    if not turn.steps or state.promotion == FULL:
        return held_by_window(turn) or enter(state, RolloutStage.PROMOTING, scope.now)
    if step is None or step.hash != turn.steps[0].hash or step.index >= len(turn.steps):
        return at_step(state, turn.steps[0], scope.now)
    current = turn.steps[step.index]
    stable, wanted = step_pods(scope, turn.mode, current.weight)
    layout, progress = move(turn, stable=stable, candidate=wanted, share=Share.BOTH, weight=current.weight)
    arrived = arrival(scope, layout)
    heeded = lost_pods(turn, progress, current.title) or heed_gateway(turn, arrived, current.title)
    if isinstance(heeded, Rollout):
        return heeded
    turn, state = heeded, heeded.state
    progress = replace(progress, applies=(*progress.applies, *keep_shadow(scope, state)))
    spread = layout.replicas.get(scope.stable or "") == stable and progress.stage is Stage.READY
    if not (spread and arrived.there):
        said = arrived.message if spread else progress.message
        reason = arrived.reason if spread and arrived.message else Reason.CANARYING
        waiting = replace(
            progress,
            stage=Stage.CANARYING,
            reason=reason,
            message=f"{heading(current)}: {said}",
            wake=sooner(turn.look_again, silent_until(turn)),
        )
        return Rollout(progress=waiting, state=state, layout=layout)
    if step.ready_at is None and not shadow_ready(scope):
        return _wait_for_shadow(turn, current, layout, progress)
    turn = replace(turn, state=reached(state, scope.now))
    return _judge_step(turn, current, layout, progress)


def _wait_for_shadow(turn: Turn, current: ResolvedStep, layout: Layout, progress: Progress) -> Rollout:
    """Nothing counts before answers are compared; once they are, silence of the shadow is for the analysis to judge."""
    trouble = shadow_trouble(turn.scope)
    if trouble.fatal:
        return abort(turn, trouble.reason, f"Aborted at {current.title}: {trouble.message}")
    waiting = replace(
        progress,
        stage=Stage.CANARYING,
        reason=trouble.reason,
        message=f"{heading(current)}: {trouble.message}",
        held_up=trouble.reason is not Reason.CANARYING,
    )
    return Rollout(progress=waiting, state=turn.state, layout=layout)


def _judge_step(turn: Turn, current: ResolvedStep, layout: Layout, progress: Progress) -> Rollout | RolloutStatus:
    scope, state = turn.scope, turn.state
    began = parse_time(state.step.ready_at) if state.step and state.step.ready_at else scope.now
    judged = judge_candidate(scope, state, since=began)
    turn = replace(turn, state=judged.state)
    if judged.abort is not None:
        return abort(turn, judged.abort, f"Aborted at {current.title}: {judged.message}")
    if judged.state.promotion == STEP:
        return held_by_window(turn, wake=judged.wake) or _next_step(
            replace(turn, state=judged.state.model_copy(update={"promotion": None})), current
        )
    over = None if current.hold is None else began + current.hold
    if over is not None and scope.now >= over and judged.may_proceed:
        return held_by_window(turn, wake=judged.wake) or _next_step(turn, current)
    reason, message = _why_it_stays(current, judged, over, scope.now)
    wake = sooner(judged.wake, over if over is not None and over > scope.now else None)
    staying = replace(
        progress, stage=Stage.CANARYING, reason=reason, message=f"{heading(current)}: {message}", wake=wake
    )
    return Rollout(progress=staying, state=judged.state, layout=layout)


def _why_it_stays(current: ResolvedStep, judged: Judged, over: datetime | None, now: datetime) -> tuple[Reason, str]:
    if over is None and judged.may_proceed:
        return Reason.HOLDING, "holds until it is promoted (action promote)"
    if over is not None and now < over:
        return Reason.CANARYING, f"holds for {_words(current.hold)}"
    return judged.reason or Reason.CANARYING, judged.message or "waits for good measurements"


def _next_step(turn: Turn, current: ResolvedStep) -> RolloutStatus:
    if current.index + 1 < len(turn.steps):
        return at_step(turn.state, turn.steps[current.index + 1], turn.scope.now)
    return enter(turn.state, RolloutStage.PROMOTING, turn.scope.now)


def _words(hold: timedelta | None) -> str:
    seconds = 0 if hold is None else hold.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"  # noqa: PLR2004
