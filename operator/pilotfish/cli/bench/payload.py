"""One request as bytes, made once and sent again and again: Triton's binary tensors, no numpy. Pure."""

import json
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli.tensors import BadInput

SEED = 0
_CODES = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BOOL": "?",
}  # fmt: skip
"""Letters of `struct`, little-endian. BF16 and BYTES are none of its types."""
_BOUND = 2
"""Made-up whole numbers are below it: most of them are classes or indexes of tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One input: its values as they go over the wire."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes


def make_blobs(signature: ModelSignature, *, batch_size: int) -> tuple[Blob, ...]:
    """Made-up input of one request, the same in every run: numbers in [0, 1), whole numbers 0 or 1.

    Raises:
        BadInput: a batch for a model that takes none.
    """
    if batch_size > 1 and not signature.batched:
        raise BadInput("the model is served without batching; leave --batch-size out")
    source = random.Random(SEED)  # noqa: S311 - load, no secret
    blobs = []
    for spec in signature.inputs:
        shape = _shape(spec, batch_size if signature.batched else None)
        blobs.append(_blob(spec.name, spec.dtype, shape, _made_up(spec.dtype, prod(shape), source)))
    return tuple(blobs)


def blobs_of(tensors: Sequence[Mapping[str, Any]]) -> tuple[Blob, ...]:
    """The same from the inputs of a request in JSON (cli.tensors.make_request).

    Raises:
        BadInput: an input lacks something, or a value does not fit its type.
    """
    try:
        return tuple(_blob(t["name"], t["datatype"], tuple(t["shape"]), t["data"]) for t in tensors)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"an input of the request lacks or misspells {error}") from error


def http_body(blobs: Sequence[Blob]) -> tuple[bytes, int]:
    """Body and length of its JSON part. Outputs are asked for as bytes too: nobody reads them."""
    inputs = [
        {
            "name": blob.name,
            "shape": list(blob.shape),
            "datatype": blob.dtype,
            "parameters": {"binary_data_size": len(blob.content)},
        }
        for blob in blobs
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head + b"".join(blob.content for blob in blobs), len(head)


def batch_of(blobs: Sequence[Blob], signature: ModelSignature) -> int:
    """How many samples one request holds."""
    return blobs[0].shape[0] if signature.batched and blobs and blobs[0].shape else 1


def _shape(spec: TensorSpec, batch_size: int | None) -> tuple[int, ...]:
    free = spec.example if spec.example and len(spec.example) == len(spec.shape) else spec.shape
    inner = tuple(max(1, n) for n in free) or (1,)
    return inner if batch_size is None else (batch_size, *inner)


def _made_up(dtype: str, count: int, source: random.Random) -> list[Any]:
    if dtype == "BYTES":
        return ["pilotfish"] * count
    if dtype == "BOOL":
        return [source.random() < 1 / 2 for _ in range(count)]
    if dtype in {"FP16", "BF16", "FP32", "FP64"}:
        return [source.random() for _ in range(count)]
    return [source.randrange(_BOUND) for _ in range(count)]


def _blob(name: str, dtype: str, shape: tuple[int, ...], values: Sequence[Any]) -> Blob:
    try:
        content = _encode(dtype, values)
    except (struct.error, OverflowError, TypeError) as error:
        raise BadInput(f"input {name} is {dtype} and holds a value that does not fit: {error}") from error
    return Blob(name=name, dtype=dtype, shape=shape, content=content)


def _encode(dtype: str, values: Sequence[Any]) -> bytes:
    if dtype == "BYTES":
        words = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)
    if dtype == "BF16":  # the upper half of a single
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    if dtype not in _CODES:
        raise BadInput(f"{dtype} is no type that can be sent")
    return struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)
