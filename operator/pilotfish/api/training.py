"""`spec.optimization.fineTune`, `prune` and `distill`: training inside the Job, and the rules between them.

One recipe is trained and judged on one set of data, whichever of its stages names it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from pilotfish.api import source_rules
from pilotfish.api.base import ApiModel, PositiveFraction, SecretName, Share
from pilotfish.api.markers import DocumentedEnum, Rule, RuleReason, full_match, marked
from pilotfish.api.model import Architecture, ModelFormat, SourceUri, Trust

# The image that trains has no TensorFlow.
_TENSORFLOW = (ModelFormat.KERAS, ModelFormat.SAVED_MODEL, ModelFormat.TFLITE)


class PruneMethod(DocumentedEnum):
    """How pruning removes weights."""

    STRUCTURED = "Structured", "whole channels go, the model gets smaller and faster"
    UNSTRUCTURED = "Unstructured", "single weights become zero, neither smaller nor faster by itself"


class TrainingData(ApiModel):
    """Labelled data to train on."""

    uri: SourceUri
    """An .npz or .safetensors file with one array per input of the model and `labels`, first dimension samples.
    Whole numbers as labels are classes, floating-point ones are answers to come close to. A fifth is held out to judge
    by. Example: `s3://data/digits/train.npz`."""
    secret_name: SecretName | None = None
    """Secret with the credentials to read it, in the same namespace. Example: `s3-credentials`."""


_DECIMAL = r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?"
_IS_DECIMAL = full_match(_DECIMAL, 'write a decimal number in quotes such as "0.5"')
_RATE = Rule(
    cel=f"!({_IS_DECIMAL.cel}) || (double(self) > 0.0 && double(self) <= 1.0)",
    message='write a learning rate above 0 and up to 1 in quotes such as "1e-3"',
    holds=lambda value: 0 < float(value) <= 1,
)
LearningRate = Annotated[
    str, Field(pattern=f"^{_DECIMAL}$", max_length=32, json_schema_extra=marked(_IS_DECIMAL, _RATE))
]


class FineTune(ApiModel):
    """Training before or after compression."""

    epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the data. Example: `3`."""
    data: TrainingData | None = None
    """What to train on. Left out, the data of the recipe's other stages.
    Example: `{uri: "s3://data/digits/train.npz"}`."""
    freeze: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=(), max_length=64)
    """Patterns of parameters that stay as they are, with the statistics of batch normalization beside them.
    Example: `["layer1.*"]`."""
    learning_rate: LearningRate | None = None
    """Largest step size. Left out, 1e-3, and 5e-5 for a model that came as a HuggingFace folder. Example: `"3e-4"`."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Samples a step. Example: `64`."""


_RATIO = Rule(
    cel=f"!({_IS_DECIMAL.cel}) || (double(self) > 0.0 && double(self) <= 0.95)",
    message='write a share above 0 and up to 0.95 in quotes such as "0.5" for half of the channels',
    holds=lambda value: 0 < float(value) <= 0.95,  # noqa: PLR2004
)


class Prune(ApiModel):
    """Removing channels."""

    method: PruneMethod = PruneMethod.STRUCTURED
    """How weights are removed."""
    ratio: Annotated[
        str, Field(pattern=f"^{_DECIMAL}$", max_length=32, json_schema_extra=marked(_IS_DECIMAL, _RATIO))
    ] = "0.5"
    """Share of channels to remove, above 0 and up to 0.95. Example: `"0.5"`."""
    fine_tune: FineTune | None = None
    """Training that repairs what pruning broke."""


class Teacher(ApiModel):
    """The model that the student learns from."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            source_rules.WEIGHTS_NEED_ARCHITECTURE,
            source_rules.CODE_NEEDS_TRUST,
            source_rules.TRUSTED_FACTORY,
            source_rules.FILE_NEEDS_TRUST,
        )
    )

    uri: SourceUri
    """Where the teacher lies; it takes the student's inputs. Example: `s3://models/digits/teacher/`."""
    secret_name: SecretName | None = None
    """Secret with the credentials to read it, in the same namespace. Example: `s3-credentials`."""
    format: ModelFormat | None = Field(default=None, json_schema_extra=marked(unavailable=_TENSORFLOW))
    """What the bytes are; inferred from them when left out."""
    trust: Trust = Trust.DATA_ONLY
    """Whether the teacher may hold code that runs when it is opened."""
    architecture: Architecture | None = None
    """The code that a file of weights belongs to; needed for StateDict and SafeTensors.
    Example: `{factory: torchvision.models.resnet50, arguments: {num_classes: 10}}`."""


