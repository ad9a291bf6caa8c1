"""`status.rollout`: how far a rollout is, and why. Part of the schema; filled by rollouts that go step by step."""

from pydantic import Field

from pilotfish.api.base import ApiModel
from pilotfish.api.markers import marked


class StepStatus(ApiModel):
    """The step that the rollout is at."""

    index: int
    """Place in spec.rollout.steps, from 0."""
    weight: int
    """Percent of requests that the step asks for."""
    started_at: str = Field(json_schema_extra={"format": "date-time"})
    """When it began."""


class TrafficStatus(ApiModel):
    """Share of requests of the candidate."""

    desired: int | None = None
    """Percent that the step asks for."""
    achieved: str | None = None
    """Percent that was measured."""
    source: str | None = None
    """Where the measurement comes from: TritonCounters or Gateway."""


class CapacityStatus(ApiModel):
    """Where the room for the candidate comes from."""

    plan: str | None = None
    """Surge, Swap or Recreate."""
    gpus_needed: int | None = None
    """GPUs that the candidate needs."""
    gpus_free: int | None = None
    """GPUs that the scheduler could give."""
    expected_downtime: str | None = None
    """How long nothing serves, as a duration."""
    rollback_eta: str | None = Field(default=None, alias="rollbackETA")
    """How long going back takes, as a duration."""


class CheckStatus(ApiModel):
    """One check of the analysis."""

    name: str
    """Name of the check."""
    verdict: str
    """Pass, Fail, Inconclusive, NoData or Error."""
    value: str | None = None
    """What was measured."""
    threshold: str | None = None
    """What it was compared with."""
    message: str | None = None
    """One sentence with the numbers."""


class AnalysisStatus(ApiModel):
    """Verdict on the candidate's metrics."""

    verdict: str | None = None
    """Pass, Fail, Inconclusive, NoData or Error."""
    checks: tuple[CheckStatus, ...] = Field(default=(), max_length=32, json_schema_extra=marked(map_by=["name"]))
    """All checks."""


class AbortStatus(ApiModel):
    """The rollout that was given up."""

    revision: str
    """Hash of the revision."""
    reason: str
    """One word of the documented list."""
    at: str = Field(json_schema_extra={"format": "date-time"})
    """When."""


class RolloutStatus(ApiModel):
    """How far the rollout is."""

    step: StepStatus | None = None
    """The step that the rollout is at."""
    traffic: TrafficStatus | None = None
    """Share of requests of the candidate."""
    capacity: CapacityStatus | None = None
    """Where the room for the candidate comes from."""
    analysis: AnalysisStatus | None = None
    """Verdict on the candidate's metrics."""
    last_action_id: str | None = None
    """spec.rollout.action.id that was carried out last."""
    aborted: AbortStatus | None = None
    """The rollout that was given up."""
