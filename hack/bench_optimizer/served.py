"""An artifact as a worker loads it: the served file in the runtime that serves it."""

from pathlib import Path

from pilotfish.api.report import Backend, Report
from pilotfish.optimizer.benchmark import available_threads
from pilotfish.optimizer.worker import Subject

_KINDS = {Backend.ONNXRUNTIME: "onnx", Backend.OPENVINO: "openvino", Backend.PYTORCH: "torchscript"}


def served(report: Report, artifact: Path, inputs: Path) -> Subject:
    """The worker's order for what a report says is served; `inputs` is a safetensors file of samples."""
    (file,) = (p for p in artifact.glob("model_repository/*/1/model.*") if p.suffix in {".onnx", ".pt"})
    return Subject(
        kind=_KINDS[report.artifact.backend],
        path=str(file),
        threads=available_threads(None),
        inputs=str(inputs),
        outputs=tuple(t.name for t in report.signature.outputs),
        batched=report.signature.batched,
        source={"inputs": [t.to_wire() for t in report.signature.inputs]},
        parameters=dict(report.artifact.parameters or {}),
    )
