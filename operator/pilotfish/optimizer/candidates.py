"""Build what may win: each candidate in a folder of its own, each failure with its reason."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from pilotfish.api.job_input import JobServing
from pilotfish.api.optimization import ArtifactFormat, Objective, OptimizationSpec, Precision
from pilotfish.api.report import one_line
from pilotfish.optimizer.compress.dynamic import to_int8_dynamic
from pilotfish.optimizer.compress.graph import operators, prepare, save_onnx
from pilotfish.optimizer.compress.half import to_fp16
from pilotfish.optimizer.compress.openvino import openvino_recipes
from pilotfish.optimizer.compress.order import Order, Recipe, RefusedError
from pilotfish.optimizer.compress.room import check_room
from pilotfish.optimizer.compress.static import CONVOLUTIONS, to_int8_static
from pilotfish.optimizer.compress.weights import to_int8_weights
from pilotfish.optimizer.environment import needs_narrow_weights
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.memory import give_back
from pilotfish.optimizer.model import Candidate, FailedCandidate, LoadedModel, Samples

BASE = "onnx-fp32"
STATIC = "onnx-int8-static"
MIXED = "onnx-int8-mixed"
_NAMED = 5
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
        say(BASE)
        base = _attempt(BASE, ArtifactFormat.ONNX, Precision.FP32, lambda: _onnx_base(shop))
        built.append(base)
        for variant, precision, make in _onnx_recipes(shop, base):
            say(variant)
            built.append(_derive(shop, base, variant, precision, make))
    if ArtifactFormat.TORCH_SCRIPT in shop.spec.formats and shop.model.module is not None:
        say("torchscript-fp32")
        built.append(
            _attempt("torchscript-fp32", ArtifactFormat.TORCH_SCRIPT, Precision.FP32, lambda: _torchscript(shop))
        )
    return built


def _attempt(variant: str, fmt: ArtifactFormat, precision: Precision, make: Callable[[], Candidate]) -> Built:
    refused = False
    try:
        return make()
    except RefusedError as error:
        reason, refused = str(error), True
    except OptimizerError as error:
        reason = error.message
    except Exception as error:  # noqa: BLE001 - exporters fail in every way; the reason goes into the report
        reason = f"{type(error).__name__}: {error}"
    finally:
        give_back()
    return FailedCandidate(
        variant=variant, format=fmt, precision=precision, reason=one_line(reason, limit=300), refused=refused
    )


def _onnx_base(shop: Workshop) -> Candidate:
    folder = _fresh(shop.folder / BASE)
    if shop.model.onnx is None:
        from pilotfish.optimizer.pytorch.export_onnx import export_onnx

        notes = export_onnx(shop.model, shop.samples, folder / "model.onnx", max_batch=shop.max_batch)
        return Candidate(variant=BASE, format=ArtifactFormat.ONNX, precision=Precision.FP32, folder=folder, notes=notes)
    proto = onnx.load(str(shop.model.onnx), load_external_data=False)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        save_onnx(onnx.load(str(shop.model.onnx)), folder / "model.onnx")
    else:
        shutil.copyfile(shop.model.onnx, folder / "model.onnx")
    return Candidate(
        variant=BASE,
        format=ArtifactFormat.ONNX,
        precision=Precision.FP32,
        folder=folder,
        is_original=not shop.model.converted,
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


def _onnx_recipes(shop: Workshop, base: Built) -> list[tuple[str, Precision, Recipe]]:
    """In the order of their simplicity: where two are equally good, the first of them is kept."""
    spec, recipes = shop.spec, list[tuple[str, Precision, Recipe]]()
    for_size = spec.objective is Objective.SIZE
    plain = isinstance(base, Candidate) and not any(operators(base.file)[op] for op in CONVOLUTIONS)
    if Precision.FP16 in spec.precisions and (shop.serving.gpus > 0 or for_size):
        recipes.append(("onnx-fp16", Precision.FP16, to_fp16))
    if Precision.INT8 in spec.precisions:
        recipes.append(("onnx-int8-dynamic", Precision.INT8, to_int8_dynamic))
        recipes.append((STATIC, Precision.INT8, to_int8_static))
        if for_size or plain:
            recipes.append(("onnx-int8-weights", Precision.INT8, to_int8_weights))
    if ArtifactFormat.ONNX in spec.formats:
        recipes += openvino_recipes(spec, shop.serving, shop.model.signature)
    return recipes


def _derive(shop: Workshop, base: Built, variant: str, precision: Precision, recipe: Recipe) -> Built:
    if isinstance(base, FailedCandidate):
        return FailedCandidate(
            variant=variant,
            format=ArtifactFormat.ONNX,
            precision=precision,
            reason="there is no ONNX export to start from",
        )
    return _attempt(variant, ArtifactFormat.ONNX, precision, lambda: _follow(shop, recipe, variant, precision))


def _follow(shop: Workshop, recipe: Recipe, variant: str, precision: Precision) -> Candidate:
    check_room(variant, shop.folder / BASE / "model.onnx")
    folder = _fresh(shop.folder / variant)
    made = recipe(make_order(shop, folder / "model.onnx"))
    return Candidate(
        variant=variant,
        format=ArtifactFormat.ONNX,
        precision=precision,
        folder=folder,
        served_by=made.served_by,
        parameters=made.parameters,
        notes=made.notes,
        layers=made.layers,
    )


def make_order(shop: Workshop, target: Path, *, kept: tuple[str, ...] = ()) -> Order:
    """What a recipe is told to make of the FP32 file; `kept` are nodes that stay in float."""
    source = shop.folder / BASE / "model.onnx"
    prepared = shop.folder / "prepared" / "model.onnx"

    def once() -> Path:
        if not prepared.exists():
            half_done = _fresh(shop.folder / "preparing")
            prepare(source, half_done / "model.onnx")
            half_done.rename(prepared.parent)
        return prepared

    return Order(
        source=source,
        target=target,
        prepared=once,
        samples=shop.samples,
        batched=shop.model.signature.batched,
        max_batch=shop.max_batch,
        gpu=shop.serving.gpus > 0,
        narrow=needs_narrow_weights(),
        kept=kept,
    )


def keep_in_float(shop: Workshop, static: Candidate, kept: tuple[str, ...]) -> Candidate:
    """INT8 static once more, without these layers; raises ValueError when nothing is left to quantize."""
    folder = _fresh(shop.folder / f"{MIXED}-{len(kept)}")
    made = to_int8_static(make_order(shop, folder / "model.onnx", kept=kept))
    names = ", ".join(kept[:_NAMED]) + (" and more" if len(kept) > _NAMED else "")
    note = f"{MIXED} keeps {len(kept)} of {len(static.layers)} layers in float: {names}."
    return replace(
        static,
        variant=MIXED,
        folder=folder,
        notes=(*made.notes, note),
        layers=tuple(one.model_copy(update={"kept": one.layer in kept}) for one in static.layers),
    )


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
