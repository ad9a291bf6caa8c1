"""A Job's pod in a folder: its mounts, and its commands run in this process.

`from support.job_pod import pod` in a conftest.py gives the fixture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilotfish.api.job_input import JobInput, RefreshInput
from pilotfish.api.report import TerminationMessage
from pilotfish.api.termination import decode_termination_message
from pilotfish.optimizer import job as job_module
from pilotfish.optimizer.benchmark import BenchmarkPlan

QUICK = BenchmarkPlan(rounds=1, extra_rounds=0, min_runs=3, min_seconds=0.01, max_seconds=0.2, load_seconds=0.01)


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
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setattr("pilotfish.optimizer.benchmark.BenchmarkPlan", lambda: QUICK)
    return Pod(tmp_path, monkeypatch)
