"""A torch module through the whole optimizer, and what came out as a worker loads it."""

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

import pilotfish
from pilotfish.api.report import Report
from pilotfish.optimizer.benchmark import BenchmarkPlan, available_threads
from pilotfish.optimizer.local import run_local
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import KINDS, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The artifact's folder, its report, and what the run took."""

    report: Report
    artifact: Path
    seconds: float

    def subject(self, inputs: Path) -> Subject:
        """The served file in the runtime that serves it; `inputs` is a safetensors file of samples."""
        report = self.report
        (file,) = (p for p in self.artifact.glob("model_repository/*/1/model.*") if p.suffix in {".onnx", ".pt"})
        return Subject(
            kind=KINDS[report.artifact.backend],
            path=str(file),
            threads=available_threads(None),
            inputs=str(inputs),
            outputs=tuple(t.name for t in report.signature.outputs),
            batched=report.signature.batched,
            source={"inputs": [t.to_wire() for t in report.signature.inputs]},
            parameters=dict(report.artifact.parameters or {}),
        )


def make(
    name: str,
    module: nn.Module,
    inputs: dict[str, Array],
    folder: Path,
    *,
    output: str,
    optimization: dict[str, Any],
    labels: Array | None = None,
    plan: BenchmarkPlan | None = None,
) -> Made:
    """Pack the module with its samples in `folder` and optimize it; progress goes to standard error."""
    samples = tuple(torch.from_numpy(array) for array in inputs.values())
    pilotfish.pack(
        module,
        tuple(one[:2] for one in samples),
        folder / "model",
        input_names=list(inputs),
        output_names=[output],
        samples=samples[0] if len(samples) == 1 else samples,
        labels=None if labels is None else torch.from_numpy(labels),
    )
    manifest = folder / "model.yaml"
    spec = {"model": {"uri": "model"}, "optimization": optimization}
    manifest.write_text(yaml.safe_dump({"kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec}))
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        message = run_local(manifest, folder / "out", plan=plan)
    if message.artifact is None:
        raise SystemExit(f"{name}: {message.message}")
    artifact = folder / "out" / message.artifact.path
    report = Report.model_validate_json((artifact / "report.json").read_text())
    return Made(report=report, artifact=artifact, seconds=time.monotonic() - began)
