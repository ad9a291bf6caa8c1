"""Open what came from PyTorch: packed programs, `.pt2`, weights with a known architecture, HuggingFace, TorchScript."""

import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from pilotfish.api.model import Architecture, ModelFormat, ModelSpec, Trust
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import TensorSpec
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import SEED
from pilotfish.optimizer.identify import PACK_FILE, Identified
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.pt2_scan import write_clean
from pilotfish.optimizer.pytorch.factories import build
from pilotfish.optimizer.pytorch.huggingface import folder_inputs, load_folder
from pilotfish.optimizer.pytorch.infer import Entry, declared_inputs, infer_signature
from pilotfish.optimizer.pytorch.program import Positional
from pilotfish.optimizer.pytorch.runtime import load_torchscript
from pilotfish.optimizer.small_json import read_json
from pilotfish.optimizer.tensors import Array, triton_dtype

Recorded = Mapping[str, Array] | None
_HAND_OVER = (
    "save model.state_dict() and name its code in spec.model.architecture (factory or file), or use pilotfish.pack"
)


def load_torch(found: Identified, spec: ModelSpec, *, threads: int, recorded: Recorded) -> LoadedModel:
    """The model in eager mode with its signature; formats are those that `load.load_model` lets through.

    Raises:
        OptimizerError: UnsafeModel, ModelInvalid, ArchitectureInvalid, SignatureMissing, SignatureMismatch.
    """
    torch.set_num_threads(threads)
    openers = {
        ModelFormat.EXPORTED_PROGRAM: _exported,
        ModelFormat.TORCH_SCRIPT: _torchscript,
        ModelFormat.STATE_DICT: _weights,
        ModelFormat.SAFE_TENSORS: _weights,
        ModelFormat.HUGGING_FACE: _hugging_face,
    }
    return openers[found.format](found, spec, recorded)


def _finish(found: Identified, module: Any, entry: Entry, **more: Any) -> LoadedModel:
    signature, runner = infer_signature(module, entry)
    return LoadedModel(
        format=found.format,
        variant="original-torch",
        runner=runner,
        signature=signature,
        module=module,
        bounds=dict(entry.bounds),
        **more,
    )


def _exported(found: Identified, spec: ModelSpec, recorded: Recorded) -> LoadedModel:
    packed = _packed_samples(found)
    program = _open_program(found, trusted=spec.trust is Trust.EXECUTABLE)
    names, positional = _arguments(program)
    said = _pack_note(found)
    inputs = _program_inputs(program, said.get("inputs") or names, recorded or packed)
    module = Positional(program.module(), inputs=tuple(names), positional=positional)
    bounds = {n: int(a.max()) + 1 for n, a in (packed or {}).items() if a.dtype.kind in "iu" and a.size}
    entry = Entry(inputs=inputs, outputs=tuple(said.get("outputs") or ()), bounds=bounds)
    loaded = _finish(found, module, entry, packed_samples=packed)
    return loaded if loaded.signature.batched else _as_fixed(loaded)


def _as_fixed(model: LoadedModel) -> LoadedModel:
    note = (
        "The program has no free batch dimension, so it is served without batching: pack it again with "
        "an example batch of two or more to change that."
    )
    return replace(model, notes=(*model.notes, note))


def _open_program(found: Identified, *, trusted: bool) -> Any:
    try:
        if trusted:
            return torch.export.load(str(found.path))
        with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
            clean = Path(folder) / "clean.pt2"
            write_clean(found.path, clean)
            return torch.export.load(str(clean))
    except OptimizerError:
        raise
    except Exception as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"torch {torch.__version__} cannot load {found.path.name}: {_line(error)}; save it again with this version",
        ) from error


def _arguments(program: Any) -> tuple[list[str], int]:
    """Names of the user's inputs in call order, and how many of them are positional."""
    args, kwargs = program.call_spec.in_spec.children_specs
    positional = list(args.children_specs)
    if any(not s.is_leaf() for s in [*positional, *kwargs.children_specs]):
        raise OptimizerError(
            Reason.MODEL_INVALID, "the program takes nested inputs; wrap the model so that every input is one tensor"
        )
    return [str(name) for name in program.graph_signature.user_inputs], len(positional)


def _program_inputs(program: Any, names: list[str], recorded: Recorded) -> tuple[TensorSpec, ...]:
    """Inputs without the batch dimension where dimension 0 of all of them is free."""
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    values = [placeholders[name] for name in program.graph_signature.user_inputs]
    batched = all(v.ndim > 0 and not isinstance(v.shape[0], int) for v in values)
    specs = []
    for name, value in zip(names, values, strict=True):
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)[int(batched) :]
        example = tuple(recorded[name].shape[1:]) if recorded and name in recorded else None
        guess = tuple(16 if size == -1 else size for size in shape)
        dtype = triton_dtype(torch.zeros((), dtype=value.dtype).numpy().dtype)
        specs.append(
            TensorSpec(name=name, dtype=dtype, shape=shape, example=(example or guess) if -1 in shape else None)
        )
    return tuple(specs)


