"""Load an ONNX model: checked before it is run, its signature found by running it."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import onnx.checker

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import ModelSignature
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import wrong_name
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.onnx_runtime import OnnxRunner
from pilotfish.optimizer.progress import size_text
from pilotfish.optimizer.shapes import as_batched, find_example
from pilotfish.optimizer.tensors import Arrays

MAX_TENSOR_BYTES = 16 * 1024**3
_PLACE = frozenset({"location", "offset", "length", "checksum"})
_MEMORY = "_ORT_MEM_ADDR_"
"""ONNX Runtime takes such a location for an address in its own memory."""
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})


def load_onnx(path: Path, *, threads: int) -> LoadedModel:
    """Check and open an ONNX file.

    Raises:
        OptimizerError: UnsafeModel (external data outside the folder, tensors declared larger than their bytes),
            ModelInvalid (the checker or ONNX Runtime refuses it), SignatureMissing (no guess fits its free dimensions).
    """
    proto = check_onnx(path)
    try:
        runner = OnnxRunner(path, threads=threads, optimize=False)
        declared = runner.declared()
    except ValueError as error:
        raise OptimizerError(Reason.MODEL_INVALID, f"{path.name}: {error}") from error
    except Exception as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"ONNX Runtime cannot load {path.name}: {_said(error)}; export it again for a common opset",
        ) from error
    _check_inputs(path, declared)
    return LoadedModel(
        format=ModelFormat.ONNX,
        variant="original-onnx",
        runner=runner,
        signature=declared,
        onnx=path,
        bounds=embedding_bounds(proto),
    )


def settle_signature(model: LoadedModel, *, trial: Arrays | None) -> LoadedModel:
    """The model with its batch dimension recognised and an example shape for every free dimension.

    `trial` are inputs of one call that should work, from samples.
    """
    runner = model.runner
    if not isinstance(runner, OnnxRunner):
        raise TypeError("only ONNX models settle their signature by their axes")
    found, inputs = find_example(runner, model.signature, axes=runner.axis_names(), bounds=model.bounds, trial=trial)
    batched = as_batched(runner, found, inputs)
    notes = model.notes
    if not batched.batched:
        fixed = [t.name for t in model.signature.inputs if not t.shape or t.shape[0] != -1]
        why = (
            f"input {fixed[0]!r} has no free first dimension"
            if fixed
            else "one sample's answer depends on the others in its batch, or is no answer of its own"
        )
        notes += (f"The model is served without batching: {why}.",)
    return replace(model, signature=batched, notes=notes)


def check_onnx(path: Path) -> Any:
    """The graph without its external tensors, after every check that needs no execution."""
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{path.name} is no readable ONNX file ({error}); export it again"
        ) from error
    _check_domains(path, proto)
    for tensor in _tensors(proto):
        _check_tensor(path, tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(path, tensor)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # not only its own: what its parser throws comes as whatever it is
        text = (str(error).splitlines() or [type(error).__name__])[0].replace(f"{path.parent}/", "")
        raise OptimizerError(Reason.MODEL_INVALID, f"{path.name} is not valid ONNX: {text}; export it again") from error
    return proto


def embedding_bounds(proto: Any) -> dict[str, int]:
    """For every integer input that (perhaps cast) indexes a constant table: the table's length."""
    sizes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    origin = {value.name: value.name for value in proto.graph.input}
    bounds: dict[str, int] = {}
    for node in proto.graph.node:
        if node.op_type in {"Cast", "Identity", "Unsqueeze", "Squeeze"} and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        if node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in origin:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            name = origin[node.input[1]]
            bounds[name] = min(bounds.get(name, 2**31), sizes[node.input[0]][axis])
    return bounds


