"""What a candidate waits for although nothing is wrong with it: a window, a plan that is told first, its own pods."""

from dataclasses import replace
from datetime import datetime

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.layout import Layout, Share, at_rest
from pilotfish.core.rollout.moving import move, stay
from pilotfish.core.rollout.room import count_placed, step_pods
from pilotfish.core.rollout.turn import SOON, Rollout, Turn, give_up, heading, sooner
from pilotfish.core.rollout.windows import window_state
from pilotfish.core.serving import advance_serving

_STAGES = {
    RolloutStage.STARTING: Stage.STARTING,
    RolloutStage.VERIFYING: Stage.VERIFYING,
    RolloutStage.STEPPING: Stage.CANARYING,
    RolloutStage.PROMOTING: Stage.PROMOTING,
    RolloutStage.BAKING: Stage.BAKING,
}


def held_by_window(turn: Turn, *, wake: datetime | None = None) -> Rollout | None:
    """More traffic, or fewer pods for the stable revision, only while a maintenance window is open.

    What the stable revision gave up already is not left without use. `wake`: when there is something to do meanwhile.
    """
    scope = turn.scope
    state = window_state(scope.spec.rollout.maintenance_windows, scope.now)
    if state.open or scope.stable is None or _has_begun(turn):
        return None
    when = (
        f"waits for its maintenance window, which opens at {timestamp(state.opens_at)}"
        if state.opens_at
        else (f"waits for a maintenance window, and none ever opens: {state.message or 'correct them'}")
    )
    layout, progress = (
        (at_rest(scope), turn.artifact) if turn.state.stage is RolloutStage.STARTING else _as_in_stage(turn)
    )
    if progress.stage is Stage.FAILED:
        return give_up(scope, turn.state, progress)
    waiting = replace(
        progress,
        stage=_STAGES[turn.state.stage or RolloutStage.STARTING],
        reason=Reason.WAITING_FOR_WINDOW,
        message=f"{_title(turn)}: {when}",
        wake=sooner(progress.wake, state.opens_at, wake),
    )
    return Rollout(progress=waiting, state=turn.state, layout=layout)


def unplaced(turn: Turn) -> Rollout | None:
    """Pods that found no place beside the stable ones go before those give theirs up: fresh ones wait anew."""
    placed = count_placed(turn.scope)
    if turn.stable.asked < turn.replicas or placed >= max(turn.candidate.asked, turn.candidate.total):
        return None
    serving = advance_serving(turn.scope, turn.artifact, replicas=placed)
    message = turn.state.capacity.message if turn.state.capacity else None
    waiting = replace(
        serving,
        stage=Stage.STARTING,
        reason=Reason.STARTING,
        message=message or serving.message,
        wake=sooner(serving.wake, turn.look_again),
    )
    return Rollout(progress=waiting, state=turn.state, layout=at_rest(turn.scope))


def untold_plan(turn: Turn) -> Rollout | None:
    """What will be stopped stands in status before it is stopped."""
    if _told(turn) == turn.mode:
        return None
    message = turn.state.capacity.message if turn.state.capacity else None
    progress = Progress(
        stage=Stage.STARTING,
        reason=Reason.STARTING,
        message=message or "The room for it is planned",
        record=turn.artifact.record,
        summary=turn.artifact.summary,
        applies=turn.artifact.applies,
        wake=turn.scope.now + SOON,
    )
    # Pods that were asked for meanwhile have no place either while an earlier attempt's stand.
    begun = _told(turn) not in {None, Capacity.SURGE} or turn.candidate.asked > 0
    kept = (
        Layout(replicas={turn.scope.stable: turn.stable.asked})
        if begun and turn.stable.exists and turn.scope.stable
        else None
    )
    return Rollout(progress=progress, state=turn.state, layout=kept or at_rest(turn.scope))


def _told(turn: Turn) -> str | None:
    """The plan for the candidate's room as status tells it."""
    stored = turn.scope.status.rollout
    if stored is None or stored.revision != turn.scope.revision or stored.capacity is None:
        return None
    return stored.capacity.plan


def _has_begun(turn: Turn) -> bool:
    """Whether stable pods were stopped for the candidate, so that waiting would leave their place without use."""
    if turn.mode is Capacity.SURGE or _told(turn) != turn.mode or turn.stable.asked >= turn.replicas:
        return False
    return turn.state.stage is RolloutStage.STARTING or turn.stable.asked == 0


def _as_in_stage(turn: Turn) -> tuple[Layout, Progress]:
    """The layout that the stage has reached."""
    if turn.state.stage is RolloutStage.STEPPING and turn.state.step is not None:
        weight = turn.state.step.weight
        stable, wanted = step_pods(turn.scope, turn.mode, weight)
        return move(turn, stable=stable, candidate=wanted, share=Share.BOTH, weight=weight)
    return stay(turn, share=Share.STABLE)


def _title(turn: Turn) -> str:
    step = turn.state.step
    if turn.state.stage is RolloutStage.STEPPING and step is not None and step.index < len(turn.steps):
        return heading(turn.steps[step.index])
    return f"Revision {turn.scope.revision}"
