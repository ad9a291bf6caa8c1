"""Epochs over the data: seeded, checkpointed after each one, and the same whether or not they were broken off.

Every epoch starts from seeds of its own, so that a checkpoint needs no state of random generators.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import one_line
from pilotfish.api.report_sections import Epoch
from pilotfish.optimizer.checkpoints import Checkpoint, Checkpoints
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.metrics import Task
from pilotfish.optimizer.model import Samples
from pilotfish.optimizer.progress import Progress, clock_text
from pilotfish.optimizer.pytorch.training.data import TrainingSet
from pilotfish.optimizer.pytorch.training.trainee import Trainee

_WARM_UP = 0.05
_LARGEST_GRADIENT = 1.0
_DECAY = 0.01

Loss = Callable[[Any, NDArray[np.int64]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One stage's training. `stage` is its name in the contract, `number` its place in the recipe."""

    stage: str
    number: int
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    digest: str


@dataclass(slots=True, kw_only=True)
class Course:
    """Where epochs are kept and told, and what they are judged by."""

    data: TrainingSet
    held: Samples
    task: Task
    checkpoints: Checkpoints
    progress: Progress
    clock: Callable[[], float] = time.monotonic
    after_epoch: Callable[[str, int], None] = field(default=lambda _stage, _epoch: None)


@dataclass(slots=True)
class _State:
    history: list[Epoch]
    optimizer: dict[str, Any] | None


def learn(trainee: Trainee, lesson: Lesson, course: Course, loss: Loss) -> tuple[Epoch, ...]:
    """Train to the last epoch, from the last one that was kept.

    Raises:
        OptimizerError: TrainingFailed when the loss is no number any more.
    """
    state = _State([], None)
    if (kept := course.checkpoints.find(_entry(lesson), lesson.digest)) is not None:
        state = _restore(trainee, kept)
        course.progress.step(len(state.history) / lesson.epochs, f"goes on after epoch {kept.step}", force=True)
    trained = [p for p in trainee.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lesson.learning_rate, weight_decay=_DECAY)
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    began, first = course.clock(), len(state.history)
    for number in range(first + 1, lesson.epochs + 1):
        started = course.clock()
        with deterministic(_seed(lesson, number)):
            mean = _epoch(trainee, lesson, course, loss, optimizer=optimizer, number=number)
        metric = course.task.measure(trainee.evaluate(course.held.inputs))
        state.history.append(
            Epoch(
                epoch=number,
                loss=mean,
                metric=metric,
                learning_rate=optimizer.param_groups[0]["lr"],
                seconds=round(course.clock() - started, 3),
            )
        )
        last = number == lesson.epochs
        _keep(trainee, lesson, course, state.history, optimizer=None if last else optimizer)
        left = (course.clock() - began) / (number - first) * (lesson.epochs - number)
        course.progress.step(
            number / lesson.epochs,
            f"epoch {number} of {lesson.epochs}, loss {mean:.4g}, {course.task.metric.value} {metric:.4g} held out, "
            f"{clock_text(left)} left in {lesson.stage}",
            force=True,
        )
        course.after_epoch(lesson.stage, number)
    return tuple(state.history)


def restore_last(trainee: Trainee, lesson: Lesson, checkpoints: Checkpoints) -> None:
    """The finished stage's weights again, into a model of the same structure."""
    kept = checkpoints.find(_entry(lesson), lesson.digest)
    if kept is None:
        raise OptimizerError(Reason.INTERNAL_ERROR, f"the checkpoint of {lesson.stage} is gone; start the Job again")
    _restore(trainee, kept)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seeds for whatever draws inside a module, and operators that give the same result each time."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)


def batches(indices: NDArray[np.int64], size: int, *, seed: int) -> list[NDArray[np.int64]]:
    """All indices in a seeded order, cut into batches; a last one of a single sample joins the one before.

    Batch normalization has no variance of a single sample.
    """
    order = np.random.default_rng(seed).permutation(indices)
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def rate_at(step: int, *, steps: int, top: float) -> float:
    """The learning rate: up over the first twentieth, then down along a cosine. `step` counts from 0."""
    warm = max(1, round(steps * _WARM_UP))
    if step < warm:
        return top * (step + 1) / warm
    return top * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _epoch(trainee: Trainee, lesson: Lesson, course: Course, loss: Loss, *, optimizer: Any, number: int) -> float:
    parts = batches(course.data.learned, lesson.batch_size, seed=_seed(lesson, number))
    trainee.training()
    total = 0.0
    for index, picked in enumerate(parts):
        step = (number - 1) * len(parts) + index
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps=len(parts) * lesson.epochs, top=lesson.learning_rate)
        optimizer.zero_grad(set_to_none=True)
        value = _loss_of(trainee, lesson, course, loss, picked=picked)
        if not math.isfinite(value.item()):
            raise OptimizerError(
                Reason.TRAINING_FAILED,
                f"{lesson.stage}: the loss is no number any more in epoch {number}; lower learningRate, "
                f"which is {lesson.learning_rate:g}",
            )
        value.backward()
        torch.nn.utils.clip_grad_norm_(trainee.module.parameters(), _LARGEST_GRADIENT)
        optimizer.step()
        total += value.item() * len(picked)
        done = (number - 1 + (index + 1) / len(parts)) / lesson.epochs
        course.progress.step(done, f"epoch {number} of {lesson.epochs}, loss {value.item():.4g}")
    return total / len(course.data.learned)


def _loss_of(trainee: Trainee, lesson: Lesson, course: Course, loss: Loss, *, picked: NDArray[np.int64]) -> Any:
    try:
        return loss(trainee.answer({name: array[picked] for name, array in course.data.inputs.items()}), picked)
    except (IndexError, RuntimeError, ValueError) as error:
        raise OptimizerError(
            Reason.TRAINING_FAILED,
            f"{lesson.stage}: the model fails on the training data ({one_line(str(error), limit=200)}); correct the "
            "data, or the sizes that the model expects",
        ) from error


def _seed(lesson: Lesson, epoch: int) -> int:
    return int(np.random.SeedSequence([lesson.seed, lesson.number, epoch]).generate_state(1)[0])


def _entry(lesson: Lesson) -> str:
    return f"train.{lesson.stage}"


def _keep(trainee: Trainee, lesson: Lesson, course: Course, history: list[Epoch], *, optimizer: Any) -> None:
    state = {
        "model": trainee.module.state_dict(),
        "history": [epoch.to_wire() for epoch in history],
        **({} if optimizer is None else {"optimizer": optimizer.state_dict()}),
    }

    def write(path: Path) -> None:
        torch.save(state, path)

    course.checkpoints.save(_entry(lesson), lesson.digest, step=len(history), write=write)


def _restore(trainee: Trainee, kept: Checkpoint) -> _State:
    state = torch.load(kept.path, map_location="cpu", weights_only=True)
    trainee.module.load_state_dict(state["model"])
    return _State([Epoch.model_validate(epoch) for epoch in state["history"]], state.get("optimizer"))
