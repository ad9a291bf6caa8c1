"""What a model file or folder is, by the optimizer's own eyes. Runs ONNX models once; opens nothing that holds code.

torch and TensorFlow are never imported: what only they could tell is left to the Job.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli.init.choices import Undecided
from pilotfish.optimizer.digest import digest_of, hash_file, hash_folder, list_files
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import Identified, identify
from pilotfish.optimizer.small_json import read_json

MAX_RUN_BYTES = 2 * 1024**3
"""Larger ONNX models are not run here: their declared shapes must do."""
SAMPLES = "samples.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found. `size` in bytes; `signature` None where only the Job can tell it."""

    format: ModelFormat
    size: int
    is_folder: bool
    signature: ModelSignature | None = None
    signature_from: str = ""
    is_packed: bool = False
    architecture: str = ""
    """Of a HuggingFace folder, from its config.json."""


def look_at(source: Path) -> Seen:
    """Look at a file or folder.

    Raises:
        OptimizerError: what the optimizer itself would refuse, in its words.
        Undecided: a file that is no whole model.
        OSError: it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as work:
        found = identify(source, work=Path(work))
        if found.format is ModelFormat.ONNX and not source.is_dir() and _has_data_beside(found.path):
            raise Undecided(f"it keeps its weights in a file beside it: give the folder {source.resolve().parent}")
        size = sum(file.stat().st_size for file in list_files(source)) if source.is_dir() else source.stat().st_size
        signature, told_by = _signature(found)
        return Seen(
            format=found.format,
            size=size,
            is_folder=source.is_dir(),
            signature=signature,
            signature_from=told_by,
            is_packed=found.pack is not None,
            architecture=_architecture(found),
        )


def digest(source: Path) -> str:
    """As spec.model.digest wants it."""
    single = not source.is_dir()
    return digest_of((hash_file(source),) if single else hash_folder(source), single=single)


def _signature(found: Identified) -> tuple[ModelSignature | None, str]:
    if found.format is ModelFormat.ONNX:
        return _of_onnx(found.path)
    if found.pack is not None:
        return _of_pack(found.pack), "pilotfish.pack wrote it down"
    return None, ""


def _of_onnx(path: Path) -> tuple[ModelSignature, str]:
    from pilotfish.optimizer.load_onnx import load_onnx, settle_signature  # noqa: PLC0415 - ONNX Runtime

    loaded = load_onnx(path, threads=1)
    if path.stat().st_size > MAX_RUN_BYTES:
        return loaded.signature, "as the file declares it; too large to run here"
    try:
        return settle_signature(loaded, trial=None).signature, "found by running the model"
    except OptimizerError:  # no size that was tried for its free dimensions runs: the Job says so with what helps
        return loaded.signature, "as the file declares it; no made-up input ran, so spec.model.samples may be needed"


def _has_data_beside(path: Path) -> bool:
    """Whether tensors of an ONNX file lie in another one; a file that is none is for others to judge."""
    import onnx  # noqa: PLC0415 - comes with the optimizer
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError:
        return False
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


def _of_pack(folder: Path) -> ModelSignature | None:
    """Inputs from the recorded samples; the Job finds the outputs' shapes."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - comes with the optimizer

    from pilotfish.optimizer.tensors import triton_dtype  # noqa: PLC0415 - numpy

    note = read_json(folder / "pilotfish.json")
    batched = bool(note.get("batched"))
    inputs = []
    try:
        with safe_open(str(folder / SAMPLES), framework="numpy") as samples:
            for name in note["inputs"]:
                tensor = samples.get_slice(name)
                shape = tuple(tensor.get_shape())[1:]
                dtype = triton_dtype(samples.get_tensor(name).dtype)
                inputs.append(TensorSpec(name=name, dtype=dtype, shape=shape))
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return ModelSignature(inputs=tuple(inputs), outputs=(), batched=batched)


def _architecture(found: Identified) -> str:
    if found.format is not ModelFormat.HUGGING_FACE:
        return ""
    try:
        return str((read_json(found.path / "config.json").get("architectures") or [""])[0])
    except (ValueError, OSError, AttributeError):
        return ""
