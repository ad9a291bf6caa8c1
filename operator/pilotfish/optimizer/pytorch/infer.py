"""The signature of a torch module, found by running it: batch or not, names, types and free sizes of the outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.api.model import ModelSpec
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import fill
from pilotfish.optimizer.pytorch.randomness import random_calls
from pilotfish.optimizer.pytorch.runtime import TorchRunner
from pilotfish.optimizer.reference import difference, not_deterministic
from pilotfish.optimizer.shapes import with_batch
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY, Array, triton_dtype

_FREE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How a module is called: inputs in order, the first `positional` of them by position, the rest by keyword."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] = ()
    bounds: Mapping[str, int]


def declared_inputs(spec: ModelSpec, recorded: Mapping[str, Array] | None) -> tuple[TensorSpec, ...]:
    """Inputs without the batch dimension from spec.model.signature, else from recorded samples.

    Raises:
        OptimizerError: SignatureMissing when there is neither, SignatureMismatch for a type Triton does not know.
    """
    if spec.signature is not None:
        for tensor in spec.signature.inputs:
            if tensor.dtype not in TRITON_TO_NUMPY:
                raise OptimizerError(
                    Reason.SIGNATURE_MISMATCH,
                    f"input {tensor.name!r} has dtype {tensor.dtype!r}; use one of {', '.join(TRITON_TO_NUMPY)}",
                )
        return tuple(_with_example(t.name, t.dtype, t.shape, recorded) for t in spec.signature.inputs)
    if recorded:
        return tuple(
            TensorSpec(name=n, dtype=triton_dtype(a.dtype), shape=tuple(a.shape[1:]))
            for n, a in recorded.items()
            if n != "labels"
        )
    raise OptimizerError(
        Reason.SIGNATURE_MISSING,
        "the file does not say its inputs; write spec.model.signature.inputs (name, dtype, shape without batch), "
        "give spec.model.samples, or save the model with pilotfish.pack",
    )


class _BatchDependentError(Exception):
    """Samples of one batch change each other's answers."""


def infer_signature(module: Any, entry: Entry) -> tuple[ModelSignature, TorchRunner]:
    """The full signature and a runner with its output names.

    Raises:
        OptimizerError: SignatureMismatch when the module does not run on its inputs, with or without a batch dimension,
            BatchDependent when it takes batches only and mixes their samples, ModelNotDeterministic.
    """
    names = [t.name for t in entry.inputs]
    trial = TorchRunner(module, inputs=names, outputs=entry.outputs)
    problems, dependent = [], ""
    for batched in (True, False):
        try:
            outputs = _outputs(trial, entry, batched=batched)
        except OptimizerError:
            raise
        except _BatchDependentError as error:
            dependent = str(error)
            continue
        except Exception as error:  # noqa: BLE001 - a wrong shape fails in any way
            problems.append(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            continue
        signature = ModelSignature(inputs=entry.inputs, outputs=outputs, batched=batched)
        return signature, TorchRunner(module, inputs=names, outputs=[t.name for t in outputs])
    if dependent:
        raise OptimizerError(Reason.BATCH_DEPENDENT, dependent)
    shapes = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in entry.inputs)
    raise OptimizerError(
        Reason.SIGNATURE_MISMATCH,
        f"the model does not run on inputs {shapes}: {problems[0]}; correct spec.model.signature",
    )


def _outputs(runner: TorchRunner, entry: Entry, *, batched: bool) -> tuple[TensorSpec, ...]:
    first = _run(runner, entry, batch=3 if batched else None, stretch=0)
    if batched:
        if any(value.ndim == 0 or value.shape[0] != 3 for value in first.values()):  # noqa: PLR2004
            raise ValueError("its answers do not have the batch dimension first")
        if problem := difference(first, _run(runner, entry, batch=3, stretch=0)):
            raise not_deterministic(problem, random_calls(runner.module))
        _check_rows(runner, entry, first)
    shapes = {name: value.shape for name, value in first.items()}
    if any(-1 in t.shape for t in entry.inputs):
        shapes = _free_outputs(runner, entry, shapes, batched=batched)
    return tuple(
        TensorSpec(name=name, dtype=triton_dtype(first[name].dtype), shape=shape[1:] if batched else shape)
        for name, shape in shapes.items()
    )


def _free_outputs(
    runner: TorchRunner, entry: Entry, shapes: dict[str, tuple[int, ...]], *, batched: bool
) -> dict[str, tuple[int, ...]]:
    """Sizes that change when the inputs' free sizes change are free; all are when the model refuses other sizes."""
    try:
        other = {n: v.shape for n, v in _run(runner, entry, batch=3 if batched else None, stretch=3).items()}
    except Exception:  # noqa: BLE001 - a refusal says nothing about which sizes are free
        return {name: (*shape[: int(batched)], *(-1 for _ in shape[int(batched) :])) for name, shape in shapes.items()}
    return {n: tuple(a if a == b else -1 for a, b in zip(shape, other[n], strict=True)) for n, shape in shapes.items()}


def _check_rows(runner: TorchRunner, entry: Entry, together: dict[str, Array]) -> None:
    inputs = _inputs(entry, batch=3, stretch=0)
    for row in range(3):
        single = runner.run({name: array[row : row + 1] for name, array in inputs.items()})
        for name, value in single.items():
            if value.shape != (1, *together[name].shape[1:]):
                raise ValueError(f"output {name!r} changes its shape with the batch")
            if not np.allclose(value[0], together[name][row], rtol=1e-2, atol=1e-3, equal_nan=True):
                raise _BatchDependentError(
                    f"output {name!r} of one sample depends on the others in its batch, so requests of different "
                    "clients would change each other's answers: normalise with stored statistics (model.eval() "
                    "before you save), not with the batch's own",
                )


def _run(runner: TorchRunner, entry: Entry, *, batch: int | None, stretch: int) -> dict[str, Array]:
    return runner.run(_inputs(entry, batch=batch, stretch=stretch))


def _inputs(entry: Entry, *, batch: int | None, stretch: int) -> dict[str, Array]:
    shapes = {}
    for spec in entry.inputs:
        own = with_batch(spec, batch=None)
        grown = tuple(s + stretch if free == -1 else s for s, free in zip(own, spec.shape, strict=True))
        shapes[spec.name] = grown if batch is None else (batch, *grown)
    signature = ModelSignature(inputs=entry.inputs, outputs=(), batched=batch is not None)
    return fill(signature, shapes, bounds=entry.bounds, seed=2)


def _with_example(name: str, dtype: str, shape: tuple[int, ...], recorded: Mapping[str, Array] | None) -> TensorSpec:
    if -1 not in shape:
        return TensorSpec(name=name, dtype=dtype, shape=shape)
    if recorded and name in recorded:
        return TensorSpec(name=name, dtype=dtype, shape=shape, example=tuple(recorded[name].shape[1:]))
    return TensorSpec(name=name, dtype=dtype, shape=shape, example=tuple(_FREE if s == -1 else s for s in shape))
