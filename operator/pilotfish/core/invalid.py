"""What cannot go on by itself is said in status, and nothing is touched.

A spec that this operator cannot read (an older or newer CRD let it through), or a child that the API server refuses.
"""

from datetime import datetime
from typing import Any

from pilotfish.api.conditions import Condition, ConditionStatus, ConditionType, carry_transition_times, timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.report import one_line
from pilotfish.api.status import Phase
from pilotfish.core.observed import Observed
from pilotfish.core.plan import Plan
from pilotfish.core.report import tell
from pilotfish.core.scope import read_status


def plan_for_invalid_spec(observed: Observed, error: ValueError, now: datetime) -> Plan:
    """Stalled with the first thing that is wrong; what serves goes on serving."""
    return stalled(observed, reason=Reason.INVALID_SPEC, message=explain(error), now=now)


def plan_for_refusal(observed: Observed, *, child: str, sentence: str, now: datetime) -> Plan:
    """The API server does not take `child` (`Kind "name"`), for the reason that is its `sentence`."""
    quota = "exceeded quota" in sentence
    advice = "free or raise the quota of the namespace" if quota else "the operator tries again"
    return stalled(
        observed,
        reason=Reason.QUOTA_EXCEEDED if quota else Reason.CHILD_REFUSED,
        message=one_line(f"The API server refuses {child}: {sentence}; {advice}"),
        now=now,
    )


def stalled(observed: Observed, *, reason: Reason, message: str, now: datetime) -> Plan:
    """Only a status and its events."""
    old = read_status(observed)
    before = {c.type: c for c in old.conditions}
    said = {
        ConditionType.READY: ConditionStatus.FALSE,
        ConditionType.PROGRESSING: ConditionStatus.FALSE,
        ConditionType.STALLED: ConditionStatus.TRUE,
    }
    new = [
        Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=timestamp(now),
            observed_generation=observed.generation,
        )
        for kind, status in said.items()
    ]
    # What serves is untouched, so what was known about it still holds for this generation.
    kept = (ConditionType.ARTIFACT_READY, ConditionType.AVAILABLE, ConditionType.HEALTHY)
    rest = [
        before[kind].model_copy(update={"observed_generation": observed.generation}) for kind in kept if kind in before
    ]
    status = old.model_copy(
        update={
            "observed_generation": observed.generation,
            "phase": Phase.STALLED,
            "conditions": carry_transition_times([*new, *rest], before),
        }
    )
    told = tell(observed, status, old=old, now=now)
    return Plan(status=told.status, events=told.events, notes=(f"stalled: {message}",))


def explain(error: ValueError) -> str:
    """The first complaint with the field it is about."""
    details: list[dict[str, Any]] = getattr(error, "errors", lambda **_: [])(include_url=False, include_input=False)
    if not details:
        return one_line(f"The spec cannot be read: {error}")
    first = details[0]
    field = ".".join(["spec", *(str(part) for part in first["loc"])])
    more = f" and {len(details) - 1} more" if len(details) > 1 else ""
    return one_line(f"{field}: {first['msg']}{more}; correct it and apply again")
