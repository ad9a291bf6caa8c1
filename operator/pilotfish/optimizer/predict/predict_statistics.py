"""What a model is asked and what it says, over time and beside the golden set. numpy alone; knows no server.

Drift is the population stability index of the last samples against the golden set's: of the classes, of the confidence,
and of each input's mean value per sample. What an index of equal distributions is expected to be at these counts is
taken off, so that a small golden set does not look like drift. Below 0.1 is noise, above 0.25 another population.
"""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WINDOW = 2000
"""Samples that drift is about."""
ENOUGH = 100
"""Samples in the window before drift is told."""
FEWEST = 50
"""Samples of a golden set below which chance alone looks like drift: nothing is told then."""
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper ends of the confidence's buckets."""
_MOST_BINS = 10
_SAMPLES_PER_BIN = 8


@dataclass(slots=True)
class Seen:
    """Values of one tensor so far."""

    values: int = 0
    not_finite: int = 0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, array: Array) -> None:
        """Count an array."""
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        self.values += array.size
        self.not_finite += array.size - finite.size
        if finite.size:
            self.least, self.most = min(self.least, float(finite.min())), max(self.most, float(finite.max()))


@dataclass(slots=True, kw_only=True)
class Statistics:
    """Counts of the sampled requests. `baseline` None: there is nothing that drift could be told against."""

    rate: float
    baseline: dict[str, Any] | None = None
    random: Random = field(default_factory=Random)
    samples: int = 0
    inputs: dict[str, Seen] = field(default_factory=dict)
    outputs: dict[str, Seen] = field(default_factory=dict)
    classes: dict[int, int] = field(default_factory=dict)
    confidence_sum: float = 0.0
    confidence_counts: list[int] = field(default_factory=lambda: [0] * len(CONFIDENCES))
    window: dict[str, deque[float]] = field(default_factory=dict)

    def take(self, inputs: dict[str, Array], outputs: dict[str, Array], scores: Array | None, *, batched: bool) -> bool:
        """Count these samples, or pass them over; whether they were counted."""
        if self.random.random() >= self.rate:
            return False
        self.samples += len(next(iter(inputs.values()))) if batched else 1
        for seen, arrays in ((self.inputs, inputs), (self.outputs, outputs)):
            for name, array in arrays.items():
                seen.setdefault(name, Seen()).add(array)
        for name, array in inputs.items():
            self._remember(f"input {name}", sample_means(array if batched else array[np.newaxis]))
        if scores is not None:
            self._take_scores(scores)
        return True

    def drift(self) -> dict[str, float]:
        """The index by what it is about; empty while there is too little to tell."""
        if self.baseline is None:
            return {}
        told = {}
        for name, base in self.baseline.items():
            window = self.window.get(name, ())
            if len(window) >= ENOUGH:
                told[name] = stability_index(np.array(window), base)
        return told

    def _take_scores(self, scores: Array) -> None:
        known = scores[np.isfinite(scores).all(axis=1)]
        best, confidence = known.argmax(axis=1), known.max(axis=1, initial=0.0)
        for index in best.tolist():
            self.classes[index] = self.classes.get(index, 0) + 1
        self.confidence_sum += float(confidence.sum())
        for place in np.searchsorted(CONFIDENCES, confidence).tolist():
            self.confidence_counts[min(place, len(CONFIDENCES) - 1)] += 1
        self._remember("classes", best.astype(np.float64))
        self._remember("confidence", confidence)

    def _remember(self, name: str, values: Array) -> None:
        if self.baseline is not None and name in self.baseline:
            self.window.setdefault(name, deque(maxlen=WINDOW)).extend(values.tolist())


def make_baseline(means: dict[str, Array], scores: Array | None) -> dict[str, Any]:
    """What `stability_index` compares with, by the names of `Statistics.drift`: `means` are those of each sample."""
    made = {f"input {name}": _of_values(values) for name, values in means.items()}
    if scores is not None:
        counts = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
        made["classes"] = {"edges": [index + 0.5 for index in range(len(counts) - 1)], "counts": counts.tolist()}
        made["confidence"] = _of_values(scores.max(axis=1))
    return {name: base for name, base in made.items() if len(base["counts"]) > 1 and sum(base["counts"]) >= FEWEST}


def stability_index(values: Array, base: dict[str, Any]) -> float:
    """0 for one population, without bound for two; what chance alone adds is taken off."""
    now, before = _counts(values, base["edges"]), np.array(base["counts"], np.float64)
    # Half a sample more in every bin: an empty one says "few", not "never".
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (now, before))
    chance = (len(now) - 1) * (1 / now.sum() + 1 / before.sum())
    return max(0.0, float(((p - q) * np.log(p / q)).sum() - chance))


def sample_means(array: Array) -> Array:
    """The mean of each sample's finite values."""
    rows = array.reshape(len(array), -1).astype(np.float64)
    finite = np.isfinite(rows)
    counts = np.maximum(finite.sum(axis=1), 1)
    return np.asarray(np.where(finite, rows, 0.0).sum(axis=1) / counts)


def _of_values(values: Array) -> dict[str, Any]:
    bins = max(1, min(_MOST_BINS, len(values) // _SAMPLES_PER_BIN))
    edges = sorted(set(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]).tolist()))
    return {"edges": edges, "counts": _counts(values, edges).astype(int).tolist()}


def _counts(values: Array, edges: list[float]) -> Array:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.float64)
