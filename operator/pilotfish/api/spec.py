"""`spec`: everything a user can say. One door to all blocks of the contract."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field

from pilotfish.api.base import ApiModel
from pilotfish.api.markers import Rule, RuleReason, marked
from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import OptimizationSpec
from pilotfish.api.rollout import RolloutSpec
from pilotfish.api.serving import ServingSpec
from pilotfish.api.storage import StorageSpec
from pilotfish.api.training import FRESH_NEEDS_TRAINING, NEEDS_TORCH, PRUNE_NEEDS_MODULE
from pilotfish.api.tuning import TUNING_RULES

__all__ = ["ModelDeploymentSpec", "ModelSpec", "OptimizationSpec", "RolloutSpec", "ServingSpec", "StorageSpec"]

# A packed model brings its samples along, and a format that is left out may be one; what is held out of training data
# serves as samples too. Only others are refused.
_LEARNS = "has(self.optimization.fineTune) || has(self.optimization.prune) || has(self.optimization.distill)"


def _learns(spec: Mapping[str, Any]) -> bool:
    return any(stage in spec["optimization"] for stage in ("fineTune", "prune", "distill"))


_INT8_NEEDS_SAMPLES = Rule(
    cel="!('INT8' in self.optimization.precisions) || has(self.model.samples) || !has(self.model.format) "
    f"|| self.model.format == 'ExportedProgram' || {_LEARNS}",
    message="INT8 is calibrated on recorded inputs: set model.samples.uri, or remove INT8 from optimization.precisions",
    holds=lambda spec: (
        "INT8" not in spec["optimization"]["precisions"]
        or "samples" in spec["model"]
        or spec["model"].get("format", "ExportedProgram") == "ExportedProgram"
        or _learns(spec)
    ),
    field_path=".model.samples",
    reason=RuleReason.REQUIRED,
)

_METRIC_NEEDS_SAMPLES = Rule(
    cel="!has(self.optimization.tolerance) || (!has(self.optimization.tolerance.metric) "
    "&& !has(self.optimization.tolerance.maxMetricDrop)) || has(self.model.samples) || !has(self.model.format) "
    f"|| self.model.format == 'ExportedProgram' || {_LEARNS}",
    message="a task metric is measured on labelled samples: set model.samples.uri to a file with labels, or remove "
    "metric and maxMetricDrop from optimization.tolerance",
    holds=lambda spec: (
        not {"metric", "maxMetricDrop"} & set(spec["optimization"].get("tolerance") or {})
        or "samples" in spec["model"]
        or spec["model"].get("format", "ExportedProgram") == "ExportedProgram"
        or _learns(spec)
    ),
    field_path=".model.samples",
    reason=RuleReason.REQUIRED,
)

_NOT_FROM_TORCH = frozenset({"ONNX", "SavedModel", "Keras", "TFLite"})
_EXPLANATIONS_NEED_TORCH = Rule(
    cel="!has(self.optimization.explanations) || !has(self.model.format) "
    "|| !(self.model.format in ['ONNX', 'SavedModel', 'Keras', 'TFLite'])",
    message="explanations are for models that came from PyTorch: give an ExportedProgram, weights or a "
    "HuggingFace folder, or remove optimization.explanations",
    holds=lambda spec: "explanations" not in spec["optimization"] or spec["model"].get("format") not in _NOT_FROM_TORCH,
    field_path=".optimization.explanations",
)

_SHADOW_NEEDS_THE_SERVICE = Rule(
    cel="!has(self.rollout.shadow) || !has(self.serving.gateway)",
    message="shadow is not available with a gateway in this version; remove rollout.shadow or serving.gateway",
    holds=lambda spec: "shadow" not in spec["rollout"] or "gateway" not in spec["serving"],
    field_path=".rollout.shadow",
)

_SHADOW_SPEAKS_PLAINLY = Rule(
    cel="!has(self.rollout.shadow) || !has(self.serving.access) || !has(self.serving.access.tls)",
    message="shadow is not available with access.tls in this version; remove rollout.shadow or serving.access.tls",
    holds=lambda spec: "shadow" not in spec["rollout"] or "tls" not in spec["serving"]["access"],
    field_path=".rollout.shadow",
)


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, how to optimize it, where to keep it, how to serve it and how to change it."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            *TUNING_RULES,
            _INT8_NEEDS_SAMPLES,
            _METRIC_NEEDS_SAMPLES,
            _EXPLANATIONS_NEED_TORCH,
            _SHADOW_NEEDS_THE_SERVICE,
            _SHADOW_SPEAKS_PLAINLY,
            NEEDS_TORCH,
            PRUNE_NEEDS_MODULE,
            FRESH_NEEDS_TRAINING,
        )
    )

    model: ModelSpec
    """Which trained model to serve. Example: `{uri: "s3://models/digits/v3/"}`."""
    optimization: OptimizationSpec = OptimizationSpec()
    """How the model is made faster. Example: `{precisions: [FP32, FP16]}`."""
    storage: StorageSpec = StorageSpec()
    """Where artifacts are kept. Example: `{size: 20Gi}`."""
    serving: ServingSpec = ServingSpec()
    """The Triton pods. Example: `{replicas: 2, gpus: {count: 1}}`."""
    rollout: RolloutSpec = RolloutSpec()
    """How a new revision takes over. Example: `{progressDeadline: 15m}`."""
    paused: bool = False
    """While true nothing moves; what serves goes on serving."""
    revision_history_limit: int = Field(default=5, ge=0, le=100)
    """How many old revisions are kept."""
