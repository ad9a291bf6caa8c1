"""The original's own answers, and everything that keeps them from being a reference: each with its own sentence."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.tensors import Array, take
from pilotfish.optimizer.verify import check_answers, measure_error, reference_problem
from pilotfish.optimizer.worker import run_all

_ASKED_TWICE = 8
_SAME = 1e-4
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_TRAINING_INPUT = {"Dropout": 2}
"""Operators that behave randomly when this input is true."""


def ask_original(model: LoadedModel, samples: Samples) -> dict[str, Array]:
    """The original's answers to the golden set, one sample at a time.

    Raises:
        OptimizerError: ModelInvalid (NaN among the weights), ReferenceInvalid (it fails, or answers NaN),
            ModelNotDeterministic (the same inputs get other answers, because of dropout or random numbers).
    """
    if found := weights_with_nan(model):
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"the weights {found!r} hold NaN, so its training has diverged: use an earlier checkpoint",
        )
    reference = _answers(model, samples, dict(samples.inputs))
    if problem := reference_problem(reference):
        raise OptimizerError(
            Reason.REFERENCE_INVALID,
            f"{problem} although its weights are numbers, so nothing can be compared with it; check the samples' range",
        )
    few = take(samples.inputs, 0, min(_ASKED_TWICE, len(next(iter(samples.inputs.values())))))
    first = {name: value[: len(next(iter(few.values())))] for name, value in reference.items()}
    if problem := difference(first, _answers(model, samples, few)):
        raise not_deterministic(problem, random_parts(model))
    return reference


def difference(first: dict[str, Array], second: dict[str, Array]) -> str | None:
    """How two answers to the same inputs differ beyond rounding; None when they do not."""
    if problem := check_answers(second, first):
        return problem
    error = measure_error(second, first, []).max_rel
    return f"they differ by {error:.2g}" if error > _SAME else None


def not_deterministic(problem: str, parts: tuple[list[str], list[str]]) -> OptimizerError:
    """The failure of a model that answers the same inputs differently; `parts` as `random_parts` gives them."""
    dropouts, others = parts
    if dropouts:
        why = f"dropout is left on ({_list(dropouts)}); call model.eval() before you save it"
    elif others:
        why = f"it draws random numbers ({_list(others)}); make them an input of the model, or take them out"
    else:
        why = "something in it is random or remembers earlier calls; take it out"
    return OptimizerError(
        Reason.MODEL_NOT_DETERMINISTIC, f"the original answers the same inputs differently each time ({problem}): {why}"
    )


def random_parts(model: LoadedModel) -> tuple[list[str], list[str]]:
    """Names of dropouts that are left on, and of whatever else draws random numbers."""
    if model.onnx is not None:
        return _random_nodes(onnx.load(str(model.onnx), load_external_data=False).graph)
    if model.module is None:
        return [], []
    from pilotfish.optimizer.pytorch.randomness import random_calls

    return random_calls(model.module)


def weights_with_nan(model: LoadedModel) -> str | None:
    """The first tensor of weights with a NaN. One tensor at a time is in memory."""
    return next((name for name, array in _weights(model) if np.isnan(array).any()), None)


def _weights(model: LoadedModel) -> Iterator[tuple[str, Array]]:
    if model.onnx is not None:
        for tensor in onnx.load(str(model.onnx), load_external_data=False).graph.initializer:
            if tensor.data_type in _FLOATS:
                if external_data_helper.uses_external_data(tensor):
                    external_data_helper.load_external_data_for_tensor(tensor, str(model.onnx.parent))
                yield tensor.name, numpy_helper.to_array(tensor)
                tensor.ClearField("raw_data")
    elif model.module is not None:
        for name, tensor in model.module.state_dict().items():
            if tensor.is_floating_point():
                yield name, tensor.detach().float().cpu().numpy()


def _random_nodes(graph: onnx.GraphProto) -> tuple[list[str], list[str]]:
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        values = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and values:
            constants[node.output[0]] = values[0]
    dropouts, others = [], []
    for node in graph.node:
        position = _TRAINING_INPUT.get(node.op_type)
        if position is not None and len(node.input) > position and node.input[position] in constants:
            if bool(numpy_helper.to_array(constants[node.input[position]])):
                dropouts.append(node.name or node.output[0])
        elif node.op_type in _RANDOM:
            others.append(f"{node.op_type} {node.name or node.output[0]}")
    return dropouts, others


def _answers(model: LoadedModel, samples: Samples, inputs: dict[str, Array]) -> dict[str, Array]:
    try:
        return run_all(model.runner, inputs, batch=1, pad_to=0, batched=model.signature.batched)
    except Exception as error:
        where = "the samples" if samples.given else "inputs generated from the signature"
        raise OptimizerError(
            Reason.REFERENCE_INVALID,
            f"the original fails on {where} ({str(error).splitlines()[0]}); give real inputs in spec.model.samples",
        ) from error


def _list(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
