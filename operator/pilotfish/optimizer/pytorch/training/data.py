"""Labelled data to train on: read without running anything in it, checked against the model, and split.

Every way in which data and model do not fit is named before the first step of training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import one_line
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import SEED
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.samples import check_samples, read_samples
from pilotfish.optimizer.tensors import Array, is_float, sample_count

LEAST = 10
IGNORED = -100
"""No label, as PyTorch's cross entropy has it: of a sample that only a teacher knows, or of padding."""
_HELD_OUT = 5
_LABELS = "labels"
_WHERE = "the training data"
_IMAGE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """All samples in memory, and which of them are held out. `class_axis` is None for regression.

    `labels` are int64 without the class axis, or the output's own type in the output's shape.
    """

    inputs: dict[str, Array]
    labels: Array
    output: str
    class_axis: int | None
    probabilities: bool
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]

    def held(self) -> Samples:
        """What is kept apart to judge by."""
        inputs = {name: array[self.held_out] for name, array in self.inputs.items()}
        return Samples(inputs=inputs, labels=self.labels[self.held_out], given=True, seed=SEED)

    def golden(self) -> dict[str, Array]:
        """Those of them that have a label, as recorded samples are written."""
        chosen = self.held_out[_known(self.labels[self.held_out], self.class_axis)]
        return {**{name: array[chosen] for name, array in self.inputs.items()}, _LABELS: self.labels[chosen]}


def read_training_set(path: Path, model: LoadedModel, *, seed: int = SEED) -> TrainingSet:
    """The file's arrays as the model takes them; a seeded fifth is held out.

    Raises:
        OptimizerError: TrainingDataInvalid with the array that does not fit, and what is expected.
    """
    try:
        arrays = read_samples(path)
    except OptimizerError as error:
        raise _invalid(f"{_WHERE}: {error.message}") from error
    return make_training_set(arrays, model, seed=seed)


def make_training_set(arrays: Mapping[str, Array], model: LoadedModel, *, seed: int = SEED) -> TrainingSet:
    """The same from arrays."""
    if _LABELS not in arrays:
        raise _invalid(f"{_WHERE} lack 'labels'; add class numbers (or the wanted answers) as an array of that name")
    try:
        inputs = check_samples(arrays, model.signature, where=_WHERE, most=None).inputs
    except OptimizerError as error:
        raise _invalid(error.message) from error
    total = sample_count(inputs)
    if total < LEAST:
        raise _invalid(f"{_WHERE} hold {total} samples, fewer than {LEAST}; give more")
    answer = _trial(model, inputs)
    labels, axis = _labels(arrays[_LABELS], answer, output=model.signature.outputs[0].name, total=total)
    known = _known(labels, axis)
    if known.sum() < LEAST:
        raise _invalid(f"{_WHERE} hold {known.sum()} samples with a label, fewer than {LEAST}; give more")
    learned, held_out = _split(known, seed=seed)
    return TrainingSet(
        inputs=inputs,
        labels=labels,
        output=model.signature.outputs[0].name,
        class_axis=axis,
        probabilities=axis is not None and are_probabilities(answer, axis),
        learned=learned,
        held_out=held_out,
    )


def _known(labels: Array, axis: int | None) -> NDArray[np.bool_]:
    """Which samples have a label at all."""
    if axis is None:
        return np.ones(len(labels), np.bool_)
    known: NDArray[np.bool_] = (labels.reshape(len(labels), -1) != IGNORED).any(axis=1)
    return known


