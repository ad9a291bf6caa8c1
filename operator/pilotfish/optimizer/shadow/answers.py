"""Two servers' answers to the same request: decoded, and compared as the artifacts were when they were proven.

Pure, and silent: an exception from here says nothing of what an answer holds.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY, Array
from pilotfish.optimizer.verify import Bounds, bounds_for, check_answers, judge, measure_error

HEADER_LENGTH = "Inference-Header-Content-Length"
_LENGTH_BYTES = 4
_ANY_WRAPPER = 47
"""Window bits of zlib: gzip or deflate, whichever it is."""


class UnreadableError(Exception):
    """An answer that is none, or that cannot be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One tensor. `array` is of dtype object for BYTES."""

    datatype: str
    array: Array


Outputs = Mapping[str, Output]


def widest_bounds(precisions: tuple[Precision, ...], tolerance: Tolerance | None) -> Bounds:
    """What answers may differ by: the wider bounds of the two artifacts, with what the user says in their place."""
    return max(
        (bounds_for(precision, tolerance, given=True, batching=False) for precision in precisions),
        key=lambda bounds: (bounds.max_rel or 0.0, -(bounds.cosine or 0.0)),
    )


def agree(answer: Outputs, wanted: Outputs, bounds: Bounds) -> bool:
    """Whether every output is there, of the same type and shape, and close enough; text must be equal."""
    if answer.keys() != wanted.keys() or any(answer[n].datatype != wanted[n].datatype for n in wanted):
        return False
    return all(_equal(answer[name].array, wanted[name].array, bounds) for name in wanted)


def _equal(answer: Array, wanted: Array, bounds: Bounds) -> bool:
    if check_answers({"": answer}, {"": wanted}) is not None:
        return False
    if wanted.dtype == np.object_ or wanted.size == 0:
        return bool(np.array_equal(answer, wanted))
    one, other = (np.atleast_1d(array) for array in (answer, wanted))
    with np.errstate(all="ignore"):  # infinities are compared above; of what is left figures are made
        return judge(measure_error({"": one}, {"": other}, ()), bounds) is None


def read_http(body: bytes, headers: Mapping[str, str], *, most: int) -> Outputs:
    """Outputs of an answer of the HTTP protocol, its binary extension included.

    `headers` finds names whatever their case; `most` bounds the unpacked body. Raises UnreadableError.
    """
    try:
        return dict(_read_http(_unpacked(body, headers.get("Content-Encoding", ""), most), headers))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, OverflowError, RecursionError):
        raise UnreadableError from None


def read_grpc(message: bytes) -> Outputs:
    """Outputs of a ModelInferResponse. Raises UnreadableError."""
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        answer = service_pb2.ModelInferResponse.FromString(message)
        return dict(_read_grpc(answer))
    except (DecodeError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UnreadableError from None


def _read_http(body: bytes, headers: Mapping[str, str]) -> Iterator[tuple[str, Output]]:
    length = headers.get(HEADER_LENGTH)
    told = json.loads(body if length is None else body[: int(length)])
    offset = len(body) if length is None else int(length)
    for output in told["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            if not 0 <= size <= len(body) - offset:
                raise ValueError
            array = _from_bytes(body[offset : offset + size], output["datatype"], output["shape"])
            offset += size
        else:
            array = _from_list(output["data"], output["datatype"], output["shape"])
        yield str(output["name"]), Output(datatype=str(output["datatype"]), array=array)


def _read_grpc(answer: Any) -> Iterator[tuple[str, Output]]:
    raw = list(answer.raw_output_contents)
    if raw and len(raw) != len(answer.outputs):
        raise ValueError
    for number, output in enumerate(answer.outputs):
        shape = list(output.shape)
        if raw:
            array = _from_bytes(raw[number], output.datatype, shape)
        else:
            array = _from_list(_typed(output.contents), output.datatype, shape)
        yield output.name, Output(datatype=output.datatype, array=array)


def _typed(contents: Any) -> list[Any]:
    return next((list(values) for _, values in contents.ListFields()), [])


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise ValueError
    stream = zlib.decompressobj(wbits=_ANY_WRAPPER)
    text = stream.decompress(body, most)
    if not stream.eof:
        raise ValueError
    return text


def _from_bytes(data: bytes, datatype: str, shape: list[int]) -> Array:
    if datatype == "BYTES":
        return _objects(list(_strings(data)), shape)
    if datatype == "BF16":  # the upper half of a float32
        halves = np.frombuffer(data, dtype=np.uint16).astype(np.uint32) << 16
        return halves.view(np.float32).reshape(shape)
    return np.frombuffer(data, dtype=TRITON_TO_NUMPY[datatype]).reshape(shape)


def _strings(data: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(data[offset:start], "little")
        if offset > len(data):
            raise ValueError
        yield data[start:offset]


def _from_list(data: list[Any], datatype: str, shape: list[int]) -> Array:
    if datatype == "BYTES":
        return _objects([text.encode() if isinstance(text, str) else text for text in _flat(data)], shape)
    return np.array(data, dtype=TRITON_TO_NUMPY[datatype]).reshape(shape)


def _flat(data: list[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _objects(values: list[Any], shape: list[int]) -> Array:
    if len(values) != prod(shape):
        raise ValueError
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return array.reshape(shape)
