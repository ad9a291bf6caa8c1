"""ONNX files made node by node: no exporter, no torch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18


def save_mlp(path: Path, *, batch: str | int = "batch", scale: float = 1.0, seed: int = 0) -> Path:
    """[batch, 16] to [batch, 4] by two matrices."""
    rng = np.random.default_rng(seed)
    first = (rng.standard_normal((16, 32)) * scale / 4).astype(np.float32)
    second = (rng.standard_normal((32, 4)) * scale / 4).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "second"], ["y"]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    return save(path, nodes, {"x": [batch, 16]}, {"y": [batch, 4]}, weights)


def save(path: Path, nodes: list, inputs: dict, outputs: dict, weights: list = (), *, dtype: int = 1) -> Path:
    """A checked model with the given graph."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.save(model, str(path))
    return path


def mlp_answers(path: Path, x: np.ndarray) -> np.ndarray:
    """The same network in numpy."""
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    return np.maximum(x @ weights["first"], 0) @ weights["second"]
