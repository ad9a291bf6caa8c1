"""`status`: what the operator found and did. Everything else is derived from the children."""

from pydantic import Field

from pilotfish.api.base import ApiModel
from pilotfish.api.conditions import Condition
from pilotfish.api.markers import DocumentedEnum, marked
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.api.serving_settings import Origin


class Phase(DocumentedEnum):
    """One word for people; machines read the conditions."""

    PENDING = "Pending", "nothing has begun"
    OPTIMIZING = "Optimizing", "the optimization Job runs"
    STARTING = "Starting", "pods of the new revision start"
    VERIFYING = "Verifying", "the loaded model is compared with the original"
    CANARYING = "Canarying", "the new revision gets a part of the traffic"
    BAKING = "Baking", "the new revision gets all traffic, the old one is kept for a while"
    READY = "Ready", "the spec as asked is fully served"
    ABORTED = "Aborted", "the rollout went back to the stable revision"
    STALLED = "Stalled", "nothing moves until the spec or its surroundings change"
    PAUSED = "Paused", "spec.paused is true"


class RefreshStatus(ApiModel):
    """What the looks for new bytes found, with spec.model.refresh."""

    checked_at: str | None = Field(default=None, json_schema_extra={"format": "date-time"})
    """When the last look ended, well or not."""
    pin: str | None = None
    """Digest of the bytes that a look found and that are asked for since, as if spec.model.digest said so."""
    address: str | None = None
    """Hash of the spec.model.uri that checkedAt and pin belong to; another uri drops both."""
    reason: str | None = None
    """Why the last look failed: one word of the documented list. Left out when it went well."""
    message: str | None = None
    """The same in one sentence."""


class SourceStatus(RefreshStatus):
    """The bytes that were found behind spec.model.uri."""

    digest: str
    """sha256 of the file, or of the sorted list of a folder's files."""
    format: str | None = None
    """What the bytes are."""
    bytes: int | None = None
    """Size."""
    resolved_at: str | None = Field(default=None, json_schema_extra={"format": "date-time"})
    """When the digest was found."""


class ArtifactStatus(ApiModel):
    """What Triton loads."""

    digest: str
    """sha256 over the model repository."""
    format: str
    """ONNX or TorchScript."""
    precision: str
    """FP32, FP16, BF16 or INT8."""
    variant: str
    """Name of the winning candidate."""
    bytes: int | None = None
    """Size."""


class RevisionStatus(ApiModel):
    """One revision."""

    name: str
    """Name of its ControllerRevision and of its Deployment."""
    hash: str
    """Hash of the user's intent."""
    source_digest: str | None = None
    """Bytes it was made from."""
    artifact: ArtifactStatus | None = None
    """What it serves."""
    since: str | None = Field(default=None, json_schema_extra={"format": "date-time"})
    """When it took this role."""
    created_at: str | None = Field(default=None, json_schema_extra={"format": "date-time"})
    """When it was made."""


class CandidateSummary(ApiModel):
    """One candidate of the optimization."""

    variant: str
    """Its name. Example: `onnx-fp32`."""
    verdict: str
    """Accepted, Refused or Failed."""
    latency_ms: str | None = None
    """Median in milliseconds at the first batch size."""
    error: str | None = None
    """Largest absolute difference to the original."""
    reason: str | None = None
    """Why it was refused or failed."""


class JobProgress(ApiModel):
    """How far the running optimization is, told in steps of five points and with every new stage."""

    stage: str
    """What runs. Example: `benchmark`."""
    percent: int
    """Of the running container's work, 0 to 100."""
    message: str | None = None
    """What it does."""
    remaining: str | None = None
    """A guess at the time left. Example: `4m`."""


class OptimizationStatus(ApiModel):
    """Result of the optimization that the newest artifact came from."""

    winner: str | None = None
    """Variant that serves."""
    speedup: str | None = None
    """Baseline latency over the winner's."""
    baseline_latency_ms: str | None = None
    """Median of the original in milliseconds."""
    latency_ms: str | None = None
    """Median of the winner in milliseconds."""
    max_abs_error: str | None = None
    """Largest absolute difference to the original."""
    metric_drop: str | None = None
    """Loss of the task metric."""
    tuning: str | None = None
    """What measuring serving settings brought, with spec.optimization.tuning."""
    candidates: tuple[CandidateSummary, ...] = Field(default=(), max_length=32)
    """All candidates."""
    report: str | None = None
    """Where the whole report lies in the store."""
    progress: JobProgress | None = None
    """How far a running optimization is; the figures beside it are of the artifact before."""


