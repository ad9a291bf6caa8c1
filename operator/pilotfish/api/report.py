"""What the optimizer says: report.json, manifest.json and the termination message. What it is told: job_input.py.

Wire types only, camelCase on the wire and snake_case in Python. No I/O, no torch, no numpy: the operator reads these.
Reading ignores unknown keys (a newer optimizer may say more); writing leaves out what is unset.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from pilotfish.api.optimization import ArtifactFormat, Precision
from pilotfish.api.report_sections import (
    Explanation,
    Export,
    Histogram,
    LayerError,
    Load,
    Profile,
    TaskMetric,
    TrainingStage,
)
from pilotfish.api.tuning import TunedServing, TuningReport
from pilotfish.api.wire import WireModel

SCHEMA_VERSION: Literal[1] = 1
USER_ERROR_EXIT_CODE = 10

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Figure = Annotated[str, StringConstraints(max_length=24)]
"""A measured number as a decimal string: stable in status, free of float noise."""


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Verdict(StrEnum):
    """What became of one candidate."""

    ACCEPTED = "Accepted"
    REFUSED = "Refused"
    FAILED = "Failed"


class Backend(StrEnum):
    """The Triton backend that serves an artifact."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    PYTORCH = "pytorch"


class OptimizerReason(StrEnum):
    """Why a run ended as it did: a closed set, one per thing a user can do something about."""

    SUCCEEDED = "Succeeded"
    ARTIFACT_REUSED = "ArtifactReused"
    # fetch
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_FORBIDDEN = "SourceForbidden"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_DIGEST_MISMATCH = "SourceDigestMismatch"
    SOURCE_SIGNATURE_INVALID = "SourceSignatureInvalid"
    SOURCE_TRUNCATED = "SourceTruncated"
    SOURCE_TOO_LARGE = "SourceTooLarge"
    SOURCE_UNSUPPORTED = "SourceUnsupported"
    # identify and load
    UNSAFE_MODEL = "UnsafeModel"
    UNKNOWN_FORMAT = "UnknownFormat"
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    MODEL_INVALID = "ModelInvalid"
    ARCHITECTURE_INVALID = "ArchitectureInvalid"
    SIGNATURE_MISSING = "SignatureMissing"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    SAMPLES_INVALID = "SamplesInvalid"
    # train
    TRAINING_DATA_INVALID = "TrainingDataInvalid"
    TRAINING_FAILED = "TrainingFailed"
    # convert, prove, choose
    CONVERSION_FAILED = "ConversionFailed"
    REFERENCE_INVALID = "ReferenceInvalid"
    MODEL_NOT_DETERMINISTIC = "ModelNotDeterministic"
    BATCH_DEPENDENT = "BatchDependent"
    NO_CANDIDATE_WITHIN_TOLERANCE = "NoCandidateWithinTolerance"
    # store and install
    STORE_FULL = "StoreFull"
    STORE_NOT_FOUND = "StoreNotFound"
    STORE_FORBIDDEN = "StoreForbidden"
    STORE_UNREACHABLE = "StoreUnreachable"
    ARTIFACT_MISSING = "ArtifactMissing"
    ARTIFACT_DIGEST_MISMATCH = "ArtifactDigestMismatch"
    ARTIFACT_KEY_INVALID = "ArtifactKeyInvalid"
    # the golden set against the loaded server
    VERIFICATION_FAILED = "VerificationFailed"
    VERIFICATION_ERROR = "VerificationError"
    # the run itself
    INPUT_INVALID = "InputInvalid"
    WRONG_IMAGE = "WrongImage"
    INTERRUPTED = "Interrupted"
    OPTIMIZER_OUT_OF_MEMORY = "OptimizerOutOfMemory"  # set by the operator: a killed process writes nothing
    DEADLINE_EXCEEDED = "OptimizerDeadlineExceeded"  # set by the operator
    INTERNAL_ERROR = "InternalError"


