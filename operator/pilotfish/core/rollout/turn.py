"""One pass over one candidate: what it starts from, what it leaves behind, and how it is given up."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import AbortStatus, AnalysisVerdict, RolloutStatus, VerificationStatus
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.layout import Layout, go_back, mode_of
from pilotfish.core.rollout.pods import Pods, count_pods
from pilotfish.core.rollout.steps import ResolvedStep
from pilotfish.core.scope import Scope

SOON, SELDOM = timedelta(seconds=1), timedelta(minutes=1)


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
    def look_again(self) -> datetime:
        """When to look at what others bring about: soon at first, ever more seldom the longer it takes.

        Events tell of nearly all of it; a second's pace for ever would be a load on everybody.
        """
        step = self.state.step
        begun = step.started_at if step is not None and step.started_at else self.state.stage_started_at
        waited = self.scope.now - parse_time(begun) if begun else timedelta()
        return self.scope.now + min(max(waited / 8, SOON), SELDOM)

    @property
    def stable(self) -> Pods:
        """The stable revision's pods."""
        return count_pods(self.scope, self.scope.stable or "")

    @property
    def candidate(self) -> Pods:
        """The candidate's pods."""
        return count_pods(self.scope, self.scope.revision)


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


def abort(turn: Turn, reason: Reason, message: str, *, verdict: AnalysisVerdict | None = None) -> Rollout:
    """Give the candidate up now; `verdict` is that of the verification, where it decided."""
    state = turn.state
    if verdict is not None:
        told = VerificationStatus(verdict=verdict, message=message, at=timestamp(turn.scope.now))
        state = state.model_copy(update={"verification": told})
    failed = replace(turn.artifact, stage=Stage.FAILED, reason=reason, message=message, applies=())
    return give_up(turn.scope, state, failed)


def done(turn: Turn, progress: Progress) -> Progress:
    """The progress of a candidate that has finished its rollout."""
    pods = turn.candidate
    counted = f"Revision {turn.scope.revision}: {pods.ready}/{turn.replicas} pods are ready"
    return replace(progress, stage=Stage.READY, reason=Reason.ALL_PODS_READY, message=counted, wake=None)


def heading(step: ResolvedStep) -> str:
    """`Step 2/4 (25 %)`."""
    return f"{step.title[0].upper()}{step.title[1:]} ({step.weight} %)"


def sooner(*moments: datetime | None) -> datetime | None:
    """The earliest of them that is one."""
    return min((moment for moment in moments if moment is not None), default=None)
