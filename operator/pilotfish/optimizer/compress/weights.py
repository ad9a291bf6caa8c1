"""Weights alone in 8 bits: for size, where matrices are most of the model."""

from pathlib import Path

import onnx
from onnx import numpy_helper

from pilotfish.optimizer.compress.graph import is_quantized, operators, save_onnx
from pilotfish.optimizer.compress.layers import matched_errors
from pilotfish.optimizer.compress.order import Made, Order

_BLOCK = 32
_MOST_OF_IT = 0.5


def to_int8_weights(order: Order) -> Made:
    """Constant matrices of MatMul and Gemm as blocks of 8-bit numbers, arithmetic as it was.

    Raises:
        ValueError: matrices are less than half of the model, or nothing changed (the quantizer itself reports success).
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    prepared = order.prepared()
    share = matrix_share(prepared)
    if share < _MOST_OF_IT:
        raise ValueError(
            f"constant matrices of MatMul and Gemm are {share:.0%} of the weights: 8-bit weights pay from "
            f"{_MOST_OF_IT:.0%}"
        )
    model = ONNXModel(onnx.load(str(prepared)))
    model.replace_gemm_with_matmul()
    quantizer = MatMulNBitsQuantizer(
        model.model, bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=list(order.kept)
    )
    quantizer.process()
    save_onnx(quantizer.model.model, order.target)
    if not operators(order.target)["MatMulNBits"]:
        raise ValueError("quantization changed no operator: no MatMul has a constant matrix")
    return Made(layers=matched_errors(prepared, order.target, order.probes(), ops=("MatMul", "Gemm")))


def matrix_share(path: Path) -> float:
    """Bytes of constant matrices of MatMul and Gemm over the bytes of all constants."""
    graph = onnx.load(str(path)).graph
    sizes = {t.name: numpy_helper.to_array(t).nbytes for t in graph.initializer}
    matrices = {n.input[1] for n in graph.node if n.op_type in {"MatMul", "Gemm"} and n.input[1] in sizes}
    total = sum(sizes.values())
    return sum(sizes[name] for name in matrices) / total if total else 0.0
