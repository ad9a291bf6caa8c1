"""Serving settings that are measured: what a user asks for, what is found, and what was tried on the way."""

from typing import Literal

from pydantic import Field

from pilotfish.api.base import ApiModel, Duration, between
from pilotfish.api.markers import DocumentedEnum, Rule, distinct, marked


class Tunable(DocumentedEnum):
    """A serving setting that may be found by measuring."""

    MAX_BATCH_SIZE = (
        "MaxBatchSize",
        "spec.serving.batching.maxBatchSize, never below its default: clients may rely on it",
    )
    PREFERRED_SIZES = "PreferredSizes", "spec.serving.batching.preferredSizes"
    MAX_QUEUE_DELAY = "MaxQueueDelay", "spec.serving.batching.maxQueueDelay"
    INSTANCES = "Instances", "spec.serving.instances"
    THREADS = "Threads", "spec.serving.threads.intraOp"


class Accelerator(DocumentedEnum):
    """What ONNX Runtime hands the model to on a GPU."""

    TENSORRT_FP32 = "TensorRTFP32", "TensorRT in single precision"
    TENSORRT_FP16 = "TensorRTFP16", "TensorRT in half precision"


class TuningSpec(ApiModel):
    """Measuring on a real Triton which serving settings are best; only settings that stand at their default change."""

    settings: tuple[Tunable, ...] = Field(
        default=tuple(Tunable), min_length=1, max_length=5, json_schema_extra=marked(distinct("name each setting once"))
    )
    """Which settings may be found by measuring; others keep their default. Example: `[MaxQueueDelay, Instances]`."""
    concurrency: int = Field(default=16, ge=2, le=256)
    """Most requests at once that are tried, 2 to 256. Example: `16`."""
    max_latency: Duration | None = Field(default=None, json_schema_extra=between("1ms", "60s"))
    """With objective Throughput: largest 95th percentile that counts; 10 times that of a single request under the
    default settings, and not below 20ms, when left out. Example: `50ms`."""
    time: Duration = Field(default="90s", json_schema_extra=between("5s", "30m"))
    """How long it may measure, 5s to 30m."""


TUNING_RULES = (
    Rule(
        cel="!has(self.optimization.tuning) || self.optimization.objective in ['Latency', 'Throughput']",
        message="tuning measures for an objective: write Latency or Throughput, or remove optimization.tuning",
        holds=lambda spec: (
            "tuning" not in spec["optimization"] or spec["optimization"]["objective"] in {"Latency", "Throughput"}
        ),
        field_path=".optimization.objective",
    ),
    Rule(
        cel="!has(self.optimization.tuning) || self.serving.gpus.count == 0 || has(self.optimization.gpus)",
        message="tuning measures what will serve, and the Job has no GPU: remove optimization.tuning",
        holds=lambda spec: (
            "tuning" not in spec["optimization"]
            or spec["serving"]["gpus"]["count"] == 0
            or "gpus" in spec["optimization"]
        ),
        field_path=".optimization.tuning",
    ),
)
"""Of the whole spec."""


class TunedServing(ApiModel):
    """What was found; None where the user had said it or it was not to be tuned."""

    max_batch_size: int | None = None
    """Largest batch in samples."""
    preferred_sizes: tuple[int, ...] | None = None
    """Batch sizes that are sent at once when reached."""
    max_queue_delay_microseconds: int | None = None
    """How long a request may wait for others."""
    instances: int | None = None
    """Model instances per pod (per GPU on GPUs)."""
    intra_op_threads: int | None = None
    """Threads inside one operator, in each instance."""
    accelerator: Accelerator | None = None
    """What ONNX Runtime hands the model to on a GPU."""
    cores: int
    """CPU limit of the pod that was measured: instances and threads hold for this number alone."""


class PointVerdict(DocumentedEnum):
    """What became of one tried point."""

    WON = "Won", "it serves"
    MEASURED = "Measured", "another one is better, or as good and simpler"
    PRUNED = "Pruned", "hopeless after the first round"
    FAILED = "Failed", "Triton did not load or serve it"


class PointLoad(ApiModel):
    """One point under one number of concurrent requests of one sample each."""

    concurrency: int
    throughput: float
    """Inferences per second."""
    p50_ms: float
    """Median time of a request, as the client sees it."""
    p95_ms: float
    """95th percentile."""
    p99_ms: float
    """99th percentile."""
    requests: int
    """How many were counted."""
    spread: float
    """Relative spread of the rounds' throughput."""
    p95_spread: float
    """Relative spread of the rounds' 95th percentiles."""


class TuningPoint(ApiModel):
    """One combination of settings that was tried."""

    max_batch_size: int
    preferred_sizes: tuple[int, ...] = ()
    max_queue_delay_microseconds: int
    instances: int
    intra_op_threads: int
    accelerator: Accelerator | None = None
    verdict: PointVerdict
    reason: str
    loads: tuple[PointLoad, ...] = ()
    contended: bool = False
    """Other processes took CPU time in every round."""


class TuningReport(ApiModel):
    """How serving settings were found; `points` holds the default first."""

    objective: Literal["Latency", "Throughput"]
    server: str | None = None
    """Name and version of the server that was measured."""
    cores: int | None = None
    """CPU limit of a serving pod."""
    seconds: float = 0.0
    budget_seconds: float = 0.0
    complete: bool = False
    """False: time ran out before a whole sweep brought nothing better."""
    concurrency: int
    max_latency_ms: float | None = None
    """The bound that held for Throughput."""
    points: tuple[TuningPoint, ...] = ()
    """Left out: nothing was tuned, and `why` says why."""
    winner: int | None = None
    """Index into `points`."""
    why: str
