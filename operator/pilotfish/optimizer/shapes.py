"""Concrete shapes for free dimensions, and whether dimension 0 is a batch. Found by running, never assumed."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import fill
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.tensors import Array, Arrays, take

_FIRST = (2, 1)
_LATER = (16, 64, 224, 32, 8, 128, 512, 256, 1)
Axes = Mapping[str, tuple[str | None, ...]]


def find_example(
    runner: Runner, declared: ModelSignature, *, axes: Axes, bounds: Mapping[str, int], trial: Arrays | None
) -> tuple[ModelSignature, Arrays]:
    """`declared` with an example shape for every input, and the inputs of the first call that the model accepts.

    `trial` are inputs of one call that should work; without them sizes of free dimensions are guessed.

    Raises:
        OptimizerError: SignatureMissing when nothing that was tried runs.
    """
    last = ""
    guesses = [trial] if trial else (fill(declared, s, bounds=bounds, seed=0) for s in _guesses(declared, axes))
    for inputs in guesses:
        try:
            outputs = runner.run(inputs)
        except Exception as error:  # noqa: BLE001 - a wrong guess may fail in any way
            last = str(error).splitlines()[0]
            continue
        named = tuple(t.model_copy(update={"example": inputs[t.name].shape}) for t in declared.inputs)
        shown = tuple(_output(t, outputs[t.name]) for t in declared.outputs)
        return declared.model_copy(update={"inputs": named, "outputs": shown}), inputs
    what = "the recorded samples do not run" if trial else "no size that was tried for the free dimensions runs"
    raise OptimizerError(
        Reason.SIGNATURE_MISSING,
        f"{what} ({last[:200]}); give real inputs in spec.model.samples or sizes in spec.model.signature",
    )


def as_batched(runner: Runner, found: ModelSignature, inputs: Arrays) -> ModelSignature:
    """The signature without its batch dimension if dimension 0 of everything is one, else as it is."""
    tensors = [*found.inputs, *found.outputs]
    if not all(t.shape and t.shape[0] == -1 for t in tensors) or not _follows(runner, inputs):
        return found.model_copy(update={"inputs": tuple(_tidy(t) for t in found.inputs)})

    def strip(spec: TensorSpec) -> TensorSpec:
        example = spec.example[1:] if spec.example else None
        return _tidy(spec.model_copy(update={"shape": spec.shape[1:], "example": example}))

    return ModelSignature(
        inputs=tuple(strip(t) for t in found.inputs), outputs=tuple(strip(t) for t in found.outputs), batched=True
    )


def with_batch(spec: TensorSpec, *, batch: int | None) -> tuple[int, ...]:
    """The concrete full shape of an input: its example where it has one, after `batch` when batched."""
    own = spec.example if spec.example is not None else spec.shape
    return own if batch is None else (batch, *own)


def _tidy(spec: TensorSpec) -> TensorSpec:
    return spec if -1 in spec.shape else spec.model_copy(update={"example": None})


def _output(spec: TensorSpec, value: Array) -> TensorSpec:
    if len(spec.shape) == value.ndim:
        return spec
    return spec.model_copy(update={"shape": (-1,) * value.ndim})  # the file declares no rank


def _follows(runner: Runner, inputs: Arrays) -> bool:
    """Runs three samples at once and singly: same answers, and as many of them."""
    three = take(inputs, 0, 3)
    try:
        together = runner.run(three)
        singly = [runner.run(take(three, i, 1)) for i in range(3)]
    except Exception:  # noqa: BLE001 - refusing a batch may fail in any way
        return False
    for name, value in together.items():
        rows = [one[name] for one in singly]
        if value.shape[:1] != (3,) or any(r.shape[:1] != (1,) for r in rows):
            return False
        if not np.allclose(value, np.concatenate(rows), rtol=1e-2, atol=1e-3, equal_nan=True):
            return False
    return True


def _guesses(declared: ModelSignature, axes: Axes) -> Iterator[dict[str, tuple[int, ...]]]:
    free = any(-1 in t.shape for t in declared.inputs)
    for first, later in product(_FIRST, _LATER) if free else [(1, 1)]:
        named: dict[str, int] = {}
        for spec in declared.inputs:
            for axis, label in enumerate(axes.get(spec.name, ())):
                if label is not None and label not in named:
                    named[label] = first if axis == 0 else later
        yield {t.name: _sizes(t, axes.get(t.name, ()), named, first=first, later=later) for t in declared.inputs}


def _sizes(
    spec: TensorSpec, labels: tuple[str | None, ...], named: Mapping[str, int], *, first: int, later: int
) -> tuple[int, ...]:
    padded = labels + (None,) * (len(spec.shape) - len(labels))
    return tuple(
        size if size != -1 else named.get(label or "", first if axis == 0 else later)
        for axis, (size, label) in enumerate(zip(spec.shape, padded, strict=True))
    )
