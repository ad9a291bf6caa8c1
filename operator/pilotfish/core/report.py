"""What a pass tells: the status if it differs from the stored one, and an event for each thing that changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.conditions import Condition, ConditionStatus, ConditionType
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import AnalysisVerdict, RolloutStatus
from pilotfish.api.status import ModelDeploymentStatus
from pilotfish.core.objects import Body
from pilotfish.core.observed import Observed
from pilotfish.core.scope import Scope
from pilotfish.resources.event import make_event
from pilotfish.resources.meta import Owner

# In this order; a sentence that one condition has told already is not told again by the next.
_TOLD = (ConditionType.STALLED, ConditionType.READY, ConditionType.ARTIFACT_READY, ConditionType.HEALTHY)


@dataclass(frozen=True, slots=True)
class Told:
    """Status to store and events to send after it."""

    status: Body | None
    events: tuple[Body, ...]


def report(scope: Scope, status: ModelDeploymentStatus) -> Told:
    """The status write and the events of a pass."""
    return tell(scope.observed, status, old=scope.status, now=scope.now)


def tell(observed: Observed, new: ModelDeploymentStatus, *, old: ModelDeploymentStatus, now: datetime) -> Told:
    """Nothing when the stored status says the same already."""
    wire = new.to_wire()
    if wire == (observed.body.get("status") or {}):
        return Told(None, ())
    meta = observed.body["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in meta}
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": kept, "status": wire}
    events = (*_events(observed, new, {c.type: c for c in old.conditions}, now), *_milestones(observed, new, old, now))
    return Told(body, events)


def _events(
    observed: Observed, new: ModelDeploymentStatus, before: Mapping[str, Condition], now: datetime
) -> list[dict[str, Any]]:
    owner = Owner(name=observed.name, namespace=observed.namespace, uid=observed.uid)
    conditions = {c.type: c for c in new.conditions}
    events: list[dict[str, Any]] = []
    reasons: set[str] = set()
    for kind in _TOLD:
        condition = conditions.get(kind)
        if condition is None or condition.reason in reasons or not _changed(condition, before.get(kind)):
            continue
        reasons.add(condition.reason)
        warning = kind is ConditionType.STALLED or _is_bad(condition)
        events.append(
            make_event(
                owner, reason=condition.reason, note=condition.message, action=kind.value, now=now, warning=warning
            )
        )
    return events


def _milestones(
    observed: Observed, new: ModelDeploymentStatus, old: ModelDeploymentStatus, now: datetime
) -> list[dict[str, Any]]:
    """What a rollout reached without a change of a condition's reason: proof, steps, actions, the plan for its room."""
    owner = Owner(name=observed.name, namespace=observed.namespace, uid=observed.uid)
    rollout, before = new.rollout or RolloutStatus(), old.rollout or RolloutStatus()
    told: list[tuple[str, Reason, str | None]] = []
    if rollout.capacity and rollout.capacity.message != (before.capacity and before.capacity.message):
        told.append(("PlanCapacity", Reason.STARTING, f"{rollout.capacity.plan}: {rollout.capacity.message}"))
    proven = rollout.verification
    if proven and proven.verdict is AnalysisVerdict.PASS and proven != before.verification:
        told.append(("Verify", Reason.VERIFYING, proven.message))
    if new.step is not None and (new.step, rollout.revision) != (old.step, before.revision):
        told.append(("Step", Reason.CANARYING, f"Revision {rollout.revision} is at step {new.step} of the requests"))
    if rollout.action_message and rollout.last_action_id != before.last_action_id:
        told.append(("Act", Reason.PROMOTING, rollout.action_message))
    return [
        make_event(owner, reason=reason, note=note, action=action, now=now) for action, reason, note in told if note
    ]


def _changed(condition: Condition, before: Condition | None) -> bool:
    """Events follow reasons and verdicts; numbers in a sentence may move without one."""
    if before is None:
        return condition.status != ConditionStatus.UNKNOWN
    return (condition.status, condition.reason) != (before.status, before.reason)


def _is_bad(condition: Condition) -> bool:
    return condition.status == ConditionStatus.FALSE and Reason(condition.reason).is_failure
