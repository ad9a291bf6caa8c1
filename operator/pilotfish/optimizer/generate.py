"""Seeded inputs from a signature: floats from a normal distribution, integers inside what the model can look up."""

from collections.abc import Mapping

import numpy as np

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY, Array

SEED = 20261122
_SMALL = 2
"""Integers of unknown meaning stay below this: 0 and 1 index any table and are valid flags."""


def fill(
    signature: ModelSignature, shapes: Mapping[str, tuple[int, ...]], *, bounds: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """One array per input with exactly the given full shapes. Equal seeds give equal arrays."""
    rng = np.random.default_rng(seed)
    return {t.name: _values(t, shapes[t.name], rng, bounds.get(t.name)) for t in signature.inputs}


def _values(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, bound: int | None) -> Array:
    dtype = TRITON_TO_NUMPY[spec.dtype]
    if "mask" in spec.name.lower() and bound is None:
        return _mask(shape, rng).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    top = bound if bound is not None else (256 if dtype == np.uint8 else _SMALL)
    return rng.integers(0, min(top, int(np.iinfo(dtype.name).max)), shape).astype(dtype)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Ones and then zeros along the last axis, at least half of it ones: what a padded sequence looks like."""
    if not shape:
        return np.ones(shape)
    lengths = rng.integers((shape[-1] + 1) // 2, shape[-1] + 1, shape[:-1])
    kept: Array = np.arange(shape[-1]) < lengths[..., None]
    return kept
