"""Where a torch module draws random numbers, read from its graph."""

from collections.abc import Iterator
from typing import Any

import torch

_DROPOUTS = ("dropout", "native_dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
_RANDOM = (
    "bernoulli", "multinomial", "normal", "normal_functional", "poisson", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "randperm", "rrelu", "uniform",
)  # fmt: skip


def random_calls(module: Any) -> tuple[list[str], list[str]]:
    """Names of dropouts that are left on, and of other calls that draw random numbers.

    Plain modules have no graph: of them only the layers are known.
    """
    calls = list(_script_calls(module) if isinstance(module, torch.jit.ScriptModule) else _graph_calls(module))
    dropouts = [name for kind, name in calls if kind in _DROPOUTS]
    return dropouts, [f"{kind} {name}" for kind, name in calls if kind in _RANDOM]


def _graph_calls(module: Any) -> Iterator[tuple[str, str]]:
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.training:  # noqa: SLF001 - their only base
            yield "dropout", type(part).__name__
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            packet = getattr(node.target, "overloadpacket", None)
            kind = str(getattr(packet, "__name__", "")).rstrip("_")
            if kind in _DROPOUTS and True not in [a for a in node.args[1:] if isinstance(a, bool)]:
                continue
            if kind:
                yield kind, node.name


def _script_calls(module: Any) -> Iterator[tuple[str, str]]:
    for node in module.inlined_graph.nodes():
        kind = node.kind().removeprefix("aten::").rstrip("_")
        if kind in _DROPOUTS and node.inputsAt(2).toIValue() is not True:
            continue
        yield kind, next(iter(node.outputs())).debugName() if node.outputsSize() else kind
