"""The step machine: one pass takes a candidate as far as what was observed allows.

STARTING → VERIFYING → STEPPING (a canary's steps) → PROMOTING → BAKING → stable. Each stage is one function; it either
stays, with what it waits for, or hands the next state on. Nothing here looks at a clock or asks anybody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import (
    AbortStatus,
    AnalysisVerdict,
    RolloutStage,
    RolloutStatus,
    VerificationStatus,
)
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.actions import FULL, STEP
from pilotfish.core.rollout.judging import Judged, judge_candidate
from pilotfish.core.rollout.layout import Layout, Share, arrival, at_rest, go_back, mode_of, scale_of
from pilotfish.core.rollout.pods import Pods, count_pods, unready_since
from pilotfish.core.rollout.room import first_pods, keep_plan, room_due, room_overdue, step_pods
from pilotfish.core.rollout.scale import make_target, most_weight, next_scale
from pilotfish.core.rollout.state import at_step, begin, enter, lasting, reached
from pilotfish.core.rollout.steps import ResolvedStep, resolve_steps
from pilotfish.core.rollout.verification import advance_verification
from pilotfish.core.rollout.windows import window_state
from pilotfish.core.scope import Scope
from pilotfish.core.serving import advance_serving

SOON = timedelta(seconds=1)
_PHASES = {
    RolloutStage.STARTING: Stage.STARTING,
    RolloutStage.VERIFYING: Stage.VERIFYING,
    RolloutStage.STEPPING: Stage.CANARYING,
    RolloutStage.PROMOTING: Stage.PROMOTING,
    RolloutStage.BAKING: Stage.BAKING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Where one pass leaves the candidate. `promoted`: it is the stable revision from now on."""

    progress: Progress
    state: RolloutStatus
    layout: Layout
    promoted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One pass over one candidate that has its artifact."""

    scope: Scope
    artifact: Progress
    state: RolloutStatus
    steps: tuple[ResolvedStep, ...]

    @property
    def replicas(self) -> int:
        """Pods that the spec asks for."""
        return self.scope.spec.serving.replicas

    @property
    def mode(self) -> Capacity:
        """Where the room comes from."""
        return mode_of(self.state)

    @property
    def stable(self) -> Pods:
        """The stable revision's pods."""
        return count_pods(self.scope, self.scope.stable or "")

    @property
    def candidate(self) -> Pods:
        """The candidate's pods."""
        return count_pods(self.scope, self.scope.revision)


def advance_rollout(scope: Scope, artifact: Progress) -> Rollout:
    """One pass for a wanted revision that is not stable."""
    state = scope.rollout
    if artifact.record is None or artifact.stage is Stage.FAILED:
        fresh = state if state.revision == scope.revision else lasting(state).model_copy(update={"aborted": None})
        if artifact.stage is Stage.FAILED:
            return give_up(scope, fresh, artifact)
        return Rollout(progress=artifact, state=fresh, layout=at_rest(scope))
    if state.revision != scope.revision or state.stage is None:
        state = begin(state, scope.revision, scope.now)
    steps = resolve_steps(scope.spec.rollout)
    while True:
        outcome = _HANDLERS[state.stage or RolloutStage.STARTING](
            Turn(scope=scope, artifact=artifact, state=state, steps=steps)
        )
        if isinstance(outcome, Rollout):
            return outcome
        state = outcome


def give_up(scope: Scope, state: RolloutStatus, failure: Progress) -> Rollout:
    """The candidate has failed, now or in an earlier pass: everything goes back."""
    if state.aborted is None or state.aborted.revision != scope.revision:
        aborted = AbortStatus(
            revision=scope.revision, reason=failure.reason, message=failure.message, at=timestamp(scope.now)
        )
        state = state.model_copy(update={"aborted": aborted, "promotion": None})
    return Rollout(
        progress=replace(failure, stage=Stage.FAILED, applies=()),
        state=state,
        layout=go_back(scope, state, scope.revision),
    )


