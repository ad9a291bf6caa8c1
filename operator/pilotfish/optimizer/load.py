"""From recognised bytes to a model that answers: what is safe to open, and with what.

torch is imported for torch formats only, TensorFlow never: it has a process of its own.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from safetensors.numpy import load_file

from pilotfish.api.model import ModelFormat, ModelSpec, Trust
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import fill
from pilotfish.optimizer.identify import Identified
from pilotfish.optimizer.load_onnx import load_onnx, settle_signature
from pilotfish.optimizer.model import LoadedModel, Runner
from pilotfish.optimizer.signatures import apply_declared
from pilotfish.optimizer.tensorflow.process import FORMATS as TENSORFLOW
from pilotfish.optimizer.tensorflow.process import interpreter
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY, Array, Arrays, take
from pilotfish.optimizer.torchserve import open_archive
from pilotfish.optimizer.worker import Subject

_TORCH = frozenset(
    {
        ModelFormat.EXPORTED_PROGRAM,
        ModelFormat.TORCH_SCRIPT,
        ModelFormat.STATE_DICT,
        ModelFormat.SAFE_TENSORS,
        ModelFormat.HUGGING_FACE,
        ModelFormat.TORCH_SERVE_ARCHIVE,
    }
)
_CODE = {
    ModelFormat.TORCH_SCRIPT: "TorchScript, which is code",
    ModelFormat.TORCH_SERVE_ARCHIVE: "a TorchServe archive, which brings code",
    ModelFormat.SAVED_MODEL: "a SavedModel, whose graph may read and write files and call code",
}
_HARMLESS = {
    ModelFormat.TORCH_SCRIPT: "save the model with pilotfish.pack",
    ModelFormat.TORCH_SERVE_ARCHIVE: "save the model inside with pilotfish.pack",
    ModelFormat.SAVED_MODEL: "save the model as .keras or export it as ONNX",
}
_REACHING = ("PyFunc", "ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "LoadLibrary")


def load_model(
    found: Identified,
    spec: ModelSpec,
    *,
    threads: int,
    recorded: Mapping[str, Array] | None,
    work: Path | None = None,
) -> LoadedModel:
    """Open a recognised model under the spec's trust.

    `recorded` are samples as they were given, one array per input; their shapes and types help to find the signature.
    What a conversion writes goes below `work`.

    Raises:
        OptimizerError: UnknownFormat (the spec says another format), WrongImage (torch or TensorFlow is needed and
            absent), UnsafeModel, ModelInvalid, ArchitectureInvalid, SignatureMissing, SignatureMismatch,
            ConversionFailed.
    """
    check_format(found, spec)
    if found.format is ModelFormat.TORCH_SERVE_ARCHIVE:
        content = open_archive(found, spec)
        loaded = load_model(content.found, content.spec, threads=threads, recorded=recorded, work=work)
        return replace(loaded, format=found.format, notes=(*loaded.notes, content.note))
    if found.format is ModelFormat.ONNX:
        return _settled(load_onnx(found.path, threads=threads), spec, recorded)
    if found.format in TENSORFLOW:
        from pilotfish.optimizer.tensorflow.load import convert_original

        converted, runner = convert_original(found, spec, threads=threads, work=work)
        loaded = _settled(load_onnx(converted, threads=threads), spec, recorded)
        return replace(
            loaded, format=found.format, variant=f"original-{found.format.value.lower()}", runner=runner, converted=True
        )
    from pilotfish.optimizer.pytorch.load import load_torch

    return apply_declared(load_torch(found, spec, threads=threads, recorded=recorded), spec)


def _settled(loaded: LoadedModel, spec: ModelSpec, recorded: Mapping[str, Array] | None) -> LoadedModel:
    trial = _one_call(loaded, recorded) if recorded else _declared_call(loaded, spec)
    return apply_declared(settle_signature(loaded, trial=trial), spec)


def check_format(found: Identified, spec: ModelSpec) -> None:
    """Everything that can be refused before a file is opened."""
    if spec.format is not None and spec.format is not found.format:
        raise OptimizerError(
            Reason.UNKNOWN_FORMAT,
            f"{found.path.name} is {found.format.value}, but spec.model.format says {spec.format.value}; drop it",
        )
    if found.format in _CODE and spec.trust is not Trust.EXECUTABLE:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{found.path.name} is {_CODE[found.format]}{_notable(found)}; "
            f"set spec.model.trust: Executable if you trust it, or {_HARMLESS[found.format]}",
        )
    if found.format in _TORCH and importlib.util.find_spec("torch") is None:
        raise _wrong_image(found, "PyTorch", "optimizer-torch")
    if found.format in TENSORFLOW and interpreter() is None:
        raise _wrong_image(found, "TensorFlow", "optimizer-tf")


def _wrong_image(found: Identified, library: str, image: str) -> OptimizerError:
    return OptimizerError(
        Reason.WRONG_IMAGE,
        f"{found.path.name} is {found.format.value} and needs {library}, which this image has not; "
        f"set spec.model.format: {found.format.value} so that the {image} image is used",
    )


def _notable(found: Identified) -> str:
    """Which operators of a SavedModel's graph reach outside, from its bytes alone."""
    if found.format is not ModelFormat.SAVED_MODEL:
        return ""
    graph = (found.path / "saved_model.pb").read_bytes()
    names = [name for name in _REACHING if name.encode() in graph]
    return f" (this one names {', '.join(names)})" if names else ""


