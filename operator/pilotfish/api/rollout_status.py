"""`status.rollout`: how far a rollout is, and why. Everything that a rollout must remember between two passes."""

from pydantic import Field
from pydantic.config import JsonDict

from pilotfish.api.base import ApiModel
from pilotfish.api.markers import DocumentedEnum, marked

_TIME: JsonDict = {"format": "date-time"}


class RolloutStage(DocumentedEnum):
    """Where a candidate stands, from its artifact to the stable revision."""

    STARTING = "Starting", "its first pods start"
    VERIFYING = "Verifying", "its answers are compared with the original's; it has no traffic"
    STEPPING = "Stepping", "it has the share of the traffic that the step asks for"
    PROMOTING = "Promoting", "it is on its way to all of the traffic"
    BAKING = "Baking", "it has all of the traffic, the old revision is kept"


class AnalysisVerdict(DocumentedEnum):
    """What a measurement says; the worst of several wins: Fail, Error, NoData, Inconclusive, Pass."""

    PASS = "Pass", "within its bounds"
    INCONCLUSIVE = "Inconclusive", "measured, but not comparable"
    NO_DATA = "NoData", "too few requests"
    ERROR = "Error", "it could not be measured"
    FAIL = "Fail", "outside its bounds"
    NOT_RUN = "NotRun", "not measured yet"


class StepStatus(ApiModel):
    """The step that the rollout is at."""

    index: int
    """Place in spec.rollout.steps, from 0."""
    weight: int
    """Percent of requests that the step asks for."""
    hash: str | None = None
    """Of the steps as they were when this one began; others start the rollout anew."""
    started_at: str = Field(json_schema_extra=_TIME)
    """When it began."""
    ready_at: str | None = Field(default=None, json_schema_extra=_TIME)
    """When the share was reached: hold and analysis count from here."""


class TrafficStatus(ApiModel):
    """Share of requests of the candidate."""

    desired: int | None = None
    """Percent that the step asks for."""
    assigned: int | None = None
    """Percent that replicas or route weights give it now."""
    achieved: str | None = None
    """Percent that was measured."""
    source: str | None = None
    """What splits the traffic: Replicas or Gateway."""
    achievable: tuple[int, ...] = Field(default=(), max_length=100)
    """Percentages that this number of replicas can give; left out where a gateway splits the traffic."""
    message: str | None = None
    """What is in the way, or a warning that a step cannot be met."""


class CapacityStatus(ApiModel):
    """Where the room for the candidate comes from; written before anything is stopped."""

    plan: str | None = None
    """Surge, Swap or Recreate."""
    message: str | None = None
    """What will be stopped when, in one sentence."""
    gpus_needed: int | None = None
    """GPUs that the candidate needs beside the stable revision."""
    gpus_free: int | None = None
    """GPUs that the scheduler could give; left out where the operator may not look."""
    expected_downtime: str | None = None
    """How long nothing serves, as a duration."""
    rollback_eta: str | None = Field(default=None, alias="rollbackETA")
    """How long going back takes, as a duration."""


class CheckStatus(ApiModel):
    """One check of the analysis."""

    name: str
    """Name of the check."""
    verdict: AnalysisVerdict
    """Of the last measurement."""
    mode: str | None = None
    """Enforce or Observe."""
    value: str | None = None
    """What was measured."""
    baseline: str | None = None
    """The same of the stable revision."""
    threshold: str | None = None
    """What it was compared with."""
    message: str | None = None
    """One sentence with the numbers."""
    passed: int = 0
    """Good measurements since the step began."""
    failed: int = 0
    """Bad measurements since the step began."""
    errors: int = 0
    """Measurements in a row that could not be made."""


class AnalysisStatus(ApiModel):
    """Verdict on the candidate's metrics. It belongs to one revision and one step."""

    verdict: AnalysisVerdict | None = None
    """The worst of the enforced checks."""
    started_at: str | None = Field(default=None, json_schema_extra=_TIME)
    """When it began: the share was reached and all pods were ready."""
    measured_at: str | None = Field(default=None, json_schema_extra=_TIME)
    """The last measurement."""
    no_data_since: str | None = Field(default=None, json_schema_extra=_TIME)
    """Since when there are too few requests."""
    requests: int | None = None
    """Requests of the candidate in the last window."""
    checks: tuple[CheckStatus, ...] = Field(default=(), max_length=32, json_schema_extra=marked(map_by=["name"]))
    """All checks."""


class VerificationStatus(ApiModel):
    """The golden set against the loaded candidate."""

    verdict: AnalysisVerdict
    """Pass, Fail, or Error when it could not be verified; NotRun while it runs."""
    errors: int | None = None
    """Jobs in a row that could not verify."""
    message: str | None = None
    """One sentence with the numbers."""
    at: str | None = Field(default=None, json_schema_extra=_TIME)
    """When."""


class AbortStatus(ApiModel):
    """The rollout that was given up."""

    revision: str
    """Hash of the revision."""
    reason: str
    """One word of the documented list."""
    message: str | None = None
    """Where it stood and the numbers that decided."""
    at: str = Field(json_schema_extra=_TIME)
    """When."""


class UndoStatus(ApiModel):
    """A revision that is served in place of the one that the spec describes, because action undo asked for it."""

    to_revision: str
    """Hash of the revision that is served."""
    from_revision: str
    """Hash of the spec at that time; another spec ends the undo."""


class RolloutStatus(ApiModel):
    """How far the rollout is."""

    revision: str | None = None
    """Hash of the candidate that all of this is about."""
    stage: RolloutStage | None = None
    """Where the candidate stands."""
    stage_started_at: str | None = Field(default=None, json_schema_extra=_TIME)
    """When it got there."""
    paused_at: str | None = Field(default=None, json_schema_extra=_TIME)
    """Since when spec.paused holds it; that time counts towards nothing."""
    promotion: str | None = None
    """Step or Full: what action promote or promoteFull allowed and is not used up yet."""
    step: StepStatus | None = None
    """The step that the rollout is at."""
    unconfirmed_since: str | None = Field(default=None, json_schema_extra=_TIME)
    """Since when the gateway has not confirmed the weights; the candidate goes back after the progress deadline."""
    verification: VerificationStatus | None = None
    """The golden set against the loaded candidate."""
    traffic: TrafficStatus | None = None
    """Share of requests of the candidate."""
    capacity: CapacityStatus | None = None
    """Where the room for the candidate comes from."""
    analysis: AnalysisStatus | None = None
    """Verdict on the candidate's metrics."""
    last_action_id: str | None = None
    """spec.rollout.action.id that was carried out last."""
    action_message: str | None = None
    """What became of that action."""
    undo: UndoStatus | None = None
    """The revision that action undo asked for."""
    aborted: AbortStatus | None = None
    """The rollout that was given up."""
