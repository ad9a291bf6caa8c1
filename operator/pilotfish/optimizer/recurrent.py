"""What exporters write around recurrent layers and no request needs.

Zeros as the initial state are the operators' default, but exporters compute them from the batch's shape; and the axis
of directions of a one-way layer is merged away by ten operators instead of one. On a small LSTM that is a quarter of
the time. Only exports of our own are touched, never a user's ONNX file.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

RECURRENT = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Places of initial_h (and initial_c) among the inputs, https://onnx.ai/onnx/operators/onnx__LSTM.html."""
_MOVES_ONLY = {
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose answer has no other values than their first input."""


_DIRECTIONS_LAST = [0, 2, 1, 3]
"""Of Y, (sequence, directions, batch, hidden), to (sequence, batch, directions, hidden)."""
_MERGED_AXES = 3
_AXES = "pilotfish_directions_axis"
_AXES_SINCE = 13
"""Opset in which Squeeze takes its axes as an input."""


def simplify_recurrent(model: Any) -> int:
    """Change an `onnx.ModelProto` in place; how many things were simplified. Nodes that nobody needs go, too."""
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset < _AXES_SINCE:
        return 0
    done = _drop_zero_states(model.graph) + _squeeze_directions(model.graph)
    if done:
        _remove_unused(model.graph)
    return done


def _drop_zero_states(graph: Any) -> int:
    is_zero = _zero_finder(graph)
    dropped = 0
    for node in graph.node:
        for place in RECURRENT.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and is_zero(node.input[place]):
                node.input[place] = ""
                dropped += 1
    return dropped


def _squeeze_directions(graph: Any) -> int:
    """Y, moved and reshaped to three axes, is Y without its axis of length one."""
    makers = {name: node for node in graph.node for name in node.output}
    found = [
        (reshape, layer.output[0])
        for reshape in graph.node
        if reshape.op_type == "Reshape" and (layer := _merged_layer(reshape, makers)) is not None
    ]
    if found:
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _AXES))
    for reshape, sequence in found:
        reshape.op_type = "Squeeze"
        del reshape.attribute[:]
        del reshape.input[:]
        reshape.input.extend([sequence, _AXES])
    return len(found)


def _merged_layer(reshape: Any, makers: Mapping[str, Any]) -> Any:
    """The one-way recurrent layer whose Y is merged to three axes here; None for every other Reshape."""
    moved, shape = (makers.get(name) for name in reshape.input)
    if moved is None or moved.op_type != "Transpose" or shape is None:
        return None
    if shape.op_type != "Concat" or len(shape.input) != _MERGED_AXES:
        return None
    perm = next((list(a.ints) for a in moved.attribute if a.name == "perm"), None)
    layer = makers.get(moved.input[0])
    if perm != _DIRECTIONS_LAST or layer is None or layer.op_type not in RECURRENT:
        return None
    both = any(a.name == "direction" and a.s == b"bidirectional" for a in layer.attribute)
    return None if both or layer.output[0] != moved.input[0] else layer


def _zero_finder(graph: Any) -> Callable[[str], bool]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def is_zero(name: str) -> bool:
        if name in constants:
            return not np.any(numpy_helper.to_array(constants[name]))
        node = makers.get(name)
        if node is None:
            return False
        if node.op_type in _MOVES_ONLY:
            return is_zero(node.input[0])
        if node.op_type == "ConstantOfShape":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            return value is None or not np.any(numpy_helper.to_array(value))
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            return value is not None and not np.any(numpy_helper.to_array(value))
        return False

    return is_zero


def _remove_unused(graph: Any) -> None:
    """Nodes and initializers that no output needs. Subgraphs may read names of the graph around them: those stay."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(_read_inside(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    infos = [info for info in graph.value_info if info.name in needed]
    del graph.value_info[:]
    graph.value_info.extend(infos)


def _read_inside(node: Any) -> set[str]:
    graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    names = {name for graph in graphs for inner in graph.node for name in (*inner.input, *_read_inside(inner))}
    return names | {output.name for graph in graphs for output in graph.output}