def _starting(turn: Turn) -> Rollout | RolloutStatus:
    """Its first pods, in a place that was planned and told before anything is stopped for it."""
    scope = turn.scope
    state, blocked = keep_plan(scope, turn.state)
    turn = replace(turn, state=state)
    if turn.mode is not Capacity.SURGE:
        held = _held_by_window(turn) or _untold_plan(turn)
        if held is not None:
            return held
    wanted = first_pods(scope, turn.mode, turn.steps)
    stable_target = {Capacity.SURGE: turn.replicas, Capacity.SWAP: turn.replicas - 1}.get(turn.mode, 0)
    layout, progress = _move(turn, stable=stable_target, candidate=wanted, share=Share.STABLE)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    overdue = room_overdue(scope, turn.mode)
    if overdue is not None:
        return _abort(turn, overdue.reason, f"The room goes back to revision {scope.stable}: {overdue.message}")
    if progress.stage is Stage.READY:
        return enter(state, RolloutStage.VERIFYING, scope.now)
    if blocked is not None and progress.held_up:
        progress = replace(progress, reason=blocked.reason, message=blocked.message)
    return Rollout(progress=progress, state=state, layout=layout)


def _verifying(turn: Turn) -> Rollout | RolloutStatus:
    """The golden set through the loaded server; no traffic before it passes."""
    scope, state = turn.scope, turn.state
    layout, progress = _stay(turn, share=Share.STABLE)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    if state.verification is None or state.verification.verdict is not AnalysisVerdict.PASS:
        record = turn.artifact.record
        assert record is not None  # noqa: S101 - a candidate has its artifact before it has a turn
        told = advance_verification(scope, record)
        if told.verdict in {AnalysisVerdict.FAIL, AnalysisVerdict.ERROR}:
            return _abort(turn, told.reason, told.message, verdict=told.verdict)
        if told.verdict is None:
            waiting = replace(
                progress,
                stage=Stage.VERIFYING,
                reason=told.reason,
                message=told.message,
                held_up=told.held_up,
                applies=(*progress.applies, *told.applies),
                deletes=(*progress.deletes, *told.deletes),
                wake=_sooner(progress.wake, told.wake),
            )
            return Rollout(progress=waiting, state=_with_errors(state, told.errors), layout=layout)
        passed = VerificationStatus(verdict=told.verdict, message=told.message, at=timestamp(scope.now))
        turn = replace(turn, state=state.model_copy(update={"verification": passed}))
    if scope.stable is None:
        return Rollout(progress=_done(turn, progress), state=lasting(turn.state), layout=layout, promoted=True)
    return _held_by_window(turn) or _after_verification(turn)


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


def _stepping(turn: Turn) -> Rollout | RolloutStatus:
    """A share of the requests, for as long as the step holds and the numbers are good."""
    scope, state, step = turn.scope, turn.state, turn.state.step
    if not turn.steps or state.promotion == FULL:
        return _held_by_window(turn) or enter(state, RolloutStage.PROMOTING, scope.now)
    if step is None or step.hash != turn.steps[0].hash or step.index >= len(turn.steps):
        return at_step(state, turn.steps[0], scope.now)
    current = turn.steps[step.index]
    stable, wanted = step_pods(scope, turn.mode, current.weight)
    layout, progress = _move(turn, stable=stable, candidate=wanted, share=Share.BOTH, weight=current.weight)
    stuck = _lost_pods(turn, progress, current.title)
    if stuck is not None:
        return stuck
    arrived = arrival(scope, layout)
    spread = layout.replicas.get(scope.stable or "") == stable and progress.stage is Stage.READY
    if not (spread and arrived.there):
        said = arrived.message if spread else progress.message
        reason = arrived.reason if spread and arrived.message else Reason.CANARYING
        waiting = replace(
            progress,
            stage=Stage.CANARYING,
            reason=reason,
            message=f"{_heading(current)}: {said}",
            wake=scope.now + SOON,
        )
        return Rollout(progress=waiting, state=state, layout=layout)
    turn = replace(turn, state=reached(state, scope.now))
    return _judge_step(turn, current, layout, progress)


