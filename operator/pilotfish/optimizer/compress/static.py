"""INT8 with ranges found beforehand, on recorded inputs."""

from collections.abc import Iterator
from pathlib import Path

from pilotfish.optimizer.compress.graph import goes_beside, is_quantized, join, operators
from pilotfish.optimizer.compress.layers import lone_errors
from pilotfish.optimizer.compress.order import Made, Order, RefusedError
from pilotfish.optimizer.tensors import Array

_MATRICES = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")
_AROUND_CONVOLUTIONS = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Pad",
    "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Kept in 8 bits between convolutions, so that no number is converted back and forth."""


def to_int8_static(order: Order) -> Made:
    """Quantize and dequantize pairs round convolutions and matrices: unsigned activations, signed weights by channel.

    ONNX Runtime's own defaults (signed activations, one scale per tensor) miss its fast kernels on x86. On GPUs
    TensorRT wants both signed and symmetric. Models without convolutions keep everything but their matrices in float:
    between them stand operators that have no 8-bit form, so their answers are not rounded either.

    Raises:
        RefusedError: the samples are generated: ranges of noise are no ranges.
        ValueError: the model has none of these operators, is quantized already, or nothing changed.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    if not order.samples.given:
        raise RefusedError(
            "INT8 static is calibrated on recorded inputs and there are none: set spec.model.samples.uri, or pack the "
            "model with samples"
        )
    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    prepared = order.prepared()
    found = operators(prepared)
    convolutional = any(found[op] for op in CONVOLUTIONS)
    if not convolutional and not any(found[op] for op in _MATRICES):
        raise ValueError("the model has no Conv, MatMul or Gemm to quantize")
    chosen = (*_MATRICES, *CONVOLUTIONS, *_AROUND_CONVOLUTIONS) if convolutional else _MATRICES
    quantize_static(
        str(prepared),
        str(order.target),
        _Reader(order.calibration()),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(chosen),
        per_channel=True,
        reduce_range=order.narrow,
        activation_type=QuantType.QInt8 if order.gpu else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(order.kept),
        use_external_data_format=goes_beside(prepared),
        calibration_cache_path=str(_ranges(prepared)),
        extra_options={
            "ActivationSymmetric": order.gpu,
            "OpTypesToExcludeOutputQuantization": [] if convolutional else list(_MATRICES),
        },
    )
    join(order.target)
    if not operators(order.target)["QuantizeLinear"]:
        raise ValueError("quantization changed no operator: its weights are not constants")
    layers = () if order.kept else lone_errors(prepared, order.target, order.probes(), ops=chosen)
    return Made(layers=layers, notes=_notes(order))


class _Reader:
    """Inputs one call at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, calls: Iterator[dict[str, Array]]) -> None:
        self._calls = calls

    def get_next(self) -> dict[str, Array] | None:
        """The next call's inputs; None after the last."""
        return next(self._calls, None)


def _ranges(prepared: Path) -> Path:
    """Where the ranges of a prepared file are kept: a retreat calibrates no second time."""
    return prepared.with_name("ranges.json")


def _notes(order: Order) -> tuple[str, ...]:
    return ("Weights are in 7 bits: this CPU has no VNNI.",) if order.narrow and not order.gpu else ()
