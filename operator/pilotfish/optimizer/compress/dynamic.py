"""INT8 with ranges found while it runs."""

from onnx import TensorProto

from pilotfish.optimizer.compress.graph import goes_beside, is_quantized, join, operators
from pilotfish.optimizer.compress.layers import matched_errors
from pilotfish.optimizer.compress.order import Made, Order

OPERATORS = ("MatMul", "Gemm", "LSTM")


def to_int8_dynamic(order: Order) -> Made:
    """Weights of MatMul, Gemm and LSTM in 8 bits, activations quantized as they come.

    Convolutions stay as they are: ONNX Runtime's integer convolution is several times slower than its float one. The
    range is that of a whole batch, so answers depend on the batch: batch parity decides.

    Raises:
        ValueError: the model has none of these operators, or nothing changed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    if not any(operators(order.source)[op] for op in OPERATORS):
        raise ValueError("the model has no MatMul, Gemm or LSTM to quantize")
    prepared = order.prepared()
    before = operators(prepared)
    quantize_dynamic(
        str(prepared),
        str(order.target),
        op_types_to_quantize=list(OPERATORS),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=order.narrow,
        nodes_to_exclude=list(order.kept),
        use_external_data_format=goes_beside(prepared),
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    join(order.target)
    after = operators(order.target)
    if all(after[op] >= before[op] for op in OPERATORS if before[op]):
        raise ValueError("quantization changed no operator: its weights are not constants")
    return Made(layers=matched_errors(prepared, order.target, order.probes(), ops=OPERATORS))