def reload_runner(subject: Subject) -> Runner:
    """The original again, in a worker; the source has been checked and loaded once already."""
    source = subject.source or {}
    pack = Path(source["pack"]) if source["pack"] else None
    found = Identified(
        format=next(f for f in ModelFormat if f.value == source["format"]), path=Path(subject.path), pack=pack
    )
    spec = ModelSpec.model_validate(source["spec"])
    if found.format in TENSORFLOW:  # this worker runs in a Python that has it: nothing between the model and the clock
        from pilotfish.optimizer.tensorflow.load import open_here

        return cast("Runner", open_here(found, spec, threads=subject.threads))
    from pilotfish.optimizer.pytorch.runtime import set_threads

    set_threads(subject.threads)
    return load_model(found, spec, threads=subject.threads, recorded=load_file(subject.inputs)).runner


def _one_call(model: LoadedModel, recorded: Arrays) -> Arrays | None:
    """Inputs of one call out of recorded samples: several samples where the batch dimension is the sample's.

    None when they do not fit the model: `check_samples` says how.
    """
    specs = {t.name: t for t in model.signature.inputs}
    if not set(specs) <= set(recorded):
        return None
    if not all(a.ndim and len(a) and a.dtype.kind in "biuf" for a in (recorded[name] for name in specs)):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # only a trial
        inputs = {name: recorded[name].astype(TRITON_TO_NUMPY[spec.dtype]) for name, spec in specs.items()}
    fixed = [t.shape[0] for t in specs.values() if t.shape and t.shape[0] > 0]
    for call in ({name: np.asarray(array[0]) for name, array in inputs.items()}, take(inputs, 0, (fixed or [2])[0])):
        if all(_fits(array.shape, specs[name].shape) for name, array in call.items()):
            return call
    return None


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    return len(shape) == len(declared) and all(d in {-1, s} for s, d in zip(shape, declared, strict=True))


def _declared_call(model: LoadedModel, spec: ModelSpec) -> Arrays | None:
    """Generated inputs in the shapes of spec.model.signature, when those are all fixed."""
    said = {t.name: t.shape for t in spec.signature.inputs} if spec.signature else {}
    if not said or any(-1 in shape for shape in said.values()) or set(said) != {t.name for t in model.signature.inputs}:
        return None
    batched = all(len(said[t.name]) == len(t.shape) - 1 for t in model.signature.inputs)
    shapes = {name: (2, *shape) if batched else shape for name, shape in said.items()}
    if not all(_fits(shapes[t.name], t.shape) for t in model.signature.inputs):
        return None
    return fill(model.signature, shapes, bounds=model.bounds, seed=0)
