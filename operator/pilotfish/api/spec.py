"""`spec`: everything a user can say. One door to all blocks of the contract."""

from pydantic import Field

from pilotfish.api.base import ApiModel
from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import OptimizationSpec
from pilotfish.api.rollout import RolloutSpec
from pilotfish.api.serving import ServingSpec, StorageSpec

__all__ = ["ModelDeploymentSpec", "ModelSpec", "OptimizationSpec", "RolloutSpec", "ServingSpec", "StorageSpec"]


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, how to optimize it, where to keep it, how to serve it and how to change it."""

    model: ModelSpec
    """Which trained model to serve."""
    optimization: OptimizationSpec = OptimizationSpec()
    """How the model is made faster."""
    storage: StorageSpec = StorageSpec()
    """Where artifacts are kept."""
    serving: ServingSpec = ServingSpec()
    """The Triton pods."""
    rollout: RolloutSpec = RolloutSpec()
    """How a new revision takes over."""
    paused: bool = False
    """While true nothing moves; what serves goes on serving."""
    revision_history_limit: int = Field(default=5, ge=0, le=100)
    """How many old revisions are kept."""
