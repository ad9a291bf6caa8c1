"""What the stages hand to each other: runners, the loaded model, samples, candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pilotfish.api.model import ModelFormat
from pilotfish.api.optimization import ArtifactFormat, Precision
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.optimizer.tensors import Array, Arrays


class Runner(Protocol):
    """A model that answers: named arrays in, named arrays out, batch dimension first when the model is batched."""

    @property
    def runtime(self) -> str:
        """Name and version of what computes."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call. Raises whatever the runtime raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """The original, ready to answer and to be converted.

    `onnx` and `torchscript` are the original's own file when it is of that kind, `module` the torch module of one that
    came from PyTorch.
    from PyTorch.
    `bounds` says for an integer input which values are below which number.
    """

    format: ModelFormat
    variant: str
    runner: Runner
    signature: ModelSignature
    onnx: Path | None = None
    module: Any = None
    torchscript: Path | None = None
    packed_samples: Mapping[str, Array] | None = None
    bounds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The golden set's inputs: every array has one entry per sample first. `labels` are class numbers."""

    inputs: dict[str, Array]
    labels: Array | None
    given: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A built artifact: a folder with `model.onnx` or `model.pt` (and what belongs to it)."""

    variant: str
    format: ArtifactFormat
    precision: Precision
    folder: Path
    is_original: bool = False
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The main file."""
        return self.folder / ("model.onnx" if self.format is ArtifactFormat.ONNX else "model.pt")

    @property
    def backend(self) -> Backend:
        """What serves it."""
        return Backend.ONNXRUNTIME if self.format is ArtifactFormat.ONNX else Backend.PYTORCH

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(p.stat().st_size for p in self.folder.iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCandidate:
    """A candidate that could not be built, and why."""

    variant: str
    format: ArtifactFormat
    precision: Precision
    reason: str
