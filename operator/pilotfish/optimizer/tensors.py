"""Names of element types, and small array helpers. numpy only."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]

TRITON_TO_NUMPY: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
_NUMPY_TO_TRITON = {dtype: name for name, dtype in TRITON_TO_NUMPY.items()}


def triton_dtype(dtype: np.dtype[np.generic]) -> str:
    """Triton's name of a numpy element type; raises ValueError for one that Triton cannot carry."""
    try:
        return _NUMPY_TO_TRITON[np.dtype(dtype)]
    except KeyError:
        raise ValueError(f"element type {dtype} cannot be served; use one of {', '.join(TRITON_TO_NUMPY)}") from None


def take(arrays: Arrays, start: int, count: int) -> dict[str, Array]:
    """Samples `start` to `start + count`, wrapping round, batch dimension first."""
    total = len(next(iter(arrays.values())))
    index = np.arange(start, start + count) % total
    return {name: np.ascontiguousarray(array[index]) for name, array in arrays.items()}


def sample_count(arrays: Arrays) -> int:
    """How many samples the arrays hold."""
    return len(next(iter(arrays.values())))


def is_float(array: Array) -> bool:
    """True for floating-point arrays."""
    return bool(np.issubdtype(array.dtype, np.floating))
