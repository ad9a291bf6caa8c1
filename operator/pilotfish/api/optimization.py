"""`spec.optimization`: which artifacts may be made, how they are compared, and what they may cost."""

from enum import StrEnum

from pydantic import Field

from pilotfish.api.base import ApiModel, Duration, Fraction, Quantity


class ArtifactFormat(StrEnum):
    """A format that Triton serves."""

    ONNX = "ONNX"
    TORCH_SCRIPT = "TorchScript"


class Precision(StrEnum):
    """The element type in which most of the work is done."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


class Objective(StrEnum):
    """What the winner is best at."""

    LATENCY = "Latency"
    THROUGHPUT = "Throughput"
    SIZE = "Size"
    NONE = "None"


class OnNoCandidate(StrEnum):
    """What happens when no candidate is within the tolerance."""

    SERVE_ORIGINAL = "ServeOriginal"
    FAIL = "Fail"


class TrainingData(ApiModel):
    """Labelled data to train on."""

    uri: str = Field(min_length=1, max_length=2048)
    """An .npz or .safetensors file with the inputs and `labels`."""


class FineTune(ApiModel):
    """Training before or after compression."""

    epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the data."""
    data: TrainingData | None = None
    """What to train on."""
    freeze: tuple[str, ...] = Field(default=(), max_length=64)
    """Patterns of parameters that stay as they are. Example: `layer1.*`."""


class Prune(ApiModel):
    """Removing channels."""

    method: str = Field(default="Structured", max_length=32)
    """Structured: channels are removed and the model gets smaller."""
    ratio: Fraction = "0.5"
    """Share of channels to remove."""
    fine_tune: FineTune | None = None
    """Training that repairs what pruning broke."""


class Teacher(ApiModel):
    """The model that the student learns from."""

    uri: str = Field(min_length=1, max_length=2048)
    """Where the teacher lies."""


class Distill(ApiModel):
    """Training the model of spec.model as the student of a larger one."""

    teacher: Teacher
    """The larger model."""
    temperature: Fraction = "4"
    """Softens both distributions; losses are scaled by its square."""
    alpha: Fraction = "0.7"
    """Weight of the teacher's answer against the labels."""
    epochs: int = Field(default=10, ge=1, le=1000)
    """Passes over the data."""
    data: TrainingData | None = None
    """What to train on."""


class Tolerance(ApiModel):
    """How far a candidate's answers may be from the original's; per precision defaults when left out."""

    max_abs: Fraction | None = None
    """Largest absolute difference of any output element."""
    cosine: Fraction | None = None
    """Smallest cosine similarity of any output."""
    top1_agreement: Fraction | None = None
    """Smallest share of samples whose largest output is at the same place."""
    metric: str | None = Field(default=None, max_length=64)
    """Task metric on labelled samples. Example: `Accuracy`."""
    max_metric_drop: Fraction | None = None
    """Largest loss of the task metric."""


class ComputeResources(ApiModel):
    """CPU and memory, as request and limit at once."""

    cpu: Quantity | None = None
    """Cores. Example: `2` or `500m`."""
    memory: Quantity | None = None
    """Bytes. Example: `4Gi`."""


class JobGpus(ApiModel):
    """GPUs of the optimization Job."""

    count: int = Field(default=0, ge=0, le=16)
    """How many the Job asks for."""


class OptimizationSpec(ApiModel):
    """How the model is made faster, and what may not be lost on the way."""

    formats: tuple[ArtifactFormat, ...] = Field(
        default=(ArtifactFormat.ONNX, ArtifactFormat.TORCH_SCRIPT), min_length=1, max_length=2
    )
    """Which formats may win."""
    precisions: tuple[Precision, ...] = Field(default=(Precision.FP32,), min_length=1, max_length=4)
    """Which precisions are tried."""
    objective: Objective = Objective.LATENCY
    """What the winner is best at; None converts and verifies only."""
    batch_sizes: tuple[int, ...] = Field(default=(1, 8), min_length=1, max_length=8)
    """Batch sizes that are measured; the objective's figure is at the first."""
    prune: Prune | None = None
    """Remove channels before conversion."""
    distill: Distill | None = None
    """Train the model as the student of a larger one."""
    fine_tune: FineTune | None = None
    """Transfer learning before compression."""
    tolerance: Tolerance | None = None
    """How far answers may differ from the original's."""
    on_no_candidate: OnNoCandidate = OnNoCandidate.SERVE_ORIGINAL
    """Serve the plain conversion of the original, or stop, when nothing is within the tolerance."""
    exports: tuple[str, ...] = Field(default=(), max_length=8)
    """Extra artifacts for elsewhere; reported, not served."""
    profile: bool = False
    """Keep traces of where the time goes beside the report."""
    gpus: JobGpus | None = None
    """GPUs of the Job itself."""
    resources: ComputeResources | None = None
    """CPU and memory of the Job."""
    deadline: Duration = "1h"
    """The Job is ended after this long."""
