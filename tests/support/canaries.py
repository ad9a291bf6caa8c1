"""Small ONNX classifiers that behave well on their samples and otherwise on brighter pictures: canaries for rollouts.

Requests with bright pictures are what a golden set did not hold: there one model fails and another one is slow. All take
`image` [n, 1, 8, 8] FP32 and answer `logits` [n, 10]; `scale` tells their answers apart.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BRIGHT = 20.0
"""Sum over a picture above which a model misbehaves; samples stay below, `bright_images` are above."""
_LOOPS = 1_000_000
"""A third of a second of CPU time and more: far above every bound on any machine."""
_FLOAT = TensorProto.FLOAT

Floats = NDArray[np.float32]


def bright_images(count: int = 2) -> Floats:
    """Pictures as clients send them, [count, 1, 8, 8]."""
    return np.random.default_rng(7).uniform(0.5, 1.0, (count, 1, 8, 8)).astype(np.float32)


def dim_images(count: int = 32) -> Floats:
    """Pictures as samples hold them, [count, 1, 8, 8]."""
    return np.random.default_rng(8).uniform(0.0, 0.2, (count, 1, 8, 8)).astype(np.float32)


def answers(images: Floats, *, scale: float) -> dict[str, Floats]:
    """What the model of that scale answers, or should."""
    return {"logits": (images.reshape(len(images), -1) @ _weights(scale)).astype(np.float32)}


def write_samples(path: Path) -> Path:
    """The golden set's inputs as npz."""
    np.savez(path, image=dim_images())
    return path


def write_model(path: Path, *, scale: float, fails: bool = False, slow: bool = False) -> Path:
    """One model; `fails` and `slow` on bright pictures only."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    last = "scores"
    if fails or slow:
        nodes += [
            helper.make_node("ReduceSum", ["flat", "axis"], ["sums"], keepdims=0),
            helper.make_node("ReduceMax", ["sums"], ["brightest"], keepdims=0),
            helper.make_node("Greater", ["brightest", "limit"], ["is_bright"]),
            helper.make_node("Cast", ["is_bright"], ["trouble"], to=TensorProto.INT64),
        ]
    if fails:
        nodes += [
            # There is one element: index 1 is out of range.
            helper.make_node("Gather", ["nothing", "trouble"], ["zero"]),
            helper.make_node("Add", [last, "zero"], ["checked"]),
        ]
        last = "checked"
    if slow:
        nodes += [
            helper.make_node("Mul", ["trouble", "loops"], ["trips"]),
            helper.make_node("Loop", ["trips", "", last], ["waited"], body=_idle()),
        ]
        last = "waited"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "canary",
        [helper.make_tensor_value_info("image", _FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", _FLOAT, ["n", 10])],
        [
            numpy_helper.from_array(_weights(scale), "weights"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(np.array(BRIGHT, np.float32), "limit"),
            numpy_helper.from_array(np.array([0.0], np.float32), "nothing"),
            numpy_helper.from_array(np.array(_LOOPS, np.int64), "loops"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _weights(scale: float) -> Floats:
    return (scale * np.random.default_rng(9).standard_normal((64, 10)) / 8).astype(np.float32)


def _idle() -> onnx.GraphProto:
    """A loop's body that hands its value on."""
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Identity", ["value"], ["same"]),
        ],
        "idle",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", _FLOAT, ["n", 10]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", _FLOAT, ["n", 10]),
        ],
    )
