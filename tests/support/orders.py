"""Recipes on ONNX files alone: no workers, no benchmark, no torch."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from pilotfish.optimizer.compress.graph import prepare
from pilotfish.optimizer.compress.order import Order
from pilotfish.optimizer.model import Samples
from support.onnx_models import save


def make_order(source: Path, inputs: dict[str, np.ndarray], *, given: bool = True, **more: object) -> Order:
    """An order for `quantized/model.onnx` beside the source; further arguments replace the order's own."""
    prepared, target = source.parent / "prepared" / "model.onnx", source.parent / "quantized" / "model.onnx"
    for folder in (prepared.parent, target.parent):
        folder.mkdir(exist_ok=True)

    def once() -> Path:
        if not prepared.exists():
            prepare(source, prepared)
        return prepared

    samples = Samples(inputs=inputs, labels=None, given=given, seed=1)
    told = {
        "source": source, "target": target, "prepared": once, "samples": samples, "batched": True, "max_batch": 8,
        "gpu": False, "narrow": False,
    }  # fmt: skip
    return Order(**{**told, **more})


def answers(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the first output of a file is for all samples in one batch."""
    return onnxruntime.InferenceSession(str(path)).run(None, inputs)[0]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Norm of the difference over that of the other."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def save_convolutions(path: Path, *, channels: Sequence[int] = (3, 16, 16), seed: int = 0) -> Path:
    """[batch, 3, 8, 8] to [batch, 4]: convolutions with ReLU between, a pool and a matrix."""
    rng = np.random.default_rng(seed)
    nodes, weights, name = [], [], "x"
    for index, (wide, out) in enumerate(itertools.pairwise(channels)):
        weights.append(_weight(rng, f"w{index}", out, wide, 3, 3))
        nodes.append(helper.make_node("Conv", [name, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
        name = f"r{index}"
    weights.append(_weight(rng, "head", 4, channels[-1]))
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "head"], ["y"], "fc", transB=1))
    return save(path, nodes, {"x": ["batch", channels[0], 8, 8]}, {"y": ["batch", 4]}, weights)


def constants(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file by name."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def _weight(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    fan_in = int(np.prod(shape[1:]))
    return numpy_helper.from_array((rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32), name)