class Distill(ApiModel):
    """Training the model of spec.model as the student of a larger one."""

    teacher: Teacher
    """The larger model. Example: `{uri: "s3://models/digits/teacher/"}`."""
    temperature: PositiveFraction = "4"
    """Softens both distributions; losses are scaled by its square. Example: `"4"`."""
    alpha: Share = "0.7"
    """Weight of the teacher's answer against the labels, 0 to 1. Example: `"0.7"`."""
    epochs: int = Field(default=10, ge=1, le=1000)
    """Passes over the data. Example: `10`."""
    data: TrainingData | None = None
    """What to train on. Left out, the data of the recipe's other stages.
    Example: `{uri: "s3://data/digits/train.npz"}`."""
    learning_rate: LearningRate | None = None
    """Largest step size. Left out, 1e-3, and 5e-5 for a model that came as a HuggingFace folder. Example: `"3e-4"`."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Samples a step. Example: `64`."""


def _uris(optimization: Mapping[str, Any]) -> set[str]:
    stages = (
        optimization.get("fineTune", {}),
        optimization.get("prune", {}).get("fineTune", {}),
        optimization.get("distill", {}),
    )
    return {stage["data"]["uri"] for stage in stages if "data" in stage}


_STAGES = ("fineTune", "prune", "distill")
_FIRST = "has(self.fineTune) && has(self.fineTune.data)"
_SECOND = "has(self.prune) && has(self.prune.fineTune) && has(self.prune.fineTune.data)"
_THIRD = "has(self.distill) && has(self.distill.data)"
_PLACES = {
    "self.fineTune.data.uri": _FIRST,
    "self.prune.fineTune.data.uri": _SECOND,
    "self.distill.data.uri": _THIRD,
}
NEEDS_DATA = Rule(
    cel=f"!(has(self.fineTune) || has(self.prune) || has(self.distill)) || ({_FIRST}) || ({_SECOND}) || ({_THIRD})",
    message="training needs labelled data: set fineTune.data.uri, prune.fineTune.data.uri or distill.data.uri; one of "
    "them is enough for all stages",
    holds=lambda optimization: not any(s in optimization for s in _STAGES) or bool(_uris(optimization)),
    reason=RuleReason.REQUIRED,
)
ONE_DATA = Rule(
    cel=" && ".join(f"(!({_PLACES[a]} && {_PLACES[b]}) || {a} == {b})" for a in _PLACES for b in _PLACES if a < b),
    message="fineTune, prune.fineTune and distill name different data: one recipe is trained and judged on one set; "
    "name it once",
    holds=lambda optimization: len(_uris(optimization)) <= 1,
)

_UNTRAINABLE = ("ONNX", "TorchScript", "Keras", "SavedModel", "TFLite")
_ASKS = "(has(self.optimization.fineTune) || has(self.optimization.prune) || has(self.optimization.distill))"
NEEDS_TORCH = Rule(
    cel=f"!{_ASKS} || !has(self.model.format) || "
    f"!(self.model.format in [{', '.join(repr(name) for name in _UNTRAINABLE)}])",
    message="a model of this format cannot be trained: give weights as SafeTensors or StateDict with architecture, or "
    "a HuggingFace folder; or remove fineTune, prune and distill",
    holds=lambda spec: (
        not any(s in spec["optimization"] for s in _STAGES) or spec["model"].get("format") not in _UNTRAINABLE
    ),
    field_path=".model.format",
)
PRUNE_NEEDS_MODULE = Rule(
    cel="!has(self.optimization.prune) || !has(self.model.format) || self.model.format != 'ExportedProgram'",
    message="the sizes of an exported program are fixed, so no channel can be removed: give its weights as SafeTensors "
    "with architecture, or remove prune",
    holds=lambda spec: "prune" not in spec["optimization"] or spec["model"].get("format") != "ExportedProgram",
    field_path=".model.format",
)
FRESH_NEEDS_TRAINING = Rule(
    cel="!has(self.model.architecture) || !has(self.model.architecture.fresh) || "
    "size(self.model.architecture.fresh) == 0 || has(self.optimization.fineTune) || has(self.optimization.distill)",
    message="parameters that start anew know nothing yet: set optimization.fineTune to train them, or remove fresh",
    holds=lambda spec: (
        not spec["model"].get("architecture", {}).get("fresh")
        or any(s in spec["optimization"] for s in ("fineTune", "distill"))
    ),
    field_path=".model.architecture.fresh",
)
