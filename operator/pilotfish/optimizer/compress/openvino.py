"""Recipes for OpenVINO: single precision, bfloat16, and INT8 by NNCF's post-training quantization.

All are written as model.xml and model.bin: ONNX has no place for the marks that keep the precision, see openvino_files.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from pilotfish.api.job_input import JobServing
from pilotfish.api.openvino_config import BFLOAT16, EXACT, MODEL_FILE, serving_problem
from pilotfish.api.optimization import OptimizationSpec, Precision
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.optimizer.compress.graph import is_quantized, operators
from pilotfish.optimizer.compress.order import Made, Order, Recipe, RefusedError
from pilotfish.optimizer.environment import has_bfloat16
from pilotfish.optimizer.tensors import Array, sample_count
from pilotfish.optimizer.verify import measure_error

_QUANTIZED = "FakeQuantize"
_SAME = 1e-4


def openvino_recipes(
    spec: OptimizationSpec, serving: JobServing, signature: ModelSignature
) -> list[tuple[str, Precision, Recipe]]:
    """What OpenVINO may be tried with: nothing where GPUs serve."""
    if serving.gpus > 0:
        return []
    recipes: list[tuple[str, Precision, Recipe]] = [
        ("openvino-fp32", Precision.FP32, to_openvino_fp32),
        ("openvino-bf16", Precision.BF16, to_openvino_bf16),
        ("openvino-int8", Precision.INT8, to_openvino_int8),
    ]
    wanted = [recipe for recipe in recipes if recipe[1] in spec.precisions]
    if problem := serving_problem(signature):
        return [(variant, precision, _refusal(problem)) for variant, precision, _ in wanted]
    return wanted


def to_openvino_fp32(order: Order) -> Made:
    """The same arithmetic, every operation marked to stay exact.

    Raises:
        RuntimeError: OpenVINO cannot read the model.
        ValueError: the marks do not hold.
    """
    from pilotfish.optimizer.openvino_files import mark_exact, read_onnx, save_ir

    model = read_onnx(order.source)
    mark_exact(model)
    file = save_ir(model, order.target.with_name(MODEL_FILE))
    if has_bfloat16():
        _check_marks(file, order)
    return Made(served_by=Backend.OPENVINO, parameters=EXACT)


def to_openvino_bf16(order: Order) -> Made:
    """Single precision in the file, bfloat16 in the arithmetic.

    Raises:
        RefusedError: this CPU would compute it in single precision all the same.
        RuntimeError: OpenVINO cannot read the model.
    """
    from pilotfish.optimizer.openvino_files import read_onnx, save_ir

    if not has_bfloat16():
        raise RefusedError("this CPU has neither AVX512_BF16 nor AMX; run the Job on nodes that have it, or drop BF16")
    save_ir(read_onnx(order.source), order.target.with_name(MODEL_FILE))
    return Made(served_by=Backend.OPENVINO, parameters=BFLOAT16)


def to_openvino_int8(order: Order) -> Made:
    """Weights and activations in 8 bits where NNCF finds kernels for them, the rest marked to stay exact.

    Raises:
        RefusedError: the samples are generated: ranges of noise are no ranges.
        RuntimeError: OpenVINO cannot read the model.
        ValueError: the model is quantized already, or nothing in it can be.
    """
    from pilotfish.optimizer.openvino_files import mark_exact, read_onnx, save_ir

    if not order.samples.given:
        raise RefusedError(
            "INT8 is calibrated on recorded inputs and there are none: set spec.model.samples.uri, or pack the model "
            "with samples"
        )
    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    calls = list(_singles(order))
    with _quiet():
        import nncf

        model = nncf.quantize(
            read_onnx(order.source),
            nncf.Dataset(calls),
            subset_size=len(calls),
            model_type=nncf.ModelType.TRANSFORMER if _has_attention(order.source) else None,
        )
    if not any(operation.get_type_name() == _QUANTIZED for operation in model.get_ops()):
        raise ValueError("the model has no operator that NNCF quantizes for OpenVINO")
    mark_exact(model)
    save_ir(model, order.target.with_name(MODEL_FILE))
    return Made(served_by=Backend.OPENVINO, parameters=EXACT)


def _refusal(problem: str) -> Recipe:
    def refuse(_order: Order) -> Made:
        raise RefusedError(problem)

    return refuse


def _check_marks(file: Path, order: Order) -> None:
    """The file alone must keep the precision: NVIDIA's backend says nothing about it to OpenVINO."""
    from pilotfish.optimizer.openvino_runtime import OpenVinoRunner

    call = next(order.probes())
    free = OpenVinoRunner(file, threads=1, precision=None).run(call)
    exact = OpenVinoRunner(file, threads=1, precision="f32").run(call)
    if (error := measure_error(free, exact, []).max_rel) > _SAME:
        raise ValueError(f"OpenVINO lowers the precision of {file.name} by itself: its answers differ by {error:.2g}")


def _singles(order: Order) -> Iterator[dict[str, Array]]:
    """One sample in each call: NNCF's statistics are of single samples."""
    for call in order.calibration():
        if not order.batched:
            yield call
            continue
        for index in range(sample_count(call)):
            yield {name: array[index : index + 1] for name, array in call.items()}


def _has_attention(source: Path) -> bool:
    found = operators(source)
    return bool(found["Attention"] or (found["Softmax"] and found["MatMul"]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF prints its progress and its plans: neither is for our users."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
