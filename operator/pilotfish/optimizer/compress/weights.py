"""Weights alone in 8 bits: for size, where matrices are much of the model."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pilotfish.optimizer.compress.graph import is_quantized, operators, save_onnx
from pilotfish.optimizer.compress.layers import matched_errors
from pilotfish.optimizer.compress.order import Made, Order

_BLOCK = 32
_ZERO = 128
_LEAST_SHARE = 0.25
_INT8_ARITHMETIC = 4
_DOMAIN = "com.microsoft"


def to_int8_weights(order: Order) -> Made:
    """Constant matrices of MatMul and Gemm as MatMulNBits: blocks of 32 numbers in 8 bits with a scale each.

    ONNX Runtime's own quantizer for it needs libraries that the light image has not, and reports success where it
    changed nothing.

    Raises:
        ValueError: matrices are less than a quarter of the model, or nothing changed.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    prepared = order.prepared()
    share = matrix_share(prepared)
    if share < _LEAST_SHARE:
        raise ValueError(
            f"constant matrices of MatMul and Gemm are {share:.0%} of the weights: 8-bit weights pay from "
            f"{_LEAST_SHARE:.0%}"
        )
    model = ONNXModel(onnx.load(str(prepared)))
    model.replace_gemm_with_matmul()
    _replace_matrices(model.model, kept=order.kept)
    save_onnx(model.model, order.target)
    if not operators(order.target)["MatMulNBits"]:
        raise ValueError("quantization changed no operator: no MatMul has a constant matrix")
    return Made(layers=matched_errors(prepared, order.target, order.probes(), ops=("MatMul", "Gemm")))


def matrix_share(path: Path) -> float:
    """Bytes of constant matrices of MatMul and Gemm over the bytes of all constants."""
    graph = onnx.load(str(path), load_external_data=False).graph
    sizes = {
        t.name: math.prod(t.dims) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in graph.initializer
    }
    matrices = {n.input[1] for n in graph.node if n.op_type in {"MatMul", "Gemm"} and n.input[1] in sizes}
    total = sum(sizes.values())
    return sum(sizes[name] for name in matrices) / total if total else 0.0


def _width(data_type: int) -> int:
    """Bytes of one number."""
    return int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def pack(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A [K, N] matrix as MatMulNBits reads it: numbers [N, blocks, 32] round 128, and scales [N * blocks]."""
    rows, columns = matrix.shape
    blocks = -(-rows // _BLOCK)
    padded = np.zeros((columns, blocks * _BLOCK), np.float32)
    padded[:, :rows] = matrix.T
    cut = padded.reshape(columns, blocks, _BLOCK)
    scales = np.abs(cut).max(axis=2) / (_ZERO - 1)
    safe = np.where(scales > 0, scales, 1)[..., None]
    return (np.rint(cut / safe) + _ZERO).astype(np.uint8), scales.astype(np.float32).reshape(-1)


def _replace_matrices(model: Any, *, kept: tuple[str, ...]) -> None:
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        tensor = constants.get(node.input[1]) if node.op_type == "MatMul" and node.name not in kept else None
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:  # noqa: PLR2004
            continue
        numbers, scales = pack(numpy_helper.to_array(tensor))
        names = [f"{tensor.name}_{node.name}_q8", f"{tensor.name}_{node.name}_scales"]
        graph.initializer.extend(numpy_helper.from_array(a, n) for a, n in zip((numbers, scales), names, strict=True))
        rows, columns = tensor.dims
        fresh = helper.make_node(
            "MatMulNBits", [node.input[0], *names], list(node.output), node.name, domain=_DOMAIN,
            K=rows, N=columns, bits=8, block_size=_BLOCK, accuracy_level=_INT8_ARITHMETIC,
        )  # fmt: skip
        node.CopyFrom(fresh)
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    left = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    if _DOMAIN not in {o.domain for o in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
