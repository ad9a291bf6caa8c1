"""Recipes for OpenVINO: single precision, bfloat16, and INT8 by NNCF. All are ONNX files, which OpenVINO reads.

The precision of the arithmetic is a parameter of the backend. NVIDIA's backend can only ask for bfloat16: where nothing
is asked, OpenVINO takes bfloat16 by itself on every CPU that has it. So what is served there in another precision than
bfloat16 must be served by a backend that is known to obey.
"""

import contextlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from pilotfish.api.job_input import JobServing
from pilotfish.api.openvino_config import BFLOAT16, EXACT, serving_problem
from pilotfish.api.optimization import OptimizationSpec, Precision
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.optimizer import openvino_quiet
from pilotfish.optimizer.compress.graph import is_quantized, operators, save_onnx
from pilotfish.optimizer.compress.order import Made, Order, Recipe, RefusedError
from pilotfish.optimizer.environment import has_bfloat16
from pilotfish.optimizer.tensors import Array, sample_count

_DISOBEYED = (
    "Triton's OpenVINO backend would compute it in bfloat16 on this CPU, unasked; allow BF16, or say that your Triton "
    "image obeys INFERENCE_PRECISION_HINT (value tritonObeysPrecisionHint)"
)


def openvino_recipes(
    spec: OptimizationSpec, serving: JobServing, signature: ModelSignature
) -> list[tuple[str, Precision, Recipe]]:
    """What OpenVINO may be tried with: nothing where GPUs serve."""
    if serving.gpus > 0:
        return []
    disobeyed = has_bfloat16() and not serving.obeys_precision_hint
    recipes: list[tuple[str, Precision, Recipe]] = [
        ("openvino-fp32", Precision.FP32, _refusal(_DISOBEYED) if disobeyed else to_openvino_fp32),
        ("openvino-bf16", Precision.BF16, to_openvino_bf16),
        ("openvino-int8", Precision.INT8, partial(to_openvino_int8, obeyed=bool(serving.obeys_precision_hint))),
        ("openvino-int8-weights", Precision.INT8, to_openvino_int8_weights),
    ]
    wanted = [recipe for recipe in recipes if recipe[1] in spec.precisions]
    if problem := serving_problem(signature):
        return [(variant, precision, _refusal(problem)) for variant, precision, _ in wanted]
    return wanted


def to_openvino_fp32(order: Order) -> Made:
    """The same file, the precision said."""
    _copy(order)
    return Made(served_by=Backend.OPENVINO, parameters=EXACT)


def to_openvino_bf16(order: Order) -> Made:
    """The same file, its arithmetic in bfloat16.

    Raises:
        RefusedError: this CPU would compute it in single precision all the same.
    """
    if not has_bfloat16():
        raise RefusedError("this CPU has neither AVX512_BF16 nor AMX; run the Job on nodes that have it, or drop BF16")
    _copy(order)
    return Made(served_by=Backend.OPENVINO, parameters=BFLOAT16)


def to_openvino_int8(order: Order, *, obeyed: bool = False) -> Made:
    """Weights and activations in 8 bits, ranges found on recorded inputs.

    An encoder's products are all in 8 bits then; between them stand softmax and norms, which bfloat16 makes 3 % slower
    than single precision (BERT base at batch 1: numbers are converted). Where the server obeys (`obeyed`) the
    precision that it is told, they stay exact.

    Raises:
        RefusedError: the samples are generated: ranges of noise are no ranges.
        ValueError: the model is quantized already, or nothing in it can be.
    """
    if not order.samples.given:
        raise RefusedError(
            "INT8 is calibrated on recorded inputs and there are none: set spec.model.samples.uri, or pack the model "
            "with samples"
        )
    attention = _has_attention(order.source)

    def quantize(nncf: Any, model: Any) -> Any:
        calls = list(_singles(order))
        kind = nncf.ModelType.TRANSFORMER if attention else None
        return nncf.quantize(model, nncf.Dataset(calls), subset_size=len(calls), model_type=kind)

    made = _by_nncf(order, quantize)
    return replace(made, parameters=EXACT) if attention and obeyed else made


def to_openvino_int8_weights(order: Order) -> Made:
    """Weights alone in 8 bits; OpenVINO finds the ranges of activations in each call.

    Convolutions stay as they are: OpenVINO cannot read the scales that NNCF writes for them into an ONNX file.

    Raises:
        ValueError: the model is quantized already, or nothing in it can be.
    """

    def compress(nncf: Any, model: Any) -> Any:
        kept = nncf.IgnoredScope(types=["Conv", "ConvTranspose"], validate=False)
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=kept)

    return _by_nncf(order, compress)


def _by_nncf(order: Order, change: Callable[[Any, Any], Any]) -> Made:
    """What stays in float is computed in bfloat16 where the CPU has it: every backend then does what was measured."""
    if is_quantized(order.source):
        raise ValueError("the model is quantized already")
    openvino_quiet.silence()
    with _quiet():
        import nncf

        save_onnx(change(nncf, onnx.load(str(order.source))), order.target)
    if not operators(order.target)["DequantizeLinear"]:
        raise ValueError("the model has no operator that NNCF quantizes")
    return Made(served_by=Backend.OPENVINO, parameters=BFLOAT16 if has_bfloat16() else EXACT)


def _refusal(problem: str) -> Recipe:
    def refuse(_order: Order) -> Made:
        raise RefusedError(problem)

    return refuse


def _copy(order: Order) -> None:
    """The file, and its tensors beside it under the name that the file gives them."""
    shutil.copyfile(order.source, order.target)
    tensors = order.source.with_name(f"{order.source.name}.data")
    if tensors.is_file():
        shutil.copyfile(tensors, order.target.with_name(tensors.name))


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