class TensorSpec(WireModel):
    """One input or output: Triton's dtype name, shape without the batch dimension when the model is batched."""

    name: str = Field(description="Name in the artifact and in config.pbtxt.", examples=["image"])
    dtype: str = Field(description="Triton's name of the element type.", examples=["FP32", "INT64"])
    shape: tuple[int, ...] = Field(description="-1 is free. Without the batch dimension when batched.")
    example: tuple[int, ...] | None = Field(
        default=None, description="A concrete shape that the model accepts; set when `shape` has a free dimension."
    )


class ModelSignature(WireModel):
    """What goes in and what comes out; `batched` means that dimension 0 of every tensor is the batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool


class SourceRecord(WireModel):
    """The bytes that were fetched."""

    digest: Digest
    format: str | None = None
    bytes: int
    signed_by: Digest | None = Field(
        default=None, description="Fingerprint of the key whose signature was verified; null: none was asked for."
    )


class OptimizerRecord(WireModel):
    """What made an artifact. The version is the optimizer's own word, the image what the Job's pod ran."""

    version: str | None = None
    image: str | None = Field(default=None, description="As the Job named it.")
    image_id: str | None = Field(default=None, description="As the node resolved it, by digest.")


class FileRecord(WireModel):
    """One file of an artifact, path relative to `model_repository/`."""

    path: str
    bytes: int
    sha256: str


class ArtifactRecord(WireModel):
    """The artifact that won, where it lies in the store and what serves it."""

    digest: Digest
    path: str
    bytes: int
    format: ArtifactFormat
    precision: Precision
    variant: str
    backend: Backend
    golden: Digest | None = Field(
        default=None, description="Of the folder `golden/` beside the repository; null: of before it was recorded."
    )
    parameters: dict[str, str] | None = Field(
        default=None, description="Of the backend, for config.pbtxt: what the artifact needs beside its file."
    )
    serving: TunedServing | None = Field(default=None, description="Serving settings that were found by measuring.")
    encrypted_for: str | None = Field(default=None, description="Public key of age; null: it lies there in plain.")
    tokenizer: bool | None = Field(
        default=None, description="The source's tokenizer.json lies beside config.pbtxt; null: it came without."
    )


class CandidateSummary(WireModel):
    """One line about a candidate for status."""

    variant: str
    verdict: Verdict
    latency_ms: Figure | None = None
    error: Figure | None = None
    reason: str | None = None


class Summary(WireModel):
    """The figures that status shows."""

    winner: str
    speedup: Figure | None = None
    baseline_latency_ms: Figure | None = None
    latency_ms: Figure | None = None
    max_abs_error: Figure | None = None
    metric_drop: Figure | None = None
    samples: Literal["Generated", "Given"] | None = None
    tuning: str | None = Field(default=None, description="What measuring serving settings brought, in one sentence.")
    candidates: tuple[CandidateSummary, ...] = ()


class VerificationSummary(WireModel):
    """What the loaded server answered to the golden set: the worst figures over pods, outputs and samples."""

    pods: int
    samples: int
    batches: tuple[int, ...] = Field(default=(), description="Batch sizes that were sent, the largest one also padded.")
    max_abs_error: Figure
    relative_error: Figure
    cosine: Figure
    top1_agreement: Figure | None = None
    batch_parity: Figure | None = Field(default=None, description="Null where requests are not batched.")


class Look(WireModel):
    """What a look at the source's address found; `source` has the digest."""

    changed: bool = Field(description="Other bytes than at the look before, or nothing was known.")
    fingerprint: str | None = Field(
        default=None,
        description="Of names, sizes and versions; null: no versions are told, every look reads all.",
    )


class TerminationMessage(WireModel):
    """What a container leaves in /dev/termination-log. Written by `termination.py` alone."""

    schema_version: Literal[1] = SCHEMA_VERSION
    outcome: Outcome
    reason: OptimizerReason
    message: str
    source: SourceRecord | None = None
    optimizer: OptimizerRecord | None = None
    artifact: ArtifactRecord | None = None
    signature: ModelSignature | None = None
    summary: Summary | None = None
    verification: VerificationSummary | None = None
    look: Look | None = None


