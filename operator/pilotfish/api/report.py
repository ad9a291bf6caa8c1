"""What the optimizer says: report.json, manifest.json and the termination message, and what it is told.

Wire types only, camelCase on the wire and snake_case in Python. No I/O, no torch, no numpy: the operator reads these.
Reading ignores unknown keys (a newer optimizer may say more); writing leaves out what is unset.
"""

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from pilotfish.api.base import ApiModel
from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import ArtifactFormat, OptimizationSpec, Precision

SCHEMA_VERSION: Literal[1] = 1
TERMINATION_MESSAGE_LIMIT = 4096
USER_ERROR_EXIT_CODE = 10
JOB_ENV = "PILOTFISH_JOB"
INSTALL_ENV = "PILOTFISH_INSTALL"

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Figure = Annotated[str, StringConstraints(max_length=24)]
"""A measured number as a decimal string: stable in status, free of float noise."""


class WireModel(ApiModel):
    """An ApiModel that is also written as text."""

    def to_json(self, *, indent: int | None = None) -> str:
        """The JSON text, keys in declaration order, so that equal values give equal bytes."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_wire(), ensure_ascii=False, indent=indent, separators=separators)


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
    # convert, prove, choose
    CONVERSION_FAILED = "ConversionFailed"
    REFERENCE_INVALID = "ReferenceInvalid"
    NO_CANDIDATE_WITHIN_TOLERANCE = "NoCandidateWithinTolerance"
    # store and install
    STORE_FULL = "StoreFull"
    ARTIFACT_MISSING = "ArtifactMissing"
    ARTIFACT_DIGEST_MISMATCH = "ArtifactDigestMismatch"
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
    samples: Literal["Generated", "Given"] | None = None
    candidates: tuple[CandidateSummary, ...] = ()


class TerminationMessage(WireModel):
    """What a container leaves in /dev/termination-log. Written by `encode_termination_message` alone."""

    schema_version: Literal[1] = SCHEMA_VERSION
    outcome: Outcome
    reason: OptimizerReason
    message: str
    source: SourceRecord | None = None
    artifact: ArtifactRecord | None = None
    signature: ModelSignature | None = None
    summary: Summary | None = None


class Latency(WireModel):
    """Wall time of one call, milliseconds."""

    median: float
    p95: float


class Measurement(WireModel):
    """One candidate at one batch size."""

    batch: int
    latency_ms: Latency
    throughput: float = Field(description="Samples per second at concurrency 1.")
    spread: float = Field(description="Relative spread of the rounds' medians; a difference inside it is not a win.")


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
    artifact: ArtifactRecord
    files: tuple[FileRecord, ...]
    notes: tuple[str, ...] = ()
    stages: tuple[StageTiming, ...] = ()


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


class JobServing(WireModel):
    """The part of `spec.serving` that the optimizer measures for."""

    max_batch_size: int | None = Field(default=None, ge=0)
    gpus: int = Field(default=0, ge=0)
    cpu_threads: int | None = Field(default=None, ge=1, description="Threads of a serving pod; null: this machine's.")


class JobInput(WireModel):
    """PILOTFISH_JOB: the whole input of `fetch` and `optimize`."""

    name: str
    revision: str
    recipe_key: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    model: ModelSpec
    optimization: OptimizationSpec = OptimizationSpec()
    serving: JobServing = JobServing()


class InstallInput(WireModel):
    """PILOTFISH_INSTALL: which artifact goes to /models and what it must hash to."""

    artifact: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
    digest: Digest
    model: str

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a path that climbs."""
        if ".." in self.artifact.split("/"):
            raise ValueError(f"artifact path {self.artifact!r} must stay inside the store")


_SPACE = re.compile(r"\s+")


def one_line(text: str, *, limit: int = 600) -> str:
    """The text on one line and at most `limit` characters."""
    line = _SPACE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def encode_termination_message(message: TerminationMessage, *, limit: int = TERMINATION_MESSAGE_LIMIT) -> str:
    """JSON of at most `limit` UTF-8 bytes.

    Trimmed step by step and always in the same order: long sentences first, then the candidates' reasons, then the
    candidates that did not win, then examples in the signature, then the signature (`manifest.json` has all of it).
    """
    trimmed = message
    for step in _TRIM_STEPS:
        text = trimmed.to_json()
        if len(text.encode()) <= limit:
            return text
        trimmed = step(trimmed)
    text = trimmed.to_json()
    if len(text.encode()) > limit:
        raise ValueError(f"termination message does not fit {limit} bytes even when trimmed")
    return text


def decode_termination_message(text: str) -> TerminationMessage:
    """Read what a container left; raises ValueError (pydantic.ValidationError) for anything else."""
    return TerminationMessage.model_validate_json(text)


def _shorten(message: TerminationMessage) -> TerminationMessage:
    shorter = _with_candidates(message, reason_limit=120)
    return shorter.model_copy(update={"message": one_line(message.message, limit=300)})


def _drop_reasons(message: TerminationMessage) -> TerminationMessage:
    return _with_candidates(message, reason_limit=24)


def _keep_winner(message: TerminationMessage) -> TerminationMessage:
    if message.summary is None:
        return message
    kept = tuple(c for c in message.summary.candidates if c.variant == message.summary.winner)
    return message.model_copy(update={"summary": message.summary.model_copy(update={"candidates": kept})})


def _drop_examples(message: TerminationMessage) -> TerminationMessage:
    if message.signature is None:
        return message
    bare = {
        side: tuple(t.model_copy(update={"example": None}) for t in getattr(message.signature, side))
        for side in ("inputs", "outputs")
    }
    return message.model_copy(update={"signature": message.signature.model_copy(update=bare)})


def _drop_signature(message: TerminationMessage) -> TerminationMessage:
    return message.model_copy(update={"signature": None})


def _with_candidates(message: TerminationMessage, *, reason_limit: int) -> TerminationMessage:
    if message.summary is None:
        return message
    kept = tuple(
        c if c.reason is None else c.model_copy(update={"reason": one_line(c.reason, limit=reason_limit)})
        for c in message.summary.candidates
    )
    return message.model_copy(update={"summary": message.summary.model_copy(update={"candidates": kept})})


_TRIM_STEPS = (_shorten, _drop_reasons, _keep_winner, _drop_examples, _drop_signature)