def _split(known: NDArray[np.bool_], *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Four fifths to learn and one to judge by, of those with a label and of those without."""
    order = np.random.default_rng(seed).permutation(len(known))
    groups = (order[known[order]], order[~known[order]])
    learned = np.concatenate([group[len(group) // _HELD_OUT :] for group in groups])
    held_out = np.concatenate([group[: len(group) // _HELD_OUT] for group in groups])
    return np.sort(learned), np.sort(held_out)


def are_probabilities(answer: Array, axis: int) -> bool:
    """Whether scores are shares that add up to one: a model that ends in softmax."""
    values = answer.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=axis), 1, atol=1e-3))


def _trial(model: LoadedModel, inputs: Mapping[str, Array]) -> Array:
    """The first output for some samples, those with the largest whole numbers among them: they are looked up."""
    chosen = set(range(LEAST))
    for array in inputs.values():
        if array.dtype.kind in "iu":
            chosen.add(int(array.reshape(len(array), -1).max(axis=1).argmax()))
    try:
        answers = model.runner.run({name: array[sorted(chosen)] for name, array in inputs.items()})
    except Exception as error:
        raise _invalid(f"the model fails on {_WHERE}: {one_line(str(error), limit=200)}; correct the inputs") from error
    answer = answers[model.signature.outputs[0].name]
    if not is_float(answer):
        raise _invalid(f"output {model.signature.outputs[0].name!r} is {answer.dtype}: no loss can be made of it")
    if not np.isfinite(answer).all():
        raise _invalid(f"the model answers NaN or infinity on {_WHERE}; correct the inputs or the model")
    return answer


def _labels(labels: Array, answer: Array, *, output: str, total: int) -> tuple[Array, int | None]:
    """Labels in the form that losses take, and where the classes are."""
    if labels.dtype.kind in "iu":
        return _classes(labels, answer, output=output)
    if labels.dtype.kind != "f":
        raise _invalid(f"{_WHERE}: 'labels' is {labels.dtype}; save class numbers as integers, 0 for the first class")
    if not np.isfinite(labels).all():
        raise _invalid(f"{_WHERE}: 'labels' holds NaN or infinity; remove those samples")
    wanted = (total, *answer.shape[1:])
    if labels.size != np.prod(wanted) or len(labels) != total:
        raise _invalid(
            f"{_WHERE}: 'labels' is {labels.dtype} {list(labels.shape)}, but output {output!r} is {list(wanted)}; save "
            "class numbers as integers, or answers in the output's shape"
        )
    return np.ascontiguousarray(labels.reshape(wanted).astype(answer.dtype)), None


def _classes(labels: Array, answer: Array, *, output: str) -> tuple[Array, int]:
    flat = labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels
    axis = class_axis(answer, flat)
    if axis is None:
        raise _invalid(
            f"{_WHERE}: 'labels' is {labels.dtype} {list(labels.shape)}, which are no class numbers for output "
            f"{output!r} of shape {['samples', *answer.shape[1:]]}; give one number per sample"
        )
    numbers = flat.astype(np.int64)
    count = answer.shape[axis]
    judged = numbers[numbers != IGNORED]
    if not judged.size:
        raise _invalid(f"{_WHERE}: 'labels' holds nothing but {IGNORED}, which is not learned")
    if judged.min() < 0:
        raise _invalid(f"{_WHERE}: 'labels' holds {judged.min()}; classes are counted from 0")
    if judged.max() >= count:
        raise _invalid(
            f"{_WHERE}: 'labels' holds {judged.max()}, but output {output!r} has {count} classes, 0 to {count - 1}; "
            "correct the labels, or give the model a new head (architecture.arguments and architecture.fresh)"
        )
    if judged.min() == judged.max():
        raise _invalid(f"{_WHERE}: 'labels' is {judged.min()} everywhere; there is nothing to tell apart")
    return np.ascontiguousarray(numbers), axis


def class_axis(answer: Array, labels: Array) -> int | None:
    """Where the classes are in an answer to as many samples as it likes: the last axis, or the second of images."""
    if answer.ndim == _IMAGE and answer.shape[2:] == labels.shape[1:]:
        return 1
    fits = answer.ndim > 1 and answer.shape[1:-1] == labels.shape[1:] and answer.shape[-1] > 1
    return answer.ndim - 1 if fits else None


def _invalid(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.TRAINING_DATA_INVALID, sentence)