def _pack_note(found: Identified) -> dict[str, Any]:
    if found.pack is None:
        return {}
    note: dict[str, Any] = read_json(found.pack / PACK_FILE)
    return note


def _packed_samples(found: Identified) -> dict[str, Array] | None:
    path = found.pack / "samples.safetensors" if found.pack is not None else None
    if path is None or not path.is_file():
        return None
    from pilotfish.optimizer.samples import read_samples

    return read_samples(path)


def _torchscript(found: Identified, spec: ModelSpec, recorded: Recorded) -> LoadedModel:
    inputs = declared_inputs(spec, recorded)
    try:
        module = load_torchscript(found.path)
    except Exception as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"torch {torch.__version__} cannot load {found.path.name}: {_line(error)}; save it again with this version",
        ) from error
    _check_order(module, inputs)
    entry = Entry(inputs=inputs, outputs=_output_names(spec), bounds={})
    return _finish(found, module, entry, torchscript=found.path)


def _check_order(module: Any, inputs: tuple[TensorSpec, ...]) -> None:
    """Triton's PyTorch backend maps inputs by name when all names are arguments: their order must then be the same."""
    arguments = [a.name for a in module.forward.schema.arguments[1:]]
    names = [t.name for t in inputs]
    if set(names) <= set(arguments) and names != arguments[: len(names)]:
        raise OptimizerError(
            Reason.SIGNATURE_MISMATCH,
            f"spec.model.signature lists the inputs as {', '.join(names)}, but forward takes {', '.join(arguments)}; "
            "list them in forward's order",
        )


def _weights(found: Identified, spec: ModelSpec, recorded: Recorded) -> LoadedModel:
    if spec.architecture is None:
        raise OptimizerError(
            Reason.ARCHITECTURE_INVALID,
            f"{found.path.name} holds weights only; name their model in spec.model.architecture.factory "
            "(for instance torchvision.models.resnet18) or its code in architecture.file, or use pilotfish.pack",
        )
    inputs = declared_inputs(spec, recorded)
    state = _read_weights(found, trusted=spec.trust is Trust.EXECUTABLE)
    torch.manual_seed(SEED)  # for parameters that start anew
    module = _build(found, spec.architecture, trusted=spec.trust is Trust.EXECUTABLE)
    code = spec.architecture.file or spec.architecture.factory
    fresh = _fresh(module, spec.architecture)
    state = {name: value for name, value in state.items() if name not in fresh}
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise OptimizerError(
            Reason.ARCHITECTURE_INVALID,
            f"{found.path.name} does not fit {code}: {str(error).splitlines()[-1].strip()}; "
            "correct architecture and its arguments",
        ) from error
    missing = [name for name in missing if name not in fresh]
    if missing or unexpected:
        which = f"lack {missing[0]!r}" if missing else f"hold {unexpected[0]!r}, which it does not know"
        raise OptimizerError(
            Reason.ARCHITECTURE_INVALID,
            f"{found.path.name} does not fit {code}: the weights {which} "
            f"({len(missing)} missing, {len(unexpected)} unknown); correct architecture and its arguments",
        )
    return _finish(
        found, module, Entry(inputs=inputs, outputs=_output_names(spec), bounds=_embedding_bounds(module, inputs))
    )


def _build(found: Identified, architecture: Architecture, *, trusted: bool) -> Any:
    if architecture.file is None:
        return build(architecture)
    if not trusted:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"architecture.file {architecture.file} is code; set spec.model.trust: Executable if you trust it, "
            "or use a factory",
        )
    from pilotfish.optimizer.pytorch.user_code import build_from_file

    return build_from_file(architecture, found.path.parent)


def _fresh(module: Any, architecture: Architecture) -> frozenset[str]:
    """Names of parameters and buffers that are not taken from the file."""
    names = list(module.state_dict())
    for pattern in architecture.fresh:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise OptimizerError(
                Reason.ARCHITECTURE_INVALID,
                f"architecture.fresh names {pattern!r}, but no parameter of {architecture.factory} is called so; "
                f"they are like {', '.join(names[:3])}",
            )
    return frozenset(name for name in names if any(fnmatchcase(name, pattern) for pattern in architecture.fresh))


