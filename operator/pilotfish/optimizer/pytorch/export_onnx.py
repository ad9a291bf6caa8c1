"""PyTorch to ONNX, read back and run: exporters report success for files that only take the example's batch."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from pilotfish.api.report import ModelSignature
from pilotfish.optimizer.compress.graph import BESIDE_FROM, join, operators
from pilotfish.optimizer.load_onnx import io_signature
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.onnx_runtime import OnnxRunner
from pilotfish.optimizer.pytorch.program import export_program
from pilotfish.optimizer.pytorch.runtime import to_tensor
from pilotfish.optimizer.recurrent import RECURRENT, simplify_recurrent
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import feed

OPSET = 18
_EXAMPLE_BATCH = 2


def export_onnx(model: LoadedModel, samples: Samples, target: Path, *, max_batch: int) -> tuple[str, ...]:
    """Write an ONNX file that takes every batch the signature promises; returns notes for the report.

    The graph exporter comes first; where its file is static, does not run or does not appear, the older one.

    Raises:
        ValueError: neither exporter writes such a file; the sentence has both reasons.
    """
    problems = []
    ways = [_export_script] if model.torchscript else [_export_graph, _export_legacy]
    for way in ways:
        try:
            with _quiet():
                way(model, _example(model, samples), target)
            _simplify(target)
            check_written(target, model.signature, samples, max_batch=max_batch)
            join(target)
        except Exception as error:  # noqa: BLE001 - the next exporter may manage what this one cannot
            problems.append(f"{way.__name__.removeprefix('_export_')} exporter: {_first_line(error)}")
            continue
        return tuple(f"ONNX by the {way.__name__.removeprefix('_export_')} exporter; {p}" for p in problems)
    raise ValueError("; ".join(problems))


def _simplify(path: Path) -> None:
    """Rewrite the file where something in it is done for nothing."""
    if not any(operators(path)[op] for op in RECURRENT):
        return
    join(path)
    model = onnx.load(str(path), load_external_data=False)
    external = any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    if not external and simplify_recurrent(model):
        onnx.save(model, str(path))


def check_written(path: Path, signature: ModelSignature, samples: Samples, *, max_batch: int) -> None:
    """Read the file's shapes back and run batch 1, 2 and the largest; raises ValueError with what is wrong."""
    declared = {t.name: t.shape for t in io_signature(path).inputs}
    for spec in signature.inputs:
        wanted = ((-1, *spec.shape) if signature.batched else spec.shape) or ()
        if spec.name not in declared:
            raise ValueError(f"the file has no input {spec.name!r}: the model does not use it")
        if any(w == -1 and d != -1 for w, d in zip(wanted, declared[spec.name], strict=True)):
            raise ValueError(f"input {spec.name!r} came out fixed as {list(declared[spec.name])}")
    runner = OnnxRunner(path, threads=1)
    for batch in sorted({1, 2, max_batch}) if signature.batched else [1]:
        outputs = runner.run(feed(samples.inputs, start=0, batch=batch, batched=signature.batched))
        for name, value in outputs.items():
            if signature.batched and (value.ndim == 0 or value.shape[0] != batch):
                raise ValueError(f"output {name!r} has shape {list(value.shape)} for a batch of {batch}")


def _export_graph(model: LoadedModel, example: dict[str, Array], target: Path) -> None:
    program = export_program(model.module, model.signature, example)
    torch.onnx.export(
        program,
        (),
        str(target),
        dynamo=True,
        opset_version=OPSET,
        input_names=[t.name for t in model.signature.inputs],
        output_names=[t.name for t in model.signature.outputs],
        external_data=_goes_beside(model.module),  # tensor by tensor; in one file all of them are held twice more
        verbose=False,
    )


def _export_legacy(model: LoadedModel, example: dict[str, Array], target: Path) -> None:
    names = [t.name for t in model.signature.inputs]
    torch.onnx.export(
        model.module,
        tuple(to_tensor(example[name]) for name in names),
        str(target),
        dynamo=False,
        opset_version=OPSET,
        input_names=names,
        output_names=[t.name for t in model.signature.outputs],
        dynamic_axes=_dynamic_axes(model.signature),
    )


def _export_script(model: LoadedModel, example: dict[str, Array], target: Path) -> None:
    _export_legacy(model, example, target)


def _dynamic_axes(signature: ModelSignature) -> dict[str, dict[int, str]]:
    axes: dict[str, dict[int, str]] = {}
    for spec in (*signature.inputs, *signature.outputs):
        own = {i + int(signature.batched): f"{spec.name}_{i}" for i, size in enumerate(spec.shape) if size == -1}
        axes[spec.name] = ({0: "batch"} if signature.batched else {}) | own
    return axes


def _example(model: LoadedModel, samples: Samples) -> dict[str, Array]:
    return feed(samples.inputs, start=0, batch=_EXAMPLE_BATCH, batched=model.signature.batched)


def _goes_beside(module: Any) -> bool:
    return bool(sum(p.numel() * p.element_size() for p in module.parameters()) > BESIDE_FROM)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Any:
    """Exporters print progress and warn about their own age: neither is for our users."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
