"""The task's own figure of merit, where samples have labels: before, after, and whether too much was lost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.api.report import ModelSignature
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.tolerance import Metric, Tolerance
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import Samples
from pilotfish.optimizer.tensors import Array, is_float

DEFAULT_DROP = 0.01
_TOP = {Metric.ACCURACY: 1, Metric.TOP5_ACCURACY: 5}
_IMAGE = 4
_SLACK = 1e-9
"""0.97 - 0.96 is a little more than 0.01 in floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A metric with the labels that it needs. `output` is the first one; `reference` is the original's own figure."""

    metric: Metric
    labels: Array
    output: str
    most: float
    reference: float = 0.0

    def measure(self, answers: Mapping[str, Array]) -> float:
        """The figure of answers to the golden set."""
        value = answers[self.output]
        if self.metric in _TOP:
            return _hits(value, self.labels, top=_TOP[self.metric])
        difference = value.astype(np.float64) - self.labels.reshape(value.shape).astype(np.float64)
        return float(np.mean(np.abs(difference) if self.metric is Metric.MEAN_ABSOLUTE_ERROR else difference**2))

    def drop(self, after: float) -> float:
        """What is lost against the original: points of an accuracy, the relative rise of an error."""
        return loss(self.metric, before=self.reference, after=after)

    def judge(self, after: float) -> str | None:
        """None when no more is lost than allowed."""
        if self.drop(after) <= self.most + _SLACK:
            return None
        moves = "falls" if self.metric in _TOP else "rises"
        return (
            f"{self.metric.value} {moves} from {self.reference:.4g} to {after:.4g}, a loss of {self.drop(after):.3g}; "
            f"{self.most:g} is allowed (optimization.tolerance.maxMetricDrop)"
        )


def loss(metric: Metric, *, before: float, after: float) -> float:
    """Points of an accuracy, the relative rise of an error (its rise where there was none before)."""
    if metric in _TOP:
        return before - after
    return (after - before) / before if before > 0 else after - before


def find_task(
    tolerance: Tolerance | None, samples: Samples, reference: Mapping[str, Array], signature: ModelSignature
) -> Task | None:
    """The metric that is asked for, or the one that the labels suggest; None where there are no labels for one.

    Raises:
        OptimizerError: SamplesInvalid when a metric is asked for and the samples have no labels that it can use.
    """
    said = tolerance or Tolerance()
    output = signature.outputs[0].name
    if samples.labels is None:
        if said.metric is None:
            return None
        raise _invalid(f"{said.metric.value} needs labels and the samples have none; add an array `labels` to them")
    problems = {metric: _misfit(metric, reference[output], samples.labels) for metric in Metric}
    if said.metric is None:
        usual = Metric.MEAN_SQUARED_ERROR if is_float(samples.labels) else Metric.ACCURACY
        metric = usual if problems[usual] is None else None
    else:
        metric = said.metric
        if problem := problems[metric]:
            raise _invalid(f"{metric.value} of output {output!r}: {problem}")
    if metric is None:
        return None
    most = DEFAULT_DROP if said.max_metric_drop is None else float(said.max_metric_drop)
    bare = Task(metric=metric, labels=samples.labels, output=output, most=most)
    return Task(metric=metric, labels=bare.labels, output=output, most=most, reference=bare.measure(reference))


def _misfit(metric: Metric, value: Array, labels: Array) -> str | None:
    """Why labels and answers do not fit a metric."""
    if not is_float(value):
        return f"it is {value.dtype}, no score; a metric reads the first output"
    if metric not in _TOP:
        same = labels.size == value.size and len(labels) == len(value)
        if same and labels.dtype.kind in "iuf":
            return None
        return f"its labels must be numbers of shape {list(value.shape)}, not {labels.dtype} {list(labels.shape)}"
    axis = _class_axis(value, labels)
    if labels.dtype.kind not in "iu" or axis is None:
        return f"its labels must be class numbers, not {labels.dtype} {list(labels.shape)} for {list(value.shape)}"
    if labels.max(initial=0) >= value.shape[axis]:
        return f"label {labels.max()} is beyond its {value.shape[axis]} classes"
    return None


def _class_axis(value: Array, labels: Array) -> int | None:
    """Where the classes are: the last axis, or the second of images."""
    shape = labels.shape[:-1] if labels.ndim > 1 and labels.shape[-1] == 1 else labels.shape
    if value.ndim == _IMAGE and (value.shape[0], *value.shape[2:]) == shape:
        return 1
    return value.ndim - 1 if value.ndim > 1 and value.shape[:-1] == shape and value.shape[-1] > 1 else None


def _hits(value: Array, labels: Array, *, top: int) -> float:
    axis = _class_axis(value, labels) or -1
    scores: NDArray[np.generic] = np.moveaxis(value, axis, -1)
    scores = scores.reshape(-1, scores.shape[-1])
    wanted = labels.reshape(-1).astype(np.int64)
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :top]
    counted = wanted >= 0  # -100 and the like: not to be judged
    return float(np.mean((best == wanted[:, None]).any(axis=1)[counted])) if counted.any() else 0.0


def _invalid(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.SAMPLES_INVALID, sentence)
