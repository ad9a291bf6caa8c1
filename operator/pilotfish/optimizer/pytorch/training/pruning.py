"""Take weights out: whole channels, so that what is left is a smaller dense model; or single weights, as zeros.

Channels are removed in steps that leave multiples of 16 where the layers are wide enough: a runtime is slower with 44
channels than with 48.
"""

import warnings
from typing import Any

import torch
from torch.nn.utils import prune as masks

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import one_line
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.pytorch.runtime import flatten
from pilotfish.optimizer.pytorch.training.trainee import Trainee
from pilotfish.optimizer.tensors import Arrays

_ROUND_TO = (16, 8, 4, 2, 1)
_NARROW_SHARE = 0.1
_LAYERS = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)  # noqa: SLF001 - the base class has no other name
_RECURRENT = (torch.nn.RNNBase, torch.nn.RNNCellBase, torch.nn.MultiheadAttention)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_INSTEAD = "distill it into a smaller architecture instead, or remove prune"


def prune_channels(trainee: Trainee, inputs: Arrays, *, ratio: float) -> str:
    """Remove channels in place and say how much went; equal weights lose equal channels. Outputs keep their shapes.

    Raises:
        OptimizerError: TrainingFailed when the model cannot be taken apart, or nothing can go.
    """
    import torch_pruning

    trainee.evaluating()
    examples = trainee.examples(inputs)
    before, shapes = trainee.parameters(), _shapes(trainee, examples)
    whole = [*_output_layers(trainee, examples), *_bound_layers(trainee.author)]
    free = [m for m in trainee.author.modules() if isinstance(m, _LAYERS) and not any(m is w for w in whole)]
    round_to, narrow = choose_rounding([(_width(m), m.weight.numel()) for m in free], ratio=ratio)
    whole += [m for m in free if _width(m) in narrow]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_pruning.pruner.BasePruner(
                trainee.module,
                examples,
                importance=torch_pruning.importance.MagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=whole,
                round_to=round_to,
            ).step()
        after, found = trainee.parameters(), _shapes(trainee, examples)
    except Exception as error:
        reason = one_line(str(error) or type(error).__name__, limit=200)
        raise _failed(f"channels cannot be removed from this model ({reason}); {_INSTEAD}") from error
    if found != shapes:
        raise _failed(f"without these channels the model's outputs have other shapes; {_INSTEAD}")
    if after >= before:
        raise _failed(f"no channel can be removed at ratio {ratio:g}: the layers are too narrow or bound; {_INSTEAD}")
    left = f", layers of {', '.join(map(str, sorted(narrow)))} channels left whole" if narrow else ""
    return f"Pruned from {before:,} to {after:,} parameters, channels in multiples of {round_to}{left}."


def mask_weights(trainee: Trainee, *, ratio: float) -> None:
    """Hold the smallest weights of all layers at zero while the model is trained on."""
    layers = [(m, "weight") for m in trainee.author.modules() if isinstance(m, _LAYERS)]
    if not layers:
        raise _failed("the model has no convolution and no linear layer whose weights could become zero; remove prune")
    masks.global_unstructured(layers, pruning_method=masks.L1Unstructured, amount=ratio)


def make_permanent(trainee: Trainee) -> str:
    """The zeros as plain weights, as many parameters as before; says what that is worth."""
    for module in trainee.author.modules():
        if isinstance(module, _LAYERS) and masks.is_pruned(module):
            masks.remove(module, "weight")
    layers = [m for m in trainee.author.modules() if isinstance(m, _LAYERS)]
    zeros = sum(int((m.weight == 0).sum()) for m in layers)
    share = zeros / sum(m.weight.numel() for m in layers)
    return (
        f"Unstructured pruning: {share:.0%} of the weights are zero, none is gone. The model is neither smaller nor "
        "faster by it; method Structured removes channels."
    )


def choose_rounding(widths: list[tuple[int, int]], *, ratio: float) -> tuple[int, frozenset[int]]:
    """What channel counts become multiples of, and the widths that are left whole: they would keep too few channels.

    `widths` has each layer's channels and parameters. Narrow layers that hold a tenth of the parameters or more are
    worth a smaller step.
    """
    total = sum(weights for _, weights in widths) or 1
    for step in _ROUND_TO:
        narrow = [(width, weights) for width, weights in widths if width * (1 - ratio) < step]
        if sum(weights for _, weights in narrow) < _NARROW_SHARE * total:
            return step, frozenset(width for width, _ in narrow)
    return 1, frozenset()


def _output_layers(trainee: Trainee, examples: tuple[Any, ...]) -> list[Any]:
    """Layers whose channels are the model's answer: the first ones met on the way back from the outputs."""
    made: dict[Any, Any] = {}

    def remember(module: Any, _inputs: Any, result: Any) -> None:
        if isinstance(result, torch.Tensor) and result.grad_fn is not None:
            made[result.grad_fn] = module

    hooks = [m.register_forward_hook(remember) for m in trainee.author.modules() if isinstance(m, _LAYERS)]
    try:
        with torch.enable_grad():
            answers = flatten(trainee.module(*examples)).values()
            waiting = [a.grad_fn for a in answers if a.grad_fn is not None]
    finally:
        for hook in hooks:
            hook.remove()
    found, seen = [], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in made:
            found.append(made[node])
        else:
            waiting.extend(following for following, _ in node.next_functions)
    return found


def _bound_layers(module: Any) -> list[Any]:
    """Recurrent layers, and the projections of attention: their channels are cut into heads of a fixed size."""
    bound = [m for m in module.modules() if isinstance(m, _RECURRENT)]
    for parent in module.modules():
        if any(isinstance(getattr(parent, name, None), int) for name in _HEADS):
            bound += [m for m in parent.modules() if isinstance(m, _LAYERS)]
    return bound


def _width(module: Any) -> int:
    return int(getattr(module, "out_channels", 0) or module.out_features)


def _shapes(trainee: Trainee, examples: tuple[Any, ...]) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(value.shape) for value in flatten(trainee.module(*examples)).values()]


def _failed(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.TRAINING_FAILED, sentence)
