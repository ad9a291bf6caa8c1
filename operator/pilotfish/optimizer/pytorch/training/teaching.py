"""What a teacher answers to the training data: computed once and kept; it is gone before anything is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import one_line
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.pytorch.training.data import TrainingSet, are_probabilities
from pilotfish.optimizer.pytorch.training.trainee import run_batches
from pilotfish.optimizer.tensors import Array, Arrays, is_float

_ENTRY = "train.teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The teacher's first output for every sample of the whole set."""

    answers: Array
    probabilities: bool


def ask_teacher(
    load: Callable[[], LoadedModel], data: TrainingSet, student: Array, *, checkpoints: Checkpoints, digest: str
) -> Taught:
    """The answers; loads the teacher only where an earlier run has not kept them. `student` is an answer of its own.

    Raises:
        OptimizerError: whatever keeps the teacher from loading; TrainingFailed when it cannot teach this student.
    """
    kept = checkpoints.find(_ENTRY, digest)
    answers = _answers(_load(load), data.inputs) if kept is None else np.load(kept.path, allow_pickle=False)
    _check(answers, data, student)
    if kept is None:
        checkpoints.save(_ENTRY, digest, step=1, write=lambda path: _write(path, answers))
    probabilities = data.class_axis is not None and are_probabilities(answers[:10], data.class_axis)
    return Taught(answers=answers, probabilities=probabilities)


def _load(load: Callable[[], LoadedModel]) -> LoadedModel:
    try:
        return load()
    except OptimizerError as error:
        raise OptimizerError(error.reason, f"distill.teacher: {error.message}") from error


def _answers(teacher: LoadedModel, inputs: Arrays) -> Array:
    if not teacher.signature.batched:
        raise _failed("takes one sample at a time; give one with a free batch dimension")
    names = [t.name for t in teacher.signature.inputs]
    if set(names) <= set(inputs):
        given = {name: inputs[name] for name in names}
    elif len(names) == len(inputs):
        given = dict(zip(names, inputs.values(), strict=True))
    else:
        raise _failed(f"takes {', '.join(names)}, the student {', '.join(inputs)}; give one that takes the same inputs")
    try:
        found = run_batches(teacher, given)
    except Exception as error:
        raise _failed(f"fails on the training data ({one_line(str(error), limit=200)})") from error
    return found[teacher.signature.outputs[0].name]


def _check(answers: Array, data: TrainingSet, student: Array) -> None:
    if answers.shape[1:] != student.shape[1:]:
        raise _failed(
            f"answers {list(answers.shape[1:])} for a sample, the student {list(student.shape[1:])}; "
            "both need the same classes"
        )
    if not is_float(answers) or not np.isfinite(answers).all():
        raise _failed("answers NaN, infinity or whole numbers on the training data")
    if len(answers) != len(data.labels):
        raise _failed(f"answers {len(answers)} of {len(data.labels)} samples")


def _write(path: Path, answers: Array) -> None:
    with path.open("wb") as stream:  # np.save adds a suffix to a path, not to a stream
        np.save(stream, answers.astype(np.float32))


def _failed(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.TRAINING_FAILED, f"distill.teacher {sentence}")
