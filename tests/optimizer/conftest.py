"""Fixtures for the optimizer's tests: a job's folders, a quick benchmark, small ONNX files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.api.report import TerminationMessage
from pilotfish.optimizer.local import run_local
from support.job_pod import QUICK, Pod, pod
from support.onnx_models import save_mlp
from support.report_schema import check_report

__all__ = ["pod"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True)
class Local:
    """Runs a spec as `pilotfish optimize` would and shows what came out."""

    folder: Path

    def run(self, model: dict[str, Any], *, name: str = "m", **spec: Any) -> TerminationMessage:
        manifest = self.folder / f"{name}.yaml"
        body = {"kind": "ModelDeployment", "metadata": {"name": name}, "spec": {"model": model, **spec}}
        manifest.write_text(yaml.safe_dump(body))
        return run_local(manifest, self.out, plan=QUICK)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def artifact(self, message: TerminationMessage) -> Path:
        return self.out / message.artifact.path

    def report(self, message: TerminationMessage) -> dict[str, Any]:
        return check_report(self.artifact(message))


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a real run on a small ONNX model, in the store of its claim. Read-only."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("pilotfish.optimizer.benchmark.BenchmarkPlan", lambda: QUICK)
        pod = Pod(tmp_path_factory.mktemp("made"), environment)
        save_mlp(pod.source / "model.onnx")
        pod.job({"uri": "pvc://claim/model.onnx"})
        assert pod.command("fetch")[0] == 0
        code, told = pod.command("optimize")
        assert code == 0, told.message
        return pod.store / told.artifact.path
