"""What training makes small: distance to the labels, and to a teacher's answers.

A distillation loss is scaled by the square of the temperature, so that its gradients keep their size, and divided by
samples, not by classes: `reduction="mean"` would make it as many times too small as there are classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pilotfish.optimizer.pytorch.runtime import to_tensor
from pilotfish.optimizer.pytorch.training.data import IGNORED, TrainingSet
from pilotfish.optimizer.tensors import Array

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLoss:
    """Cross entropy with class numbers, mean squared error with anything else."""

    data: TrainingSet

    def __call__(self, answer: Any, picked: NDArray[np.int64]) -> Any:
        """The mean over the samples at these places of the whole set, given the model's answer to them."""
        labels = to_tensor(self.data.labels[picked])
        if self.data.class_axis is None:
            return functional.mse_loss(answer, labels)
        scores = by_class(answer, self.data.class_axis, probabilities=self.data.probabilities)
        wanted = labels.reshape(-1)
        total = functional.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum")
        return total / (wanted != IGNORED).sum().clamp_min(1)  # a batch may have no label at all


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationLoss:
    """alpha times the distance to the teacher's `answers` to the whole set, the rest the distance to the labels.

    A sample without a label is learned from the teacher alone; a word without one is padding and not learned.
    """

    task: TaskLoss
    answers: Array
    teacher_probabilities: bool
    temperature: float
    alpha: float

    def __call__(self, answer: Any, picked: NDArray[np.int64]) -> Any:
        """The mean over the samples at these places of the whole set, given the student's answer to them."""
        teacher = to_tensor(self.answers[picked])
        data = self.task.data
        if data.class_axis is None:
            soft = functional.mse_loss(answer, teacher)
        else:
            labels = to_tensor(data.labels[picked])
            soft = soft_loss(
                by_class(answer, data.class_axis, probabilities=data.probabilities),
                by_class(teacher, data.class_axis, probabilities=self.teacher_probabilities),
                temperature=self.temperature,
                counted=(labels.reshape(-1) != IGNORED)
                if labels.ndim > 1
                else torch.ones_like(labels, dtype=torch.bool),
            )
        return self.alpha * soft + (1 - self.alpha) * self.task(answer, picked)


def soft_loss(student: Any, teacher: Any, *, temperature: float, counted: Any) -> Any:
    """KL divergence of softened scores [n, classes], times the square of the temperature."""
    return (
        functional.kl_div(
            functional.log_softmax(student[counted] / temperature, dim=-1),
            functional.log_softmax(teacher[counted] / temperature, dim=-1),
            log_target=True,
            reduction="batchmean",
        )
        * temperature**2
    )


def by_class(answer: Any, axis: int, *, probabilities: bool) -> Any:
    """Scores as [n, classes] before softmax; the logarithm of shares is such a score."""
    scores = torch.movedim(answer, axis, -1).reshape(-1, answer.shape[axis])
    return scores.clamp_min(_TINY).log() if probabilities else scores
