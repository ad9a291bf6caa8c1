"""Small hand-made Triton model repositories whose right answers are one line of numpy."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10 - 0.5
BIAS = np.array([0.5, -1.0, 2.0], dtype=np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    """What both linear models answer: float32 [n, 4] to float32 [n, 3]."""
    return x @ WEIGHT + BIAS


def make_config(name: str, *, backend: str = "onnxruntime", batch: int = 8, body: str = "", dims: int = 4) -> str:
    """config.pbtxt of a linear model with input `x` and output `y`."""
    batching = "dynamic_batching { max_queue_delay_microseconds: 2000 }" if batch and "dynamic" not in body else ""
    lead = "" if batch else "-1, "
    return f"""
name: "{name}"
backend: "{backend}"
max_batch_size: {batch}
input {{ name: "x" data_type: TYPE_FP32 dims: [ {lead}{dims} ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ {lead}3 ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
{batching}
{body}
"""


def write_model(
    repository: Path, name: str, config: str, model: bytes | None, *, file_name: str = "model.onnx"
) -> Path:
    """Lay one model, version 1, into a repository; `model` None leaves the file out. Returns the repository."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(config)
    if model is not None:
        (folder / file_name).write_bytes(model)
    return repository


def linear_onnx() -> bytes:
    """y = x @ WEIGHT + BIAS as ONNX, batch dimension free."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    return serialize(graph)


def scalars_onnx() -> bytes:
    """total = sum of a float32 vector of any length, scaled by the int64 scalar `times`; no batch dimension."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["values"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["times"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["sum", "factor"], ["total"]),
        ],
        "scalars",
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("times", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [])],
    )
    return serialize(graph)


def serialize(graph: onnx.GraphProto) -> bytes:
    """A checked model file around a graph, in an opset that older runtimes read."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
