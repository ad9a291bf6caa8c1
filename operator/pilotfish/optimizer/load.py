"""From recognised bytes to a model that answers. Decides what is safe to open; torch is imported for torch formats only."""

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file

from pilotfish.api.model import ModelFormat, ModelSpec, Trust
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import Identified
from pilotfish.optimizer.load_onnx import load_onnx, settle_signature
from pilotfish.optimizer.model import LoadedModel, Runner
from pilotfish.optimizer.samples import shape_hints
from pilotfish.optimizer.signatures import apply_declared
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import Subject

Hints = dict[str, tuple[int, ...]]
_TORCH = frozenset(
    {
        ModelFormat.EXPORTED_PROGRAM,
        ModelFormat.TORCH_SCRIPT,
        ModelFormat.STATE_DICT,
        ModelFormat.SAFE_TENSORS,
        ModelFormat.HUGGING_FACE,
    }
)
_LATER = {
    ModelFormat.KERAS: "export it with `model.export(path, format='onnx')`",
    ModelFormat.SAVED_MODEL: "convert it with `python -m tf2onnx.convert --saved-model DIR --output model.onnx`",
    ModelFormat.TFLITE: "convert it with `python -m tf2onnx.convert --tflite FILE --output model.onnx`",
    ModelFormat.TORCH_SERVE_ARCHIVE: "save the model inside with pilotfish.pack(model, example_inputs, path)",
}


def load_model(found: Identified, spec: ModelSpec, *, threads: int, recorded: Mapping[str, Array] | None) -> LoadedModel:
    """Open a recognised model under the spec's trust.

    `recorded` are samples as they were given, one array per input; their shapes and types help to find the signature.

    Raises:
        OptimizerError: UnknownFormat (the spec says another format), UnsupportedFormat, WrongImage (torch is needed and
            absent), UnsafeModel, ModelInvalid, ArchitectureInvalid, SignatureMissing, SignatureMismatch.
    """
    check_format(found, spec)
    if found.format is ModelFormat.ONNX:
        loaded = load_onnx(found.path, threads=threads)
        full = _full_hints(loaded, shape_hints(recorded) or declared_hints(spec))
        return apply_declared(settle_signature(loaded, hint=full), spec)
    from pilotfish.optimizer.pytorch.load import load_torch

    return apply_declared(load_torch(found, spec, threads=threads, recorded=recorded), spec)


def check_format(found: Identified, spec: ModelSpec) -> None:
    """Everything that can be refused before a file is opened."""
    if spec.format is not None and spec.format is not found.format:
        raise OptimizerError(
            Reason.UNKNOWN_FORMAT,
            f"{found.path.name} is {found.format.value}, but spec.model.format says {spec.format.value}; correct or drop it",
        )
    if remedy := _LATER.get(found.format):
        raise OptimizerError(
            Reason.UNSUPPORTED_FORMAT,
            f"{found.path.name} is {found.format.value}, which this version cannot convert; {remedy}",
        )
    if found.format is ModelFormat.TORCH_SCRIPT and spec.trust is not Trust.EXECUTABLE:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{found.path.name} is TorchScript, which is code; set spec.model.trust: Executable if you trust it, "
            "or save the model with pilotfish.pack",
        )
    if found.format in _TORCH and importlib.util.find_spec("torch") is None:
        raise OptimizerError(
            Reason.WRONG_IMAGE,
            f"{found.path.name} is {found.format.value} and needs PyTorch, which this image has not; "
            f"set spec.model.format: {found.format.value} so that the optimizer-torch image is used",
        )


def declared_hints(spec: ModelSpec) -> Hints:
    """Shapes from spec.model.signature where all of them are fixed."""
    inputs = spec.signature.inputs if spec.signature else ()
    return {} if any(-1 in t.shape for t in inputs) else {t.name: t.shape for t in inputs}


def reload_runner(subject: Subject) -> Runner:
    """The original again, in a worker; the source has been checked and loaded once already."""
    source = subject.source or {}
    pack = Path(source["pack"]) if source["pack"] else None
    found = Identified(format=next(f for f in ModelFormat if f.value == source["format"]), path=Path(subject.path), pack=pack)
    spec = ModelSpec.model_validate(source["spec"])
    return load_model(found, spec, threads=subject.threads, recorded=load_file(subject.inputs)).runner


def _full_hints(model: LoadedModel, hints: Hints) -> Hints:
    """Hints as full shapes: a sample of a batched model lacks the batch dimension."""
    ranks = {t.name: len(t.shape) for t in model.signature.inputs}
    if set(hints) != set(ranks):
        return {}
    if all(len(hints[n]) == rank for n, rank in ranks.items()):
        return hints
    if all(len(hints[n]) == rank - 1 for n, rank in ranks.items()):
        return {n: (_first(model, n), *shape) for n, shape in hints.items()}
    return {}


def _first(model: LoadedModel, name: str) -> int:
    fixed = next(t.shape[0] for t in model.signature.inputs if t.name == name)
    return 2 if fixed == -1 else fixed


def with_notes(model: LoadedModel, *notes: str) -> LoadedModel:
    """The model with more notes for the report."""
    return replace(model, notes=model.notes + notes)
