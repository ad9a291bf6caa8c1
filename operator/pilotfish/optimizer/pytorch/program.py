"""ExportedPrograms: how a module becomes one with a free batch, and how one becomes a scriptable module again."""

import inspect
from typing import Any

import torch

from pilotfish.api.report import ModelSignature
from pilotfish.optimizer.pytorch.runtime import flatten, to_tensor
from pilotfish.optimizer.tensors import Array


class Positional(torch.nn.Module):  # type: ignore[misc]
    """A module that takes tensors in the signature's order and returns them in the outputs' order."""

    def __init__(self, module: Any, *, inputs: tuple[str, ...], positional: int) -> None:
        super().__init__()
        self.module = module
        self._names, self._positional = inputs, positional

    @property
    def inner(self) -> Any:
        """The module that came in the file."""
        return self.module

    def forward(self, *tensors: Any) -> Any:
        """Pass the first ones by position and the rest by name; one tensor or a tuple comes back."""
        split = self._positional
        named = dict(zip(self._names[split:], tensors[split:], strict=True))
        leaves = tuple(flatten(self.module(*tensors[:split], **named)).values())
        return leaves if len(leaves) > 1 else leaves[0]


def export_program(module: Any, signature: ModelSignature, example: dict[str, Array]) -> Any:
    """torch.export with a free batch (and free sizes where the signature has them).

    `example` must hold at least two samples: an example batch of one is specialised to a constant.
    Raises whatever torch.export raises when the model cannot be captured.
    """
    tensors = tuple(to_tensor(example[t.name]) for t in signature.inputs)
    dims = tuple(_free_dims(t.shape, batched=signature.batched) for t in signature.inputs)
    spec = (dims,) if _takes_any_number(module) else dims
    with torch.no_grad():
        return torch.export.export(module, tensors, dynamic_shapes=spec, strict=False)


def scriptable(program: Any) -> Any:
    """A plain module with the program's graph, made of operators that TorchScript knows.

    Sizes stay computed (a traced program would bake the example's batch into them) and tensors are made on the default
    device.
    """
    module = program.module()
    graph = module.graph
    state = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    for node in list(graph.nodes):
        if node.op == "get_attr" and node.target not in state:
            state[node.target] = _attribute(module, node.target)
        elif _is_guard(node):
            graph.erase_node(node)
        elif node.op == "call_function" and hasattr(node.target, "overloadpacket"):
            _to_packet(node)
        elif node.op == "output":
            leaves = _leaves(node.args[0])
            node.args = (leaves if len(leaves) > 1 else leaves[0],)
    graph.set_codegen(torch.fx.graph.CodeGen())
    graph.eliminate_dead_code()
    return torch.fx.GraphModule(state, graph).eval()


def _takes_any_number(module: Any) -> bool:
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _free_dims(shape: tuple[int, ...], *, batched: bool) -> dict[int, Any]:
    free = {axis + int(batched): torch.export.Dim.AUTO for axis, size in enumerate(shape) if size == -1}
    return ({0: torch.export.Dim.AUTO} if batched else {}) | free


def _attribute(module: Any, path: str) -> Any:
    value = module
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _is_guard(node: Any) -> bool:
    if node.op == "call_module" and "_guards" in str(node.target):
        return True
    return node.op == "call_function" and "_assert" in getattr(node.target, "__name__", str(node.target))


def _to_packet(node: Any) -> None:
    """Replace an overload by its name: TorchScript picks the overload itself."""
    if node.target is torch.ops.aten.sym_size.int:
        node.op, node.target = "call_method", "size"
        return
    node.target = node.target.overloadpacket
    node.kwargs = {key: value for key, value in node.kwargs.items() if key not in {"device", "pin_memory"}}


def _leaves(value: Any) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return tuple(leaf for item in value.values() for leaf in _leaves(item))
    if isinstance(value, (list, tuple)):
        return tuple(leaf for item in value for leaf in _leaves(item))
    return () if value is None else (value,)
