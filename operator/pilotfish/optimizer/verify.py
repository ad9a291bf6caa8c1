"""Does a candidate answer like the original? Figures, tolerances, and the sentence when it does not."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.api.bounds import Bounds, bounds_for
from pilotfish.api.report import ErrorFigures
from pilotfish.optimizer.tensors import Array, is_float

__all__ = ["Bounds", "bounds_for", "check_answers", "judge", "measure_error", "other_batches", "reference_problem"]

Floats = NDArray[np.float64]


def check_answers(answers: Mapping[str, Array], reference: Mapping[str, Array]) -> str | None:
    """The first thing that makes figures meaningless: a missing output, another shape or type, NaN or infinity."""
    for name, wanted in reference.items():
        value = answers.get(name)
        if value is None:
            return f"it has no output {name!r}"
        if value.shape != wanted.shape:
            return f"output {name!r} has shape {list(value.shape)} instead of {list(wanted.shape)}"
        if value.dtype != wanted.dtype:
            return f"output {name!r} is {value.dtype} instead of {wanted.dtype}"
        if is_float(value) and not np.array_equal(np.isfinite(value), np.isfinite(wanted)):
            return f"output {name!r} holds NaN or infinity where the original does not"
    return None


def reference_problem(reference: Mapping[str, Array]) -> str | None:
    """Why the original's own answers cannot be a reference."""
    for name, value in reference.items():
        if is_float(value) and np.isnan(value).any():
            return f"the original answers NaN in output {name!r}"
    return None


def measure_error(
    answers: Mapping[str, Array], reference: Mapping[str, Array], batches: Sequence[Mapping[str, Array]]
) -> ErrorFigures:
    """Worst figures over outputs and samples; `batches` are the candidate's answers in other batch sizes."""
    pairs = [(answers[name], reference[name]) for name in reference]
    return ErrorFigures(
        max_abs=max(_max_abs(a, b) for a, b in pairs),
        max_rel=max(_relative(a, b) for a, b in pairs),
        cosine=min(_cosine(a, b) for a, b in pairs),
        top1_agreement=_agreement(pairs),
        batch_parity=max((_relative(b[n], answers[n]) for b in batches for n in reference), default=0.0),
    )


def other_batches(top: int) -> list[tuple[int, int]]:
    """(batch, padded to) beside batch 1: pairs, the largest batch, and a short batch filled up to the largest."""
    return [] if top == 1 else [(b, 0) for b in sorted({2, top})] + [(max(1, top - 1), top)]


def judge(error: ErrorFigures, bounds: Bounds, *, said_in: str = "optimization.tolerance") -> str | None:
    """None when within the bounds, else which figure is out and by how much; `said_in` is where a user says bounds."""
    checks = (
        ("largest absolute error", error.max_abs, bounds.max_abs, "above", f"{said_in}.maxAbs"),
        ("relative error", error.max_rel, bounds.max_rel, "above", "the default for this precision"),
        ("cosine similarity", error.cosine, bounds.cosine, "below", f"{said_in}.cosine"),
        (
            "top-1 agreement",
            error.top1_agreement,
            bounds.top1_agreement,
            "below",
            f"{said_in}.top1Agreement",
        ),
        ("difference between batch sizes", error.batch_parity, bounds.batch_parity, "above", "what batching allows"),
    )
    for what, value, bound, side, where in checks:
        if value is None or bound is None:
            continue
        if (value > bound) if side == "above" else (value < bound):
            return f"{what} {value:.3g} is {side} {bound:g} ({where})"
    return None


def _finite(a: Array, b: Array) -> tuple[Floats, Floats]:
    """Both as float64 and flat, without the places where the original itself is infinite."""
    left, right = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    kept = np.isfinite(left) & np.isfinite(right)
    return left[kept], right[kept]


def _max_abs(a: Array, b: Array) -> float:
    left, right = _finite(a, b)
    return float(np.max(np.abs(left - right), initial=0.0))


def _relative(a: Array, b: Array) -> float:
    left, right = _finite(a, b)
    norm = float(np.linalg.norm(right))
    difference = float(np.linalg.norm(left - right))
    return difference / norm if norm > 0 else difference


def _cosine(a: Array, b: Array) -> float:
    """Smallest cosine over samples; samples of one number or of zeros say nothing and count as equal."""
    if not is_float(b):
        return 1.0
    left = np.nan_to_num(a.astype(np.float64)).reshape(len(a), -1)
    right = np.nan_to_num(b.astype(np.float64)).reshape(len(b), -1)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    usable = norms > 0
    if right.shape[1] < 2 or not usable.any():  # noqa: PLR2004
        return 1.0
    return float(np.min((left * right).sum(axis=1)[usable] / norms[usable]))


def _agreement(pairs: list[tuple[Array, Array]]) -> float | None:
    """Smallest share of equal arg-max over outputs that look like scores: one float vector per sample."""
    shares = [
        float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
        for a, b in pairs
        if is_float(b) and b.ndim == 2 and b.shape[1] > 1  # noqa: PLR2004
    ]
    return min(shares, default=None)
