"""Build what may win: each candidate in a folder of its own, each failure with its reason."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from pilotfish.api.job_input import JobServing
from pilotfish.api.optimization import ArtifactFormat, Objective, OptimizationSpec, Precision
from pilotfish.api.report import one_line
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import Candidate, FailedCandidate, LoadedModel, Samples

ONE_FILE_LIMIT = 1_800_000_000
_QUANTIZED_OPS = ["MatMul", "Gemm", "LSTM"]
Built = Candidate | FailedCandidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What building candidates needs."""

    model: LoadedModel
    samples: Samples
    spec: OptimizationSpec
    serving: JobServing
    folder: Path
    max_batch: int


def build_candidates(shop: Workshop, *, say: Callable[[str], None]) -> list[Built]:
    """All candidates that the spec allows, FP32 ones first: they are the fallback even where FP32 was not asked for."""
    built: list[Built] = []
    if ArtifactFormat.ONNX in shop.spec.formats or shop.model.onnx is not None:
        say("onnx-fp32")
        base = _attempt("onnx-fp32", ArtifactFormat.ONNX, Precision.FP32, lambda: _onnx_base(shop))
        built.append(base)
        for variant, precision, make in _onnx_recipes(shop):
            say(variant)
            built.append(_derive(shop, base, variant, precision, make))
    if ArtifactFormat.TORCH_SCRIPT in shop.spec.formats and shop.model.module is not None:
        say("torchscript-fp32")
        built.append(
            _attempt("torchscript-fp32", ArtifactFormat.TORCH_SCRIPT, Precision.FP32, lambda: _torchscript(shop))
        )
    return built


def _attempt(variant: str, fmt: ArtifactFormat, precision: Precision, make: Callable[[], Candidate]) -> Built:
    try:
        return make()
    except OptimizerError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 - exporters fail in every way; the reason goes into the report
        reason = f"{type(error).__name__}: {error}"
    return FailedCandidate(variant=variant, format=fmt, precision=precision, reason=one_line(reason, limit=300))


def _onnx_base(shop: Workshop) -> Candidate:
    folder = _fresh(shop.folder / "onnx-fp32")
    if shop.model.onnx is None:
        from pilotfish.optimizer.pytorch.export_onnx import export_onnx

        notes = export_onnx(shop.model, shop.samples, folder / "model.onnx", max_batch=shop.max_batch)
        return Candidate(
            variant="onnx-fp32", format=ArtifactFormat.ONNX, precision=Precision.FP32, folder=folder, notes=notes
        )
    proto = onnx.load(str(shop.model.onnx), load_external_data=False)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        save_onnx(onnx.load(str(shop.model.onnx)), folder / "model.onnx")
    else:
        shutil.copyfile(shop.model.onnx, folder / "model.onnx")
    return Candidate(
        variant="onnx-fp32", format=ArtifactFormat.ONNX, precision=Precision.FP32, folder=folder, is_original=True
    )


def _torchscript(shop: Workshop) -> Candidate:
    from pilotfish.optimizer.pytorch.export_torchscript import export_torchscript

    folder = _fresh(shop.folder / "torchscript-fp32")
    notes = export_torchscript(shop.model, shop.samples, folder / "model.pt", max_batch=shop.max_batch)
    return Candidate(
        variant="torchscript-fp32",
        format=ArtifactFormat.TORCH_SCRIPT,
        precision=Precision.FP32,
        folder=folder,
        is_original=shop.model.torchscript is not None,
        notes=notes,
    )


Recipe = tuple[str, Precision, Callable[[Path, Path], None]]


def _onnx_recipes(shop: Workshop) -> list[Recipe]:
    recipes: list[Recipe] = []
    gpu_or_size = shop.serving.gpus > 0 or shop.spec.objective is Objective.SIZE
    if Precision.FP16 in shop.spec.precisions and gpu_or_size:
        recipes.append(("onnx-fp16", Precision.FP16, to_fp16))
    if Precision.INT8 in shop.spec.precisions:
        recipes.append(("onnx-int8-dynamic", Precision.INT8, to_int8_dynamic))
    return recipes


def _derive(
    shop: Workshop, base: Built, variant: str, precision: Precision, make: Callable[[Path, Path], None]
) -> Built:
    if isinstance(base, FailedCandidate):
        return FailedCandidate(
            variant=variant,
            format=ArtifactFormat.ONNX,
            precision=precision,
            reason="there is no ONNX export to start from",
        )
    folder = shop.folder / variant

    def build() -> Candidate:
        make(base.file, _fresh(folder) / "model.onnx")
        return Candidate(variant=variant, format=ArtifactFormat.ONNX, precision=precision, folder=folder)

    return _attempt(variant, ArtifactFormat.ONNX, precision, build)


def to_fp16(source: Path, target: Path) -> None:
    """Weights and arithmetic in half precision, inputs and outputs as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
    save_onnx(model, target)


def to_int8_dynamic(source: Path, target: Path) -> None:
    """Weights of MatMul, Gemm and LSTM in 8 bits, activations quantized as they come.

    Convolutions stay as they are: ONNX Runtime's integer convolution is several times slower than its float one.

    Raises:
        ValueError: the model has none of these operators, so nothing would change.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    before = _operators(source)
    if not any(before[op] for op in _QUANTIZED_OPS):
        raise ValueError("the model has no MatMul, Gemm or LSTM to quantize")
    prepared = target.with_name("prepared.onnx")
    bare = onnx.load(str(source))
    del bare.graph.value_info[:]  # exporters leave shapes of weights there that the optimizer then transposes
    save_onnx(bare, prepared)
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(
        str(prepared),
        str(target),
        op_types_to_quantize=_QUANTIZED_OPS,
        weight_type=QuantType.QInt8,
        per_channel=True,
        use_external_data_format=source.stat().st_size > ONE_FILE_LIMIT,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    prepared.unlink()
    after = _operators(target)
    if all(after[op] >= before[op] for op in _QUANTIZED_OPS if before[op]):
        raise ValueError("quantization changed no operator: its weights are not constants")


def save_onnx(model: Any, target: Path) -> None:
    """One file where it fits, else the tensors in `model.onnx.data` beside it."""
    if model.ByteSize() < ONE_FILE_LIMIT:
        onnx.save(model, str(target))
        return
    onnx.save(model, str(target), save_as_external_data=True, location="model.onnx.data")


def _operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