def _check_domains(path: Path, proto: Any) -> None:
    own = {function.domain for function in proto.functions}
    for opset in proto.opset_import:
        if opset.domain not in _DOMAINS and opset.domain not in own:
            raise OptimizerError(
                Reason.MODEL_INVALID,
                f"{path.name} uses operators of {opset.domain!r}, which Triton's onnxruntime does not have; "
                "export it with standard operators",
            )


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of the message, wherever it stands: weights, attributes, inner graphs, functions, sparse parts."""
    stack = [model]
    while stack:
        message = stack.pop()
        if isinstance(message, onnx.TensorProto):
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value if hasattr(value, "__len__") else [value])


def _check_tensor(path: Path, tensor: Any) -> None:
    width = max(_bits(tensor.data_type), 1)
    declared = math.prod(tensor.dims) * width // 8
    if any(d < 0 for d in tensor.dims) or declared > MAX_TENSOR_BYTES:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} declares the tensor {tensor.name!r} with shape {list(tensor.dims)}, "
            f"{size_text(max(declared, 0))}; the limit is {size_text(MAX_TENSOR_BYTES)}",
        )
    if tensor.HasField("raw_data") and len(tensor.raw_data) != math.ceil(math.prod(tensor.dims) * width / 8):
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} declares the tensor {tensor.name!r} with shape {list(tensor.dims)} but holds "
            f"{len(tensor.raw_data)} bytes for it; export it again",
        )


def _check_external(path: Path, tensor: Any) -> None:
    """The tensor's bytes must lie in a plain file below the model's folder, and be said once."""
    keys = [entry.key for entry in tensor.external_data]
    if odd := next((key for key in keys if key not in _PLACE or keys.count(key) > 1), None):
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} says {odd[:60]!r} {'twice' if odd in _PLACE else ''} of where {tensor.name!r} lies, which "
            "readers understand differently; export it again",
        )
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    pure, file = PurePosixPath(location), path.parent / location
    inside = wrong_name(location) is None and _MEMORY not in pure.parts
    if not inside or file.resolve() != path.parent.resolve().joinpath(*pure.parts):
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} reads {tensor.name!r} from {location[:200]!r}, outside its folder; keep its data beside it",
        )
    if not file.is_file():
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{path.name} needs the data file {location!r}, which is not there; upload the whole folder",
        )
    if file.stat().st_nlink > 1:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} reads {tensor.name!r} from {location!r}, which has another name elsewhere; copy the file",
        )
    _check_range(path, tensor, file)


def _check_range(path: Path, tensor: Any, file: Path) -> None:
    """Its bytes lie inside the data file."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [said.get("offset", "0"), said.get("length", "0")]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{path.name} reads {tensor.name!r} from {file.name} at {' and '.join(numbers)}, which are no places in a "
            "file; export it again",
        )
    needed = math.prod(tensor.dims) * max(_bits(tensor.data_type), 1) // 8
    end = int(numbers[0]) + max(int(numbers[1]), needed)
    if end > (size := file.stat().st_size):
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED,
            f"{path.name} reads {tensor.name!r} up to byte {end} of {file.name}, which has {size}; upload it again",
        )


def _check_inputs(path: Path, declared: ModelSignature) -> None:
    """There is something to put in."""
    if not declared.inputs:
        raise OptimizerError(Reason.MODEL_INVALID, f"{path.name} takes no inputs; export the model with its inputs")
    if empty := next((t for t in declared.inputs if 0 in t.shape), None):
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{path.name} declares input {empty.name!r} with shape {list(empty.shape)}, which holds nothing; "
            "export it with a real size, or with a free one",
        )


def _said(error: Exception) -> str:
    """What ONNX Runtime says, without its codes, the file's folder and the places in its own source."""
    text = str(error).splitlines()[0]
    for noise in (
        r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
        r"Load model from .*? failed:",
        r"\S*\.(cc|h):\d+ .*?\) (?=[A-Z])",
    ):
        text = re.sub(noise, "", text)
    return text[:300].rstrip(". ")


def _bits(data_type: int) -> int:
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
    except (KeyError, TypeError):
        return 0


def io_signature(path: Path) -> ModelSignature:
    """Declared full shapes of a file, for reading back what an exporter wrote."""
    return OnnxRunner(path, threads=1).declared()
