"""A module while it is trained: what may change in it, in which mode it runs, and its state.

Exported programs are graphs of evaluation mode: their weights learn, dropout stays off and batch normalization keeps
its statistics. Frozen batch normalization keeps them in every model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.pytorch.runtime import name_outputs, to_tensor
from pilotfish.optimizer.tensors import Array, Arrays, sample_count, take

_NORMS = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - the base class of all of them has no other name
_EVALUATION_BATCH = 256


class Trainee:
    """The loaded model's module, by the names that its author gave."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.module = model, model.module
        self.author = _inside(model.module)
        self.is_graph = isinstance(self.author, torch.fx.GraphModule)
        self._inputs = [t.name for t in model.signature.inputs]
        self._outputs = [t.name for t in model.signature.outputs]
        self._still: list[Any] = []

    def answer(self, inputs: Arrays) -> Any:
        """The first output's tensor, with whatever gradients are on."""
        result = self.module(*(to_tensor(inputs[name]) for name in self._inputs))
        return next(iter(name_outputs(result, self._outputs).values()))

    def examples(self, inputs: Arrays, count: int = 2) -> tuple[Any, ...]:
        """The first samples as positional arguments."""
        return tuple(to_tensor(inputs[name][:count]) for name in self._inputs)

    def evaluate(self, inputs: Arrays) -> dict[str, Array]:
        """All answers in evaluation mode."""
        self.evaluating()
        return run_batches(self.model, inputs)

    def parameters(self) -> int:
        """How many numbers it consists of."""
        return sum(p.numel() for p in self.module.parameters())

    @contextmanager
    def frozen(self, patterns: Sequence[str], *, field: str) -> Iterator[None]:
        """Keep the parameters of these names, and statistics beside them, as they are.

        Raises:
            OptimizerError: TrainingFailed when a pattern names nothing, or nothing is left to train.
        """
        names = {name for name, _ in self.author.named_parameters()}
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                some = ", ".join(sorted(names)[:3])
                raise _failed(f"{field} names {pattern!r}, but no parameter is called so; they are like {some}")
        for name, parameter in self.author.named_parameters():
            parameter.requires_grad_(parameter.is_floating_point() and not _matches(name, patterns))
        self._still = [m for path, m in self.author.named_modules() if isinstance(m, _NORMS) and _kept(path, patterns)]
        if not any(p.requires_grad for p in self.module.parameters()):
            raise _failed(f"{field} leaves no parameter to train; freeze less")
        try:
            yield
        finally:
            self._still = []
            for parameter in self.module.parameters():
                parameter.requires_grad_(parameter.is_floating_point())
            self.evaluating()

    def training(self) -> None:
        """Training mode, but for what is frozen."""
        if not self.is_graph:
            self.module.train()
            for norm in self._still:
                norm.eval()

    def evaluating(self) -> None:
        """Evaluation mode."""
        if not self.is_graph:
            self.module.eval()


def check_loaded(model: LoadedModel) -> None:
    """Say early that a loaded model cannot be trained.

    Raises:
        OptimizerError: TrainingFailed.
    """
    if model.module is None or isinstance(model.module, torch.jit.ScriptModule):
        raise _failed("the model came without a PyTorch module, so there is nothing to train")
    if not model.signature.batched:
        raise _failed("the model takes one sample at a time; training needs a free batch dimension")
    if not any(p.is_floating_point() for p in model.module.parameters()):
        raise _failed("the model has no parameter to train: its weights are constants")


def run_batches(model: LoadedModel, inputs: Arrays) -> dict[str, Array]:
    """All answers, without gradients, in batches that fit into memory."""
    parts: dict[str, list[Array]] = {}
    total = sample_count(inputs)
    for start in range(0, total, _EVALUATION_BATCH):
        batch = take(inputs, start, min(_EVALUATION_BATCH, total - start))
        for name, value in model.runner.run(batch).items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _inside(module: Any) -> Any:
    """The author's own module: loaders wrap it so that it takes tensors in order."""
    inner = getattr(module, "inner", None)
    return module if inner is None else inner


def _kept(path: str, patterns: Sequence[str]) -> bool:
    names = ("weight", "bias", "running_mean", "running_var")
    return any(_matches(f"{path}.{name}" if path else name, patterns) for name in names)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _failed(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.TRAINING_FAILED, sentence)