class Latency(WireModel):
    """Wall time of one call, milliseconds."""

    median: float
    p95: float
    p99: float | None = None


class Measurement(WireModel):
    """One candidate at one batch size."""

    batch: int
    latency_ms: Latency
    throughput: float = Field(description="Samples per second at concurrency 1.")
    spread: float = Field(description="Relative spread of the rounds' medians; a difference inside it is not a win.")
    runs: int | None = Field(default=None, description="Timed calls.")
    rounds: tuple[float, ...] = Field(default=(), description="Median of each round, milliseconds.")
    histogram: Histogram | None = None
    loads: tuple[Load, ...] = Field(default=(), description="Throughput at several concurrencies.")


class ErrorFigures(WireModel):
    """How far a candidate's answers are from the original's, worst over outputs and samples."""

    max_abs: float
    max_rel: float = Field(description="Frobenius norm of the difference over that of the original's answer.")
    cosine: float
    top1_agreement: float | None = Field(default=None, description="Share of equal arg-max; null if there is none.")
    batch_parity: float = Field(description="Largest relative difference between batch 1 and larger or padded batches.")


class CandidateReport(WireModel):
    """Everything known about one candidate."""

    variant: str
    format: ArtifactFormat
    precision: Precision
    runtime: str
    bytes: int | None = None
    verdict: Verdict
    reason: str | None = None
    error: ErrorFigures | None = None
    measurements: tuple[Measurement, ...] = ()
    peak_memory_bytes: int | None = None
    speedup: float | None = Field(default=None, description="Baseline median over this median at the first batch size.")
    contended: bool = Field(default=False, description="Other processes took CPU time during every measured round.")
    metric: float | None = Field(default=None, description="The task metric, see the report's `metric`.")
    layers: tuple[LayerError, ...] = Field(default=(), description="Error by layer of a quantized one, worst first.")


class Baseline(WireModel):
    """The original, measured as it came."""

    variant: str
    runtime: str
    measurements: tuple[Measurement, ...] = ()
    peak_memory_bytes: int | None = None


class Environment(WireModel):
    """Where the figures come from."""

    cpu: str
    cpu_flags: tuple[str, ...] = ()
    cpu_count: int
    threads: int
    python: str
    packages: dict[str, str] = Field(default_factory=dict)


class StageTiming(WireModel):
    """Seconds spent in one stage."""

    stage: str
    seconds: float


class Report(WireModel):
    """report.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    recipe_key: str
    source: SourceRecord
    recipe: dict[str, Any]
    environment: Environment
    samples: Literal["Generated", "Given"]
    sample_count: int
    seed: int
    signature: ModelSignature
    baseline: Baseline
    candidates: tuple[CandidateReport, ...]
    winner: str
    why: str | None = Field(default=None, description="Why it won.")
    artifact: ArtifactRecord
    files: tuple[FileRecord, ...]
    notes: tuple[str, ...] = ()
    stages: tuple[StageTiming, ...] = ()
    tuning: TuningReport | None = None
    metric: TaskMetric | None = None
    training: tuple[TrainingStage, ...] = ()
    profile: tuple[Profile, ...] = ()
    explanation: Explanation | None = None
    exports: tuple[Export, ...] = Field(default=(), description="What spec.optimization.exports asked for, in order.")


class Manifest(WireModel):
    """manifest.json: what the artifact is and where it comes from, enough to answer a second run at once."""

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe_key: str
    source: SourceRecord
    artifact: ArtifactRecord
    signature: ModelSignature
    files: tuple[FileRecord, ...]
    environment: Environment
    result: TerminationMessage
    encrypted: dict[str, Digest] | None = Field(
        default=None,
        description="Digest of each folder as it lies in the store, encrypted; null: it lies there in plain.",
    )


_SPACE = re.compile(r"\s+")


def one_line(text: str, *, limit: int = 600) -> str:
    """The text on one line and at most `limit` characters."""
    line = _SPACE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
