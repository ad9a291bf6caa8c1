"""Half precision."""

from typing import Any

import onnx

from pilotfish.optimizer.compress.graph import save_onnx
from pilotfish.optimizer.compress.order import Made, Order


def to_fp16(order: Order) -> Made:
    """Weights and arithmetic in half precision, inputs and outputs as they were.

    Raises:
        ValueError: the model has no float weights, so nothing would change.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(str(order.source), keep_io_types=True)
    if not _halves(model):
        raise ValueError("the conversion changed no weight: the model has none in single precision")
    save_onnx(model, order.target)
    return Made()


def _halves(model: Any) -> bool:
    half = onnx.TensorProto.FLOAT16
    constants = (a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value")
    return any(t.data_type == half for t in (*model.graph.initializer, *constants))
