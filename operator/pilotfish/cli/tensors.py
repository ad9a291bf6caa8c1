"""Between JSON as people write it and Triton's inference protocol (KServe v2, JSON). Pure: no network, no numpy."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from pilotfish.api.report import ModelSignature, TensorSpec

_FLOATS = frozenset({"FP64", "FP32"})
_WITHOUT_JSON = frozenset({"FP16", "BF16"})
"""Triton takes and gives these as bytes only."""


class BadInput(Exception):
    """The input does not fit the model; one sentence says where and how it must look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One answer: `data` is flat, row by row; `shape` includes the batch where the model is batched."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...]

    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """`data` cut along the first dimension."""
        size = prod(self.shape[1:])
        return tuple(self.data[i * size : (i + 1) * size] for i in range(self.shape[0])) if self.shape else (self.data,)


def make_request(text: str, signature: ModelSignature) -> dict[str, Any]:
    """The body of an infer request.

    text: JSON. An object of input names, or, for a model with one input, the values alone: nested lists in the shape of
    the input. Where the model is batched, the batch dimension may be left out. A body of the protocol
    (`{"inputs": [{"name", "shape", "datatype", "data"}]}`) is passed on as it is.

    Raises:
        BadInput: no JSON, a missing or unknown input, lists of unequal lengths, a wrong shape or a wrong kind of value.
    """
    try:
        said = json.loads(text)
    except ValueError as error:
        raise BadInput(f"the input is no JSON: {error}") from error
    if isinstance(said, dict) and isinstance(said.get("inputs"), list):
        return said
    values = _by_name(said, signature.inputs)
    tensors = [_tensor(spec, values[spec.name], batched=signature.batched) for spec in signature.inputs]
    batches = {t["name"]: t["shape"][0] for t in tensors} if signature.batched else {}
    if len(set(batches.values())) > 1:
        told = ", ".join(f"{name} has {size}" for name, size in batches.items())
        raise BadInput(f"every input needs the same number of samples: {told}")
    return {"inputs": tensors}


def make_example(signature: ModelSignature) -> dict[str, Any]:
    """An input file to start from: one sample of zeros (empty strings for BYTES)."""
    return {spec.name: _filled(spec.example or tuple(max(1, n) for n in spec.shape), spec) for spec in signature.inputs}


def read_answer(wire: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The outputs of an answer of the protocol, in its order.

    Raises:
        BadInput: the answer has no outputs, or one without data.
    """
    try:
        return tuple(
            Tensor(name=o["name"], dtype=o["datatype"], shape=tuple(o["shape"]), data=tuple(o["data"]))
            for o in wire["outputs"]
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"the server's answer has no readable outputs: {json.dumps(wire)[:200]}") from error


def _by_name(said: Any, inputs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    names = [spec.name for spec in inputs]
    if not isinstance(said, dict):
        if len(names) > 1:
            raise BadInput(f"the model has {len(names)} inputs: write an object with {_listed(names)}")
        return {names[0]: said}
    missing, unknown = [n for n in names if n not in said], [n for n in said if n not in names]
    if missing or unknown:
        what = f"the input lacks {_listed(missing)}" if missing else f"the model has no input {_listed(unknown)}"
        raise BadInput(f"{what}; its inputs are {_listed(names)}")
    return said


def _tensor(spec: TensorSpec, value: Any, *, batched: bool) -> dict[str, Any]:
    if spec.dtype in _WITHOUT_JSON:
        raise BadInput(f"input {spec.name} is {spec.dtype}, which has no JSON form; ask with tritonclient")
    given, flat = _measure(value, spec.name), _flatten(value)
    shape = (1, *given) if batched and len(given) == len(spec.shape) else given
    wanted = (-1, *spec.shape) if batched else spec.shape
    if len(shape) != len(wanted) or any(w not in {-1, n} for n, w in zip(shape, wanted, strict=True)):
        free = _shape_in_words(spec.shape)
        also = f", or a list of such samples, {_shape_in_words(wanted)}" if batched else ""
        raise BadInput(f"input {spec.name} has shape {_shape_in_words(given)}; the model takes {free}{also}")
    if wrong := [x for x in flat if not _is_a(x, spec.dtype)]:
        raise BadInput(f"input {spec.name} is {spec.dtype} and holds {json.dumps(wrong[0])[:40]}")
    # A scalar has one dimension on the way: config.pbtxt knows no shape without any, and Triton takes it off again.
    sent = shape if spec.shape else (*shape, 1)
    return {"name": spec.name, "shape": list(sent), "datatype": spec.dtype, "data": flat}


def _measure(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    shapes = [_measure(one, name) for one in value]
    if any(a != b for a, b in pairwise(shapes)):
        raise BadInput(f"input {name} has lists of different lengths side by side")
    return (len(value), *(shapes[0] if shapes else ()))


def _flatten(value: Any) -> list[Any]:
    return [x for one in value for x in _flatten(one)] if isinstance(value, list) else [value]


def _is_a(value: Any, dtype: str) -> bool:
    if dtype == "BYTES":
        return isinstance(value, str)
    if dtype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if dtype in _FLOATS:
        return isinstance(value, int | float)
    return isinstance(value, int) and not (dtype.startswith("U") and value < 0)


def _filled(shape: Sequence[int], spec: TensorSpec) -> Any:
    if not shape:
        return {"BYTES": "", "BOOL": False}.get(spec.dtype, 0.0 if spec.dtype in _FLOATS else 0)
    return [_filled(shape[1:], spec) for _ in range(shape[0])]


def _shape_in_words(shape: Iterable[int]) -> str:
    return "[" + ", ".join("any" if n < 0 else str(n) for n in shape) + "]"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
