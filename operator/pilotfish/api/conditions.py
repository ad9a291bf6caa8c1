"""Condition types, the closed list of reasons, and how a condition keeps its transition time.

kstatus reads Reconciling and Stalled: both are present only while true.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from pilotfish.api.base import ApiModel


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    ARTIFACT_READY = "ArtifactReady"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    HEALTHY = "Healthy"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """True, False, or not known yet."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One aspect of the object's state, as metav1.Condition."""

    type: str = Field(max_length=316)
    """What it is about."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: str = Field(min_length=1, max_length=1024)
    """One word of the documented list."""
    message: str = Field(max_length=32768)
    """One sentence: what is so, with numbers, and what to do next."""
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    """When status last changed, RFC 3339."""
    observed_generation: int
    """metadata.generation that this was judged on."""


def timestamp(moment: datetime) -> str:
    """RFC 3339 with whole seconds in UTC, as Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def carry_transition_times(new: Iterable[Condition], old: Mapping[str, Condition]) -> tuple[Condition, ...]:
    """Conditions in the given order; one whose status did not change keeps its lastTransitionTime."""
    return tuple(
        c.model_copy(update={"last_transition_time": old[c.type].last_transition_time})
        if c.type in old and old[c.type].status == c.status
        else c
        for c in new
    )
