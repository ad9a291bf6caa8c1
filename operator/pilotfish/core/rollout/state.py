"""What a rollout remembers between two passes, and how that changes. All of it is `status.rollout`."""

from datetime import datetime, timedelta

from pilotfish.api.conditions import timestamp
from pilotfish.api.rollout_status import RolloutStage, RolloutStatus, StepStatus
from pilotfish.core.failures import parse_time
from pilotfish.core.rollout.steps import ResolvedStep

TAKES_REQUESTS = frozenset({RolloutStage.STEPPING, RolloutStage.PROMOTING, RolloutStage.BAKING})
"""Stages in which the candidate may have requests."""
_LASTING = {"last_action_id", "action_message", "undo", "aborted"}
_TIMES = (
    ("stage_started_at",),
    ("unconfirmed_since",),
    ("step", "started_at"),
    ("step", "ready_at"),
    ("analysis", "started_at"),
    ("analysis", "measured_at"),
    ("analysis", "no_data_since"),
)


def lasting(state: RolloutStatus) -> RolloutStatus:
    """What outlives the candidate: the actions and the last abort."""
    return RolloutStatus(**{name: getattr(state, name) for name in _LASTING})


def begin(state: RolloutStatus, revision: str, now: datetime) -> RolloutStatus:
    """A candidate at its first stage; what was known of another one is forgotten."""
    return lasting(state).model_copy(
        update={
            "revision": revision,
            "stage": RolloutStage.STARTING,
            "stage_started_at": timestamp(now),
            "promotion": state.promotion if state.revision in {None, revision} else None,
            "aborted": None,
        }
    )


def enter(state: RolloutStatus, stage: RolloutStage, now: datetime) -> RolloutStatus:
    """The next stage. Counts of the one before mean nothing there."""
    begun = {"stage": stage, "stage_started_at": timestamp(now)}
    return state.model_copy(update={**begun, "step": None, "unconfirmed_since": None, "analysis": None})


def at_step(state: RolloutStatus, step: ResolvedStep, now: datetime) -> RolloutStatus:
    """The candidate at the beginning of a step."""
    begun = StepStatus(index=step.index, weight=step.weight, hash=step.hash, started_at=timestamp(now))
    return state.model_copy(update={"step": begun, "unconfirmed_since": None, "analysis": None})


def reached(state: RolloutStatus, now: datetime) -> RolloutStatus:
    """The step has its share: hold and analysis count from the first time that this was so."""
    if state.step is None or state.step.ready_at is not None:
        return state
    return state.model_copy(update={"step": state.step.model_copy(update={"ready_at": timestamp(now)})})


def paused(state: RolloutStatus, now: datetime) -> RolloutStatus:
    """Held by the user from now on."""
    return state if state.paused_at else state.model_copy(update={"paused_at": timestamp(now)})


def resumed(state: RolloutStatus, now: datetime) -> RolloutStatus:
    """On its way again: the time in between counts towards nothing."""
    if state.paused_at is None:
        return state
    return _shifted(state, now - parse_time(state.paused_at)).model_copy(update={"paused_at": None})


def _shifted(state: RolloutStatus, by: timedelta) -> RolloutStatus:
    for *path, name in _TIMES:
        block = getattr(state, path[0]) if path else state
        moment = None if block is None else getattr(block, name)
        if moment is None:
            continue
        moved = block.model_copy(update={name: timestamp(parse_time(moment) + by)})
        state = state.model_copy(update={path[0]: moved}) if path else moved
    return state
