"""The conditions of one pass, each by one function.

Ready: what the spec asks for is fully served. Available: somebody serves.
"""

from dataclasses import dataclass

from pilotfish.api.conditions import Condition, ConditionStatus, ConditionType, carry_transition_times, timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.core.failures import Finding
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.pods import Pods
from pilotfish.core.rollout.reach import overlooked_until, waits_for_gateway
from pilotfish.core.scope import Scope
from pilotfish.resources.revision import RevisionRecord

_MOVING = frozenset(Stage) - {Stage.READY, Stage.FAILED, Stage.BLOCKED}
_NO_PODS = "No pods are asked for (spec.serving.replicas is 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What status is made from. `stable` is the stable revision after this pass, `pods` are those that serve.

    `serving` names the revisions that requests reach, stable first.
    """

    scope: Scope
    progress: Progress
    stable: str | None
    pods: Pods
    trouble: Finding | None
    rollout: RolloutStatus | None
    serving: tuple[str, ...]
    record: RevisionRecord | None
    """The wanted revision's record, None while there is no artifact."""

    @property
    def is_served(self) -> bool:
        """Whether what the spec asks for has the traffic, with all its pods, or asks for no pods."""
        reached = self.progress.stage is Stage.READY or (self.waits_for_gateway and overlooked_until(self.scope))
        return bool(reached) and (self.stable == self.scope.revision or self.scope.spec.serving.replicas == 0)

    @property
    def waits_for_gateway(self) -> bool:
        """Whether clients inside the cluster are served as asked, and others not for certain."""
        return self.stable == self.scope.revision and waits_for_gateway(self.progress)

    @property
    def is_moving(self) -> bool:
        """Whether the operator works towards the spec."""
        return not self.scope.spec.paused and self.progress.stage in _MOVING

    @property
    def is_stalled(self) -> bool:
        """Whether only a change from outside helps."""
        return not self.scope.spec.paused and self.progress.stage in {Stage.FAILED, Stage.BLOCKED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status, reason and sentence of one condition."""

    status: ConditionStatus
    reason: Reason
    message: str


def make_conditions(view: View) -> tuple[Condition, ...]:
    """All conditions in their fixed order; Reconciling and Stalled only while true."""
    verdicts = [
        (ConditionType.READY, judge_ready(view)),
        (ConditionType.ARTIFACT_READY, judge_artifact(view)),
        (ConditionType.AVAILABLE, judge_available(view)),
        (ConditionType.PROGRESSING, judge_progressing(view)),
        (ConditionType.HEALTHY, judge_healthy(view)),
    ]
    if view.is_moving and not view.is_served:
        verdicts.append((ConditionType.RECONCILING, _now(view)))
    if view.is_stalled:
        verdicts.append((ConditionType.STALLED, _now(view)))
    return stamp(view.scope, verdicts)


def stamp(scope: Scope, verdicts: list[tuple[ConditionType, Verdict]]) -> tuple[Condition, ...]:
    """Conditions with generation and transition times, carried on from the stored ones."""
    moment = timestamp(scope.now)
    new = tuple(
        Condition(
            type=kind,
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            last_transition_time=moment,
            observed_generation=scope.observed.generation,
        )
        for kind, verdict in verdicts
    )
    return carry_transition_times(new, {c.type: c for c in scope.status.conditions})


def judge_ready(view: View) -> Verdict:
    """Is what the spec asks for fully served?"""
    if view.is_served and view.pods.wanted == 0:
        return Verdict(ConditionStatus.TRUE, Reason.SCALED_TO_ZERO, _NO_PODS)
    if view.is_served and view.scope.orders.undo is not None:
        asked = view.scope.orders.undo.from_revision
        undone = f"{_serves(view)}, as action undo asked; the spec describes revision {asked}"
        return Verdict(ConditionStatus.TRUE, Reason.UNDONE, undone)
    if view.is_served:
        return Verdict(ConditionStatus.TRUE, Reason.SERVING, _serves(view))
    if view.scope.spec.paused:
        return Verdict(ConditionStatus.FALSE, Reason.PAUSED, _paused(view))
    return Verdict(ConditionStatus.FALSE, view.progress.reason, _meanwhile(view))


def judge_artifact(view: View) -> Verdict:
    """Is there an optimized model for what the spec asks for?"""
    record = view.record
    if record is not None:
        return Verdict(ConditionStatus.TRUE, Reason.SUCCEEDED, describe_artifact(record))
    status = ConditionStatus.FALSE if view.progress.stage is Stage.FAILED else ConditionStatus.UNKNOWN
    return Verdict(status, view.progress.reason, view.progress.message)


def judge_available(view: View) -> Verdict:
    """Does anybody serve?"""
    if view.stable is not None and view.pods.ready > 0:
        return Verdict(ConditionStatus.TRUE, Reason.SERVING, _serves(view))
    if view.pods.wanted == 0 and (view.stable is not None or view.is_served):
        return Verdict(ConditionStatus.FALSE, Reason.SCALED_TO_ZERO, _NO_PODS)
    if view.stable is None:
        return Verdict(ConditionStatus.FALSE, Reason.NOT_SERVING, "No revision has been ready yet")
    if view.trouble is not None:
        return Verdict(ConditionStatus.FALSE, view.trouble.reason, view.trouble.message)
    return Verdict(ConditionStatus.FALSE, Reason.NOT_SERVING, _serves(view))


def judge_progressing(view: View) -> Verdict:
    """Is the operator on its way to what the spec asks for?"""
    if view.scope.spec.paused:
        return Verdict(ConditionStatus.FALSE, Reason.PAUSED, _paused(view))
    if view.is_moving:
        return _now(view)
    if view.is_served and view.stable == view.scope.revision:
        done = f"Revision {view.stable} is what the spec asks for"
        return Verdict(ConditionStatus.FALSE, Reason.UP_TO_DATE, done)
    return Verdict(ConditionStatus.FALSE, view.progress.reason, view.progress.message)


def judge_healthy(view: View) -> Verdict:
    """Are the pods that have the traffic well?"""
    if view.stable is None or view.pods.wanted == 0:
        return Verdict(ConditionStatus.UNKNOWN, Reason.NOT_SERVING, "Nothing serves, so there is nothing to judge")
    if view.trouble is not None:
        return Verdict(ConditionStatus.FALSE, view.trouble.reason, view.trouble.message)
    if view.pods.complete:
        return Verdict(ConditionStatus.TRUE, Reason.ALL_PODS_READY, _serves(view))
    return Verdict(ConditionStatus.UNKNOWN, Reason.STARTING, _serves(view))


def describe_artifact(record: RevisionRecord) -> str:
    """The artifact in one line with its figures."""
    summary = record.summary
    parts = [f"Revision {record.revision}: {record.artifact.variant}"]
    if summary is not None and summary.speedup is not None:
        parts.append(f"{summary.speedup} times as fast as the original")
    if summary is not None and summary.max_abs_error is not None:
        parts.append(f"largest difference {summary.max_abs_error}")
    return ", ".join(parts)


def _now(view: View) -> Verdict:
    return Verdict(ConditionStatus.TRUE, view.progress.reason, view.progress.message)


def _serves(view: View) -> str:
    many = "Revisions" if len(view.serving) > 1 else "Revision"
    return f"{many} {' and '.join(view.serving)}: {view.pods.ready}/{view.pods.wanted} pods are ready"


def _paused(view: View) -> str:
    names = " and ".join(view.serving)
    many, go = ("revisions", "go") if len(view.serving) > 1 else ("revision", "goes")
    rest = f"; {many} {names} {go} on serving" if view.stable else ""
    return f"Nothing moves until spec.paused is false{rest}"


def _meanwhile(view: View) -> str:
    """The sentence, who serves until then, and where to read more about a failure."""
    message = view.progress.message
    others = view.stable is not None and view.serving == (view.stable,) and view.stable != view.scope.revision
    if others and view.pods.ready > 0:
        message += f"; revision {view.stable} keeps serving"
    if view.waits_for_gateway and view.pods.ready > 0:
        message += f"; inside the cluster revision {view.stable} serves"
    docs = view.scope.policy.docs_url
    if view.is_stalled and docs:
        message += f"; see {docs}#{view.progress.reason.anchor}"
    return message
