"""`spec.optimization`: which artifacts may be made, how they are compared, and what they may cost."""

from typing import Annotated

from pydantic import ConfigDict, Field

from pilotfish.api.base import ApiModel, Duration, Quantity, between
from pilotfish.api.markers import DocumentedEnum, distinct, marked
from pilotfish.api.tolerance import Tolerance
from pilotfish.api.training import NEEDS_DATA, ONE_DATA, Distill, FineTune, Prune, TrainingData
from pilotfish.api.tuning import TuningSpec


class ArtifactFormat(DocumentedEnum):
    """A format that Triton serves."""

    ONNX = "ONNX", "served by the onnxruntime backend, or on CPUs by openvino where that is faster"
    TORCH_SCRIPT = "TorchScript", "served by the pytorch backend"


class Precision(DocumentedEnum):
    """The element type in which most of the work is done."""

    FP32 = "FP32", "single precision, always exact enough"
    FP16 = "FP16", "half precision, for GPUs"
    BF16 = "BF16", "bfloat16 on CPUs that compute in it, served by OpenVINO"
    INT8 = "INT8", "8-bit integers, calibrated on samples"


class Objective(DocumentedEnum):
    """What the winner is best at."""

    LATENCY = "Latency", "smallest median latency at the first batch size"
    THROUGHPUT = "Throughput", "most inferences per second"
    SIZE = "Size", "fewest bytes"
    NONE = "None", "nothing is measured: convert and verify only"


class OnNoCandidate(DocumentedEnum):
    """What happens when no candidate is within the tolerance."""

    SERVE_ORIGINAL = "ServeOriginal", "the plain conversion of the original is served"
    FAIL = "Fail", "the revision fails and the old one goes on serving"


class ExportFormat(DocumentedEnum):
    """An artifact for elsewhere."""

    TFLITE = "TFLite", "for phones and microcontrollers"
    OPENVINO = "OpenVINO", "OpenVINO's model.xml and model.bin, for Intel's devices"
    EXPORTED_PROGRAM = "ExportedProgram", "PyTorch's model.pt2, for torch.export.load; of models that came from PyTorch"
    AOT_INDUCTOR = "AOTInductor", "a compiled model.pt2 for this kind of CPU; of models that came from PyTorch"


class ExplanationMethod(DocumentedEnum):
    """How the share of each input value in an answer is found; the names are Captum's."""

    INTEGRATED_GRADIENTS = "IntegratedGradients", "gradients summed on the way from zeros to the sample"
    SALIENCY = "Saliency", "the size of the gradient at the sample"
    FEATURE_ABLATION = (
        "FeatureAblation",
        "what changes when a value is zero; needs no gradients, and a call for each value",
    )


class Explanations(ApiModel):
    """Attributions of the original's answers to the values of its inputs, for models that came from PyTorch."""

    method: ExplanationMethod = ExplanationMethod.INTEGRATED_GRADIENTS
    """How attributions are found."""
    samples: int = Field(default=8, ge=1, le=64)
    """How many samples of the golden set are explained, the first ones, 1 to 64. Example: `16`."""


class ComputeResources(ApiModel):
    """CPU and memory, as request and limit at once."""

    cpu: Quantity | None = None
    """Cores. Example: `2` or `500m`."""
    memory: Quantity | None = None
    """Bytes. Example: `4Gi`."""


class JobGpus(ApiModel):
    """GPUs of the optimization Job."""

    count: int = Field(default=0, ge=0, le=16)
    """How many the Job asks for. Example: `1`."""


class OptimizationSpec(ApiModel):
    """How the model is made faster, and what may not be lost on the way."""

    model_config = ConfigDict(json_schema_extra=marked(NEEDS_DATA, ONE_DATA))

    formats: tuple[ArtifactFormat, ...] = Field(
        default=(ArtifactFormat.ONNX, ArtifactFormat.TORCH_SCRIPT),
        min_length=1,
        max_length=2,
        json_schema_extra=marked(distinct("name each format once")),
    )
    """Which formats may win."""
    precisions: tuple[Precision, ...] = Field(
        default=(Precision.FP32,),
        min_length=1,
        max_length=4,
        json_schema_extra=marked(distinct("name each precision once")),
    )
    """Which precisions are tried. Example: `[FP32, INT8]`."""
    objective: Objective = Objective.LATENCY
    """What the winner is best at."""
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(1, 8), min_length=1, max_length=8, json_schema_extra=marked(distinct("name each batch size once"))
    )
    """Batch sizes that are measured; the objective's figure is at the first. Example: `[1, 8]`."""
    prune: Prune | None = None
    """Remove channels before conversion. Example: `{ratio: "0.5"}`."""
    distill: Distill | None = None
    """Train the model as the student of a larger one. Example: `{teacher: {uri: "s3://models/digits/teacher/"}}`."""
    fine_tune: FineTune | None = None
    """Transfer learning before compression. Example: `{data: {uri: "s3://data/digits/train.npz"}, epochs: 3}`."""
    tolerance: Tolerance | None = None
    """How far answers may differ from the original's; defaults by precision when left out.
    Example: `{top1Agreement: "0.995"}`."""
    tuning: TuningSpec | None = None
    """Measure on a real Triton which serving settings are best; nothing is measured when left out.
    Example: `{concurrency: 16}`."""
    on_no_candidate: OnNoCandidate = OnNoCandidate.SERVE_ORIGINAL
    """What happens when no candidate is within the tolerance."""
    exports: tuple[ExportFormat, ...] = Field(
        default=(), max_length=8, json_schema_extra=marked(distinct("name each export once"))
    )
    """Extra artifacts for elsewhere; reported, not served. Example: `[OpenVINO]`."""
    profile: bool = False
    """Keep traces of where the time of the winner and of the original goes beside the report."""
    explanations: Explanations | None = None
    """Explain the original's answers in the report; nothing is explained when left out. Example: `{samples: 16}`."""
    gpus: JobGpus | None = Field(default=None, json_schema_extra=marked(unavailable=True))
    """GPUs of the Job itself. Example: `{count: 1}`."""
    resources: ComputeResources | None = None
    """CPU and memory of the Job. Example: `{cpu: 2, memory: 4Gi}`."""
    deadline: Duration = Field(default="1h", json_schema_extra=between("1m", "168h"))
    """The Job is ended after this long, 1m to 168h."""

    @property
    def trains(self) -> bool:
        """Whether anything is trained before conversion."""
        return any((self.fine_tune, self.prune, self.distill))

    @property
    def training_data(self) -> TrainingData | None:
        """What every stage of training learns from and is judged on; None when no stage names any."""
        repair = self.prune.fine_tune if self.prune else None
        places = (stage.data for stage in (self.fine_tune, repair, self.distill) if stage is not None)
        return next((data for data in places if data is not None), None)
