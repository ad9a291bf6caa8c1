"""What a candidate waits for although nothing is wrong with it: a maintenance window, a plan that is told first."""

from dataclasses import replace

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.layout import Layout, Share, at_rest
from pilotfish.core.rollout.moving import move, stay
from pilotfish.core.rollout.room import step_pods
from pilotfish.core.rollout.turn import SOON, Rollout, Turn, give_up, heading, sooner
from pilotfish.core.rollout.windows import window_state

_STAGES = {
    RolloutStage.STARTING: Stage.STARTING,
    RolloutStage.VERIFYING: Stage.VERIFYING,
    RolloutStage.STEPPING: Stage.CANARYING,
    RolloutStage.PROMOTING: Stage.PROMOTING,
    RolloutStage.BAKING: Stage.BAKING,
}


def held_by_window(turn: Turn) -> Rollout | None:
    """More traffic, or fewer pods for the stable revision, only while a maintenance window is open."""
    scope = turn.scope
    state = window_state(scope.spec.rollout.maintenance_windows, scope.now)
    if state.open or scope.stable is None:
        return None
    title = f"{_title(turn)}: " if turn.state.stage is not RolloutStage.STARTING else ""
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
        message=f"{title}{when}",
        wake=sooner(progress.wake, state.opens_at),
    )
    return Rollout(progress=waiting, state=turn.state, layout=layout)


def untold_plan(turn: Turn) -> Rollout | None:
    """What will be stopped stands in status before it is stopped."""
    stored = turn.scope.status.rollout
    told = stored is not None and stored.revision == turn.scope.revision and stored.capacity is not None
    if told and stored is not None and stored.capacity and stored.capacity.plan == turn.mode:
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
    return Rollout(progress=progress, state=turn.state, layout=at_rest(turn.scope))


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
