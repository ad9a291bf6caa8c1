"""The analysis of a candidate at one place of its rollout, as the step machine asks for it."""

from dataclasses import dataclass
from datetime import datetime

from pilotfish.api.base import parse_duration
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Analysis, Strategy
from pilotfish.api.rollout_status import RolloutStatus, TrafficStatus
from pilotfish.core.health.analysis import Decision, judge
from pilotfish.core.health.pods import achieved_share, restarts_since
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the numbers say: go on, stay (`reason`, `message`), or go back (`abort`, with the numbers in `message`)."""

    state: RolloutStatus
    may_proceed: bool = True
    abort: Reason | None = None
    reason: Reason | None = None
    message: str = ""
    wake: datetime | None = None


def analysis_of(scope: Scope) -> Analysis | None:
    """What is judged; a canary that says nothing is judged by the defaults."""
    rollout = scope.spec.rollout
    return rollout.analysis or (Analysis() if rollout.strategy is Strategy.CANARY else None)


def judge_candidate(scope: Scope, state: RolloutStatus, *, since: datetime, baking: bool = False) -> Judged:
    """Measure if it is time to. Nothing before `since` counts."""
    analysis = analysis_of(scope)
    if analysis is None:
        return Judged(state=state)
    stable = scope.stable
    told = judge(
        analysis=analysis,
        previous=state.analysis,
        health=scope.observed.health,
        candidate=scope.revision,
        stable=stable,
        restarts=restarts_since(scope.observed.pods_of_revision(scope.revision), since),
        since=since,
        now=scope.now,
        shadow=scope.spec.rollout.shadow,
        baking=baking,
        baseline_required=stable is not None and count_pods(scope, stable).ready > 0,
    )
    judged = state.model_copy(update={"analysis": told.status})
    before = state.analysis.measured_at if state.analysis else None
    if told.status.measured_at != before:
        judged = _with_share(scope, judged, analysis, since)
    return Judged(
        state=judged,
        may_proceed=told.decision is Decision.PROCEED,
        abort=told.reason if told.decision is Decision.ABORT else None,
        reason=told.reason,
        message=told.message,
        wake=told.wake,
    )


def _with_share(scope: Scope, state: RolloutStatus, analysis: Analysis, since: datetime) -> RolloutStatus:
    """The share as it was measured over the same window."""
    window = parse_duration(analysis.window)
    health = scope.observed.health
    share = achieved_share(health, scope.revision, scope.stable, window=window, now=scope.now, since=since)
    traffic = state.traffic or TrafficStatus()
    text = None if share is None else f"{share:.1f}"
    return state.model_copy(update={"traffic": traffic.model_copy(update={"achieved": text})})