def _judge_step(turn: Turn, current: ResolvedStep, layout: Layout, progress: Progress) -> Rollout | RolloutStatus:
    scope, state = turn.scope, turn.state
    began = parse_time(state.step.ready_at) if state.step and state.step.ready_at else scope.now
    judged = judge_candidate(scope, state, since=began)
    turn = replace(turn, state=judged.state)
    if judged.abort is not None:
        return _abort(turn, judged.abort, f"Aborted at {current.title}: {judged.message}")
    if judged.state.promotion == STEP:
        return _held_by_window(turn) or _next_step(
            replace(turn, state=judged.state.model_copy(update={"promotion": None})), current
        )
    over = None if current.hold is None else began + current.hold
    if over is not None and scope.now >= over and judged.may_proceed:
        return _held_by_window(turn) or _next_step(turn, current)
    reason, message = _why_it_stays(current, judged, over, scope.now)
    wake = _sooner(judged.wake, over if over is not None and over > scope.now else None)
    staying = replace(
        progress, stage=Stage.CANARYING, reason=reason, message=f"{_heading(current)}: {message}", wake=wake
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


def _promoting(turn: Turn) -> Rollout | RolloutStatus:
    """All of its pods, then all of the traffic."""
    scope, state = turn.scope, turn.state
    keep = turn.replicas if turn.mode is Capacity.SURGE else 0
    weight = turn.steps[-1].weight if turn.steps else 0
    layout, progress = _move(turn, stable=keep, candidate=turn.replicas, share=_share_on_the_way(turn), weight=weight)
    stuck = _lost_pods(turn, progress, "promotion")
    if stuck is not None:
        return stuck
    if progress.stage is Stage.READY:
        layout = replace(layout, share=Share.OTHER, weight=100)
        arrived = arrival(scope, layout)
        if arrived.there:
            return _arrived(turn, layout, progress)
        progress = replace(progress, message=f"All of the traffic goes to revision {scope.revision}")
        if arrived.reason is not Reason.CANARYING:
            progress = replace(progress, reason=arrived.reason, message=arrived.message)
    reason = progress.reason if progress.held_up or progress.stage is Stage.READY else Reason.PROMOTING
    if reason is Reason.ALL_PODS_READY:
        reason = Reason.PROMOTING
    going = replace(progress, stage=Stage.PROMOTING, reason=reason, wake=_sooner(progress.wake, scope.now + SOON))
    return Rollout(progress=going, state=state, layout=layout)


def _arrived(turn: Turn, layout: Layout, progress: Progress) -> Rollout | RolloutStatus:
    bake = turn.scope.spec.rollout.bake
    if bake is not None and parse_duration(bake) > timedelta() and turn.state.promotion != FULL:
        return enter(turn.state, RolloutStage.BAKING, turn.scope.now)
    return Rollout(progress=_done(turn, progress), state=lasting(turn.state), layout=layout, promoted=True)


def _baking(turn: Turn) -> Rollout | RolloutStatus:
    """All of the traffic, judged a while longer, with the old revision kept as far as there is room."""
    scope, state = turn.scope, turn.state
    keep = turn.replicas if turn.mode is Capacity.SURGE else 0
    layout, progress = _move(turn, stable=keep, candidate=turn.replicas, share=Share.OTHER, weight=100)
    if progress.stage is Stage.FAILED:
        return give_up(scope, state, progress)
    began = parse_time(state.stage_started_at) if state.stage_started_at else scope.now
    judged = judge_candidate(scope, state, since=began, baking=True)
    turn = replace(turn, state=judged.state)
    if judged.abort is not None:
        return _abort(turn, judged.abort, f"Aborted while it baked: {judged.message}")
    over = began + parse_duration(scope.spec.rollout.bake or "0s")
    if scope.now >= over or state.promotion is not None:
        return Rollout(progress=_done(turn, progress), state=lasting(judged.state), layout=layout, promoted=True)
    staying = replace(
        progress,
        stage=Stage.BAKING,
        reason=Reason.BAKING,
        message=f"Revision {scope.revision} has all of the traffic; revision {scope.stable} is kept for "
        f"{scope.spec.rollout.bake}",
        wake=_sooner(judged.wake, over),
    )
    return Rollout(progress=staying, state=judged.state, layout=layout)


def _move(turn: Turn, *, stable: int, candidate: int, share: Share, weight: int = 0) -> tuple[Layout, Progress]:
    """One step of the pods towards their numbers, and how far the candidate's are; READY means all of `candidate`."""
    scope = turn.scope
    if scope.stable is None:
        return Layout(replicas={scope.revision: candidate}), advance_serving(scope, turn.artifact, replicas=candidate)
    target = make_target(turn.mode, stable=stable, candidate=candidate, replicas=turn.replicas, surge=candidate)
    now = scale_of(turn.stable, turn.candidate)
    kept, raised = next_scale(now, target)
    serving = advance_serving(scope, turn.artifact, replicas=raised)
    if serving.stage is Stage.READY and raised != candidate:
        serving = replace(
            serving, stage=Stage.STARTING, reason=Reason.STARTING, wake=_sooner(serving.wake, scope.now + SOON)
        )
    if share is Share.BOTH and not _may_share(turn):
        share = Share.STABLE
    layout = Layout(
        replicas={scope.stable: kept, scope.revision: raised},
        share=share if share is not Share.BOTH or scope.spec.serving.gateway is None else Share.STABLE,
        other=scope.revision,
        weight=min(weight, most_weight(turn.candidate.ready, turn.replicas)),
    )
    return layout, replace(serving, wake=_sooner(serving.wake, room_due(scope), _deadline(turn)))


def _deadline(turn: Turn) -> datetime | None:
    """When a pod that is not ready will have been so for too long."""
    since = unready_since(turn.scope, turn.scope.revision)
    due = None if since is None else since + parse_duration(turn.scope.spec.rollout.progress_deadline)
    return due if due is not None and due > turn.scope.now else None


def _stay(turn: Turn, *, share: Share) -> tuple[Layout, Progress]:
    """Everything as it stands."""
    scope = turn.scope
    replicas = turn.candidate.asked if turn.candidate.exists else first_pods(scope, turn.mode, turn.steps)
    serving = advance_serving(scope, turn.artifact, replicas=replicas)
    kept = {} if scope.stable is None else {scope.stable: turn.stable.asked if turn.stable.exists else turn.replicas}
    if scope.stable is not None and turn.mode is Capacity.SURGE:
        kept = {scope.stable: turn.replicas}
    return Layout(replicas={**kept, scope.revision: replicas}, share=share, other=scope.revision), serving


def _may_share(turn: Turn) -> bool:
    """Both may be behind one Service only when every pod behind it is of one of them and somebody is ready."""
    scope = turn.scope
    strangers = scope.serving_revisions() - {scope.stable, scope.revision}
    return not strangers and turn.candidate.ready > 0


def _share_on_the_way(turn: Turn) -> Share:
    """A canary keeps its share until all of its pods are there; swapped pods serve as they come."""
    shares = turn.mode is Capacity.SWAP or (turn.steps and turn.mode is Capacity.SURGE)
    return Share.BOTH if shares else Share.STABLE


def _untold_plan(turn: Turn) -> Rollout | None:
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


def _held_by_window(turn: Turn) -> Rollout | None:
    """More traffic, or fewer pods for the stable revision, only while a maintenance window is open."""
    scope = turn.scope
    state = window_state(scope.spec.rollout.maintenance_windows, scope.now)
    if state.open or scope.stable is None:
        return None
    title = f"{_title(turn)}: " if turn.state.stage is not RolloutStage.STARTING else ""
    when = (
        f"waits for its maintenance window, which opens at {timestamp(state.opens_at)}"
        if state.opens_at
        else (
            f"waits for a maintenance window, and none ever opens: {state.message or 'correct them'}"
        )
    )
    layout, progress = (
        (at_rest(scope), turn.artifact) if turn.state.stage is RolloutStage.STARTING else _as_in_stage(turn)
    )
    if progress.stage is Stage.FAILED:
        return give_up(scope, turn.state, progress)
    waiting = replace(
        progress,
        stage=_PHASES[turn.state.stage or RolloutStage.STARTING],
        reason=Reason.WAITING_FOR_WINDOW,
        message=f"{title}{when}",
        wake=_sooner(progress.wake, state.opens_at),
    )
    return Rollout(progress=waiting, state=turn.state, layout=layout)


def _as_in_stage(turn: Turn) -> tuple[Layout, Progress]:
    """The layout that the stage has reached."""
    if turn.state.stage is RolloutStage.STEPPING and turn.state.step is not None:
        weight = turn.state.step.weight
        stable, wanted = step_pods(turn.scope, turn.mode, weight)
        return _move(turn, stable=stable, candidate=wanted, share=Share.BOTH, weight=weight)
    return _stay(turn, share=Share.STABLE)


def _lost_pods(turn: Turn, progress: Progress, where: str) -> Rollout | None:
    """A candidate that has requests and does not get its pods ready in time goes back."""
    scope = turn.scope
    if progress.stage is Stage.FAILED:
        return _abort(turn, progress.reason, f"Aborted at {where}: {progress.message}")
    overdue = room_overdue(scope, turn.mode)
    if overdue is not None:
        return _abort(turn, overdue.reason, f"Aborted at {where}: {overdue.message}")
    since = unready_since(scope, scope.revision)
    deadline = scope.spec.rollout.progress_deadline
    if since is None or scope.now < since + parse_duration(deadline):
        return None
    return _abort(
        turn,
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        f"Aborted at {where}: a pod of revision {scope.revision} was not ready for {deadline}",
    )


def _abort(turn: Turn, reason: Reason, message: str, *, verdict: AnalysisVerdict | None = None) -> Rollout:
    state = turn.state
    if verdict is not None:
        told = VerificationStatus(verdict=verdict, message=message, at=timestamp(turn.scope.now))
        state = state.model_copy(update={"verification": told})
    failed = replace(turn.artifact, stage=Stage.FAILED, reason=reason, message=message, applies=())
    return give_up(turn.scope, state, failed)


def _done(turn: Turn, progress: Progress) -> Progress:
    pods = turn.candidate
    counted = f"Revision {turn.scope.revision}: {pods.ready}/{turn.replicas} pods are ready"
    return replace(progress, stage=Stage.READY, reason=Reason.ALL_PODS_READY, message=counted, wake=None)


def _heading(step: ResolvedStep) -> str:
    return f"{step.title[0].upper()}{step.title[1:]} ({step.weight} %)"


def _title(turn: Turn) -> str:
    step = turn.state.step
    if turn.state.stage is RolloutStage.STEPPING and step is not None and step.index < len(turn.steps):
        return _heading(turn.steps[step.index])
    return f"Revision {turn.scope.revision}"


def _words(hold: timedelta | None) -> str:
    seconds = 0 if hold is None else hold.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"  # noqa: PLR2004


def _sooner(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


_HANDLERS: Mapping[RolloutStage, Callable[[Turn], Rollout | RolloutStatus]] = {
    RolloutStage.STARTING: _starting,
    RolloutStage.VERIFYING: _verifying,
    RolloutStage.STEPPING: _stepping,
    RolloutStage.PROMOTING: _promoting,
    RolloutStage.BAKING: _baking,
}