class HistoryEntry(ApiModel):
    """How a revision ended."""

    revision: str
    """Its hash."""
    result: str
    """Stable, Failed or Superseded."""
    reason: str | None = None
    """Why."""
    message: str | None = None
    """The sentence of the condition at that time."""
    spec_hash: str | None = None
    """Of the spec that it failed with, without the number of pods; another one may be the cure."""
    at: str = Field(json_schema_extra={"format": "date-time"})
    """When."""


class Endpoints(ApiModel):
    """Where requests go."""

    http: str | None = None
    """Base URL of Triton's HTTP API inside the cluster."""
    grpc: str | None = None
    """Address of Triton's gRPC API inside the cluster."""


class EffectiveTolerance(ApiModel):
    """What answers may differ by, for the winner's precision; what is left out is not looked at."""

    relative_error: str | None = None
    """Largest relative difference of any output."""
    max_abs: str | None = None
    """Largest absolute difference of any output element."""
    cosine: str | None = None
    """Smallest cosine similarity of any output."""
    top1_agreement: str | None = None
    """Smallest share of samples whose largest output is at the same place."""
    batch_parity: str | None = None
    """Largest relative difference between batches."""


class Origins(ApiModel):
    """Where each effective value comes from."""

    image: Origin | None = None
    """Of Triton's image."""
    max_batch_size: Origin | None = None
    """Of the largest batch."""
    preferred_sizes: Origin | None = None
    """Of the batch sizes that are sent at once."""
    max_queue_delay: Origin | None = None
    """Of the time that a request may wait."""
    instances: Origin | None = None
    """Of the number of model instances."""
    intra_op_threads: Origin | None = None
    """Of the threads inside one operator."""
    inter_op_threads: Origin | None = None
    """Of the operators that run at once."""
    accelerator: Origin | None = None
    """Of the accelerator."""
    tolerance: Origin | None = None
    """Of the tolerance."""


class Effective(ApiModel):
    """What holds for the newest revision, and where each value comes from."""

    image: str | None = None
    """Triton's image."""
    max_batch_size: int | None = None
    """Largest batch in config.pbtxt; 0: requests are not batched."""
    preferred_sizes: tuple[int, ...] | None = Field(default=None, max_length=16)
    """Batch sizes that are sent at once when reached."""
    max_queue_delay: str | None = None
    """How long a request may wait for others."""
    instances: int | None = None
    """Model instances per pod, or per GPU."""
    intra_op_threads: int | None = None
    """Threads inside one operator, in each instance."""
    inter_op_threads: int | None = None
    """Operators that run at once; left out: as the runtime likes."""
    accelerator: str | None = None
    """What ONNX Runtime hands the model to on a GPU."""
    tolerance: EffectiveTolerance | None = None
    """What answers may differ by."""
    origins: Origins | None = None
    """Where each of them comes from: the spec, a measurement, or a default."""


class ModelDeploymentStatus(ApiModel):
    """What the operator found and did."""

    observed_generation: int | None = None
    """metadata.generation that this status is about."""
    phase: Phase | None = None
    """One word for people."""
    step: str | None = None
    """Step of the rollout and its share of requests. Example: `2/4 25%`."""
    variant: str | None = None
    """Format, precision and speed-up of what serves. Example: `onnx-fp32 2.1x`."""
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=marked(map_by=["type"]),
    )
    """Ready, ArtifactReady, Available, Progressing, Healthy; Reconciling and Stalled while true."""
    source: SourceStatus | None = None
    """The bytes that were found."""
    stable_revision: RevisionStatus | None = None
    """The revision that gets the traffic."""
    candidate_revision: RevisionStatus | None = None
    """The revision that is on its way."""
    optimization: OptimizationStatus | None = None
    """Result of the newest optimization."""
    rollout: RolloutStatus | None = None
    """How far the rollout is."""
    effective: Effective | None = None
    """What was resolved from defaults and settings."""
    replicas: int | None = None
    """Pods of all revisions."""
    ready_replicas: int | None = None
    """Ready pods of the stable revision."""
    selector: str | None = None
    """Label selector of the pods that serve, of all revisions, for the scale subresource."""
    endpoints: Endpoints | None = None
    """Where requests go."""
    history: tuple[HistoryEntry, ...] = Field(default=(), max_length=32)
    """How earlier revisions ended, newest first."""
