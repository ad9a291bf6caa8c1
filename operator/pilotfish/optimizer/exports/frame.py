"""Make every export that was asked for, read it back in a worker and compare; see the package's docstring."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pilotfish.api.optimization import ExportFormat, Precision
from pilotfish.api.report import one_line
from pilotfish.api.report_sections import Export
from pilotfish.optimizer.digest import folder_digest, hash_folder, total_bytes
from pilotfish.optimizer.model import LoadedModel, Runner, Samples
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.verify import bounds_for, check_answers, judge, measure_error
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import Worker, WorkerError

EXPORTS = "exports"
"""The folder beside `model_repository/`; each format has one of its own in there."""
KIND = "export:"
"""What a worker's kind begins with; the format follows."""
MODULES: dict[ExportFormat, str] = {
    ExportFormat.TFLITE: "tflite",
    ExportFormat.OPENVINO: "openvino_ir",
    ExportFormat.EXPORTED_PROGRAM: "exported_program",
    ExportFormat.AOT_INDUCTOR: "aot_inductor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportShop:
    """What exports are made from. `onnx` is the proven fp32 file, None where there is none."""

    model: LoadedModel
    samples: Samples
    reference: dict[str, Array]
    onnx: Path | None
    max_batch: int
    threads: int
    work: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `write` made. `one_batch`: it takes that many samples in each call, and no other number."""

    main: Path
    notes: tuple[str, ...] = ()
    one_batch: int | None = None


def export_all(
    formats: tuple[ExportFormat, ...], shop: ExportShop, *, artifact: Path, say: Callable[[str], None]
) -> tuple[Export, ...]:
    """One record per format, in order; files go to `artifact/exports/<format in lower case>/`."""
    made = []
    for wanted in formats:
        say(f"exporting {wanted.value}")
        folder = artifact / EXPORTS / wanted.value.lower()
        try:
            made.append(_export(wanted, shop, folder, artifact=artifact))
        except Exception as error:  # noqa: BLE001 - converters fail in every way; the reason goes into the report
            shutil.rmtree(folder, ignore_errors=True)
            made.append(Export(format=wanted, problem=_reason(error)))
    return tuple(made)


def load_export(subject: Subject) -> Runner:
    """The worker's side: the runner of a format's module."""
    wanted = next(f for f in ExportFormat if subject.kind == f"{KIND}{f.value}")
    runner: Runner = _module(wanted).load(subject)
    return runner


def _export(wanted: ExportFormat, shop: ExportShop, folder: Path, *, artifact: Path) -> Export:
    module = _module(wanted)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written: Written = module.write(shop, folder)
    files = hash_folder(folder)
    record = Export(
        format=wanted,
        path=written.main.relative_to(artifact).as_posix(),
        bytes=total_bytes(files),
        digest=folder_digest(files),
        notes=written.notes,
    )
    runtime, error = _compare(wanted, shop, written)
    return record.model_copy(update={"runtime": runtime, "max_rel": error})


def _compare(wanted: ExportFormat, shop: ExportShop, written: Written) -> tuple[str, float]:
    """What computed and how far its answers are from the original's.

    Raises:
        ValueError: further than single precision allows.
        WorkerError: it cannot be loaded or run.
    """
    inputs = shop.work / "export-inputs.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in shop.samples.inputs.items()}, inputs)
    signature = shop.model.signature
    subject = Subject(
        kind=f"{KIND}{wanted.value}",
        path=str(written.main),
        threads=shop.threads,
        inputs=str(inputs),
        outputs=tuple(t.name for t in signature.outputs),
        batched=signature.batched,
        source={"inputs": [t.to_wire() for t in signature.inputs]},
    )
    first, *others = _batches(shop, written)
    with Worker(subject, work=shop.work) as worker:
        answers = worker.run(batch=first, pad_to=first)
        if problem := check_answers(answers, shop.reference):
            raise ValueError(f"read back, {problem}")
        larger = [worker.run(batch=batch) for batch in others]
        for batch, more in zip(others, larger, strict=True):
            if problem := check_answers(more, shop.reference):
                raise ValueError(f"read back, in batches of {batch} {problem}")
        error = measure_error(answers, shop.reference, larger)
        bounds = replace(
            bounds_for(Precision.FP32, None, given=shop.samples.given, batching=bool(others)), top1_agreement=None
        )
        if problem := judge(error, bounds):
            raise ValueError(f"read back, its answers are not the original's: {problem}")
        return worker.runtime, error.max_rel


def _batches(shop: ExportShop, written: Written) -> list[int]:
    if not shop.model.signature.batched:
        return [1]
    return [written.one_batch] if written.one_batch else sorted({1, shop.max_batch})


def _module(wanted: ExportFormat) -> Any:
    if wanted not in MODULES:
        raise ValueError(f"{wanted.value} cannot be exported in this version; remove it from spec.optimization.exports")
    return importlib.import_module(f"{__package__}.{MODULES[wanted]}")


def _reason(error: Exception) -> str:
    if isinstance(error, WorkerError):
        return one_line(f"read back, it does not load or run: {error}", limit=300)
    return one_line(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}", limit=300)
