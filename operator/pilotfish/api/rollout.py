"""`spec.rollout`: how a new revision takes over."""

from enum import StrEnum

from pydantic import Field

from pilotfish.api.base import ApiModel, Duration, Fraction


class Strategy(StrEnum):
    """How traffic moves to a new revision."""

    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    REPLACE = "Replace"


class Capacity(StrEnum):
    """Where the GPUs of a new revision come from."""

    AUTO = "Auto"
    SURGE = "Surge"
    SWAP = "Swap"
    RECREATE = "Recreate"


class Step(ApiModel):
    """One step of a canary."""

    weight: int = Field(ge=1, le=99)
    """Percent of requests that the new revision gets."""
    hold: Duration | None = None
    """How long to stay."""


class Shadow(ApiModel):
    """Live comparison of answers."""

    sample_rate: Fraction = "0.05"
    """Share of requests that both revisions answer."""
    min_agreement: Fraction = "0.99"
    """Smallest share of equal answers."""


class Action(ApiModel):
    """A request to the rollout, carried out once per id."""

    id: str = Field(max_length=64)
    """Chosen by the user; a new id is a new request."""
    verb: str = Field(max_length=32)
    """promote, promoteFull, abort, retry or undo."""


class MaintenanceWindow(ApiModel):
    """When rollouts may begin."""

    schedule: str = Field(max_length=128)
    """Cron expression of the start."""
    duration: Duration
    """Length of the window."""
    time_zone: str = Field(default="UTC", max_length=64)
    """IANA name."""


class Analysis(ApiModel):
    """Verdicts on metrics."""

    interval: Duration = "15s"
    """Time between measurements."""
    window: Duration = "1m"
    """Time that one measurement looks back."""
    min_requests: int = Field(default=100, ge=0)
    """Fewer requests than this are no data."""


class RolloutSpec(ApiModel):
    """How a new revision takes over."""

    strategy: Strategy = Strategy.BLUE_GREEN
    """BlueGreen: the new revision starts beside the old one and gets all traffic once it is ready."""
    capacity: Capacity = Capacity.SURGE
    """Surge: the new revision needs room beside the old one."""
    steps: tuple[Step, ...] = Field(default=(), max_length=32)
    """Steps of a canary."""
    analysis: Analysis | None = None
    """Verdicts on metrics."""
    shadow: Shadow | None = None
    """Live comparison of answers."""
    bake: Duration | None = None
    """How long the old revision's pods are kept after the switch."""
    progress_deadline: Duration = "10m"
    """A revision that is not ready after this long has failed; the old one keeps serving."""
    maintenance_windows: tuple[MaintenanceWindow, ...] = Field(default=(), max_length=16)
    """When rollouts may begin."""
    action: Action | None = None
    """A request to the rollout."""
