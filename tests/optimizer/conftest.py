"""Fixtures for the optimizer's tests: a job's folders, a quick benchmark, small ONNX files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.api.job_input import JobInput, RefreshInput
from pilotfish.api.report import TerminationMessage
from pilotfish.api.termination import decode_termination_message
from pilotfish.optimizer import job as job_module
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.local import run_local
from support.onnx_models import save_mlp
from support.report_schema import check_report

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

QUICK = BenchmarkPlan(rounds=1, extra_rounds=0, min_runs=3, min_seconds=0.01, max_seconds=0.2, load_seconds=0.01)


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


@dataclass(frozen=True)
class Pod:
    """The mounts of a Job's pod in a folder, and its commands run in this process."""

    folder: Path
    environment: pytest.MonkeyPatch

    def __getattr__(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def job(self, model: dict[str, Any], *, recipe_key: str = "abcd2345", **more: Any) -> None:
        text = JobInput.model_validate(
            {"name": "m", "revision": recipe_key, "recipeKey": recipe_key, "model": model, **more}
        ).to_json()
        self.environment.setenv("PILOTFISH_JOB", text)

    def look(self, uri: str) -> tuple[int, TerminationMessage]:
        self.environment.setenv("PILOTFISH_REFRESH", RefreshInput(name="m", uri=uri).to_json())
        return self.command("refresh")

    def fetch(self, uri: str, **model: Any) -> tuple[int, TerminationMessage]:
        """The fetch container over a model's address."""
        self.job({"uri": uri, **model})
        return self.command("fetch")

    def stored(self, told: TerminationMessage) -> dict[str, bytes]:
        """The source that a message tells of, by the paths of its files."""
        assert told.source is not None
        folder = self.store / "sources" / told.source.digest.removeprefix("sha256:")
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def mount_keys(self, keys: Mapping[str, str]) -> None:
        """The model's Secret, in place of what was mounted before."""
        folder = self.run / "credentials"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for name, value in keys.items():
            (folder / name).write_text(value)

    def command(self, name: str) -> tuple[int, TerminationMessage]:
        log = self.folder / "termination-log"
        folders = {"store": self.store, "work": self.work, "source": self.source, "config": self.config}
        # mounted only when they lie in another claim
        folders |= {name: self.folder / name for name in ("samples", "training", "teacher")}
        folders |= {"models": self.models, "run": self.run, "order": self.order, "termination-log": log}
        code = job_module.main([name, *(f"--{key}={value}" for key, value in folders.items())])
        assert len(log.read_bytes()) <= 4096
        return code, decode_termination_message(log.read_text())


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setattr("pilotfish.optimizer.pipeline.BenchmarkPlan", lambda: QUICK)
    return Pod(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a real run on a small ONNX model, in the store of its claim. Read-only."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("pilotfish.optimizer.pipeline.BenchmarkPlan", lambda: QUICK)
        pod = Pod(tmp_path_factory.mktemp("made"), environment)
        save_mlp(pod.source / "model.onnx")
        pod.job({"uri": "pvc://claim/model.onnx"})
        assert pod.command("fetch")[0] == 0
        code, told = pod.command("optimize")
        assert code == 0, told.message
        return pod.store / told.artifact.path