def _read_weights(found: Identified, *, trusted: bool) -> dict[str, Any]:
    if found.format is ModelFormat.SAFE_TENSORS:
        from safetensors.torch import load_file

        try:
            return dict(load_file(found.path))
        except Exception as error:
            raise OptimizerError(
                Reason.MODEL_INVALID, f"{found.path.name} is no valid safetensors file: {error}"
            ) from error
    try:
        state = torch.load(found.path, map_location="cpu", weights_only=not trusted)
    except (AttributeError, ImportError) as error:  # a trusted pickle whose classes are not here
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{found.path.name} is a pickle of objects ({_line(error)}); {_HAND_OVER}"
        ) from error
    except pickle.UnpicklingError as error:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{found.path.name} is a pickle that needs {_unsafe_names(found.path)}, not plain weights; "
            "save model.state_dict() alone or use pilotfish.pack",
        ) from error
    except Exception as error:
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED, f"{found.path.name} cannot be read ({_line(error)}); upload it again"
        ) from error
    return _plain_state(found, state)


def _plain_state(found: Identified, state: Any) -> dict[str, Any]:
    if isinstance(state, torch.nn.Module):
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{found.path.name} is a pickled {type(state).__name__}, bound to the code and the versions of whoever "
            f"saved it; {_HAND_OVER}",
        )
    for key in ("state_dict", "model_state_dict", "model"):
        inner = _items(state).get(key)
        state = inner if isinstance(inner, Mapping) else state
    plain = _items(state)
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in plain.values()):
        raise OptimizerError(Reason.MODEL_INVALID, f"{found.path.name} is no state_dict; save model.state_dict()")
    return {str(key).removeprefix("module."): value for key, value in plain.items()}


def _items(value: Any) -> dict[Any, Any]:
    """What a dictionary holds, whatever attributes of its own the file gave it; empty for anything else."""
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def _unsafe_names(path: Path) -> str:
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # noqa: BLE001 - only for the sentence
        names = []
    return ", ".join(names[:3]) or "code"


def _hugging_face(found: Identified, spec: ModelSpec, recorded: Recorded) -> LoadedModel:
    model = load_folder(found.path)
    if spec.signature is not None:
        inputs, bounds = declared_inputs(spec, recorded), {"input_ids": getattr(model.config, "vocab_size", 2)}
    else:
        inputs, bounds = folder_inputs(model, recorded)
    module = _KeywordModel(model, tuple(t.name for t in inputs))
    entry = Entry(inputs=inputs, outputs=_output_names(spec) or module.output_names(inputs, bounds), bounds=bounds)
    return _finish(found, module, entry)


class _KeywordModel(torch.nn.Module):  # type: ignore[misc]
    """A transformers model that takes tensors in order and returns the tensors of its output in order."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._fixed = {"return_dict": True} | ({"use_cache": False} if hasattr(model.config, "use_cache") else {})

    @property
    def inner(self) -> Any:
        """The module that came in the folder."""
        return self.model

    def forward(self, *tensors: Any) -> Any:
        """One tensor or a tuple."""
        result = self.model(**dict(zip(self._names, tensors, strict=True)), **self._fixed)
        leaves = tuple(v for v in result.values() if isinstance(v, torch.Tensor))
        return leaves if len(leaves) > 1 else leaves[0]

    def output_names(self, inputs: tuple[TensorSpec, ...], bounds: Mapping[str, int]) -> tuple[str, ...]:
        """Names that the model gives its outputs."""
        from pilotfish.api.report import ModelSignature
        from pilotfish.optimizer.generate import fill
        from pilotfish.optimizer.pytorch.runtime import to_tensor
        from pilotfish.optimizer.shapes import with_batch

        signature = ModelSignature(inputs=inputs, outputs=(), batched=True)
        arrays = fill(signature, {t.name: with_batch(t, batch=2) for t in inputs}, bounds=bounds, seed=0)
        with torch.no_grad():
            result = self.model(**{n: to_tensor(a) for n, a in arrays.items()}, **self._fixed)
        return tuple(name for name, value in result.items() if isinstance(value, torch.Tensor))


def _embedding_bounds(module: Any, inputs: tuple[TensorSpec, ...]) -> dict[str, int]:
    """Integer inputs stay below the smallest embedding table: any of them may be looked up there."""
    tables = [m.num_embeddings for m in module.modules() if isinstance(m, torch.nn.Embedding)]
    return {t.name: min(tables) for t in inputs if t.dtype.startswith(("INT", "UINT"))} if tables else {}


def _output_names(spec: ModelSpec) -> tuple[str, ...]:
    return tuple(t.name for t in spec.signature.outputs) if spec.signature else ()


def _line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
