"""What the stages hand to each other: runners, the loaded model, samples, candidates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pilotfish.api.model import ModelFormat
from pilotfish.api.optimization import ArtifactFormat, Precision
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.api.report_sections import LayerError
from pilotfish.optimizer.tensors import Array, Arrays

_BACKENDS = {ArtifactFormat.ONNX: Backend.ONNXRUNTIME, ArtifactFormat.TORCH_SCRIPT: Backend.PYTORCH}
_FILES = {Backend.ONNXRUNTIME: "model.onnx", Backend.OPENVINO: "model.onnx", Backend.PYTORCH: "model.pt"}


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
    came from PyTorch. `converted` says that loading made `onnx` of something else, and that `runner` is that something.
    `bounds` says for an integer input which values are below which number.
    """

    format: ModelFormat
    variant: str
    runner: Runner
    signature: ModelSignature
    onnx: Path | None = None
    converted: bool = False
    module: Any = None
    torchscript: Path | None = None
    packed_samples: Mapping[str, Array] | None = None
    bounds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def release(self) -> None:
        """Let go of the memory of a runner that can; it comes back by itself when it is asked again."""
        close = getattr(self.runner, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The golden set's inputs: every array has one entry per sample first. `labels` are class numbers."""

    inputs: dict[str, Array]
    labels: Array | None
    given: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A built artifact: a folder with the model's file, named as its backend wants it, and what belongs to it.

    `served_by` is said where the format has more than one backend; `parameters` are the backend's for this artifact.
    """

    variant: str
    format: ArtifactFormat
    precision: Precision
    folder: Path
    served_by: Backend | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_original: bool = False
    notes: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()

    @property
    def file(self) -> Path:
        """The main file."""
        return self.folder / _FILES[self.backend]

    @property
    def backend(self) -> Backend:
        """What serves it."""
        return self.served_by or _BACKENDS[self.format]

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(p.stat().st_size for p in self.folder.iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCandidate:
    """A candidate that could not be built, and why; `refused` when it was not even tried."""

    variant: str
    format: ArtifactFormat
    precision: Precision
    reason: str
    refused: bool = False
