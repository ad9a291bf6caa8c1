"""A bad input through the real commands of the Job's pod, in a folder beside things that nobody may touch."""

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pilotfish.api.report import Outcome, TerminationMessage
from support.bad import Bad
from support.job_pod import Pod
from support.tf_python import tensorflow_environment, tensorflow_models

_MOUNTS = ("store", "work", "source", "config", "models", "run", "tmp")
_WRITABLE = {"store", "work", "order", "tmp", "termination-log"}


@dataclass(frozen=True)
class Surroundings:
    """Everything around a pod's mounts, with the folder that the process stands in."""

    folder: Path

    def list(self) -> dict[Path, int | str]:
        """Every path with the digest of its bytes, or its mode."""
        return {p: self._state(p) for p in sorted(self.folder.rglob("*")) if not self._is_mount(p)}

    def _is_mount(self, path: Path) -> bool:
        parts = path.relative_to(self.folder).parts
        return parts[:1] == ("pod",) and parts[1:2] != () and parts[1] in _WRITABLE

    @staticmethod
    def _state(path: Path) -> int | str:
        if path.is_symlink() or not path.is_file():
            return path.lstat().st_mode
        return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Pod, Surroundings]:
    """A pod in a folder of its own, beside things that nobody may touch."""
    if request.node.callspec.params["bad"].tensorflow:
        tensorflow_models()  # made once per machine, in the real home
    for name in ("pod", "home", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "keep").write_text("mine")
    pod = replace(pod, folder=tmp_path / "pod")
    for mount in _MOUNTS:
        assert getattr(pod, mount).is_dir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(pod.tmp))
    monkeypatch.setenv("TMPDIR", str(pod.tmp))
    monkeypatch.delenv("PILOTFISH_TENSORFLOW_PYTHON", raising=False)
    return pod, Surroundings(tmp_path)


def refuse(
    bad: Bad,
    sandbox: tuple[Pod, Surroundings],
    capfd: pytest.CaptureFixture[str],
    *,
    during: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> TerminationMessage:
    """Run fetch and optimize on it; what it ends with, after every check that holds for all bad inputs.

    `during` is entered while the commands run.
    """
    pod, around = sandbox
    uri = bad.uri if "://" in bad.uri else f"pvc://claim/{bad.uri}"
    for name, value in (tensorflow_environment() if bad.tensorflow else {}).items():
        pod.environment.setenv(name, value)
    made = bad.make(pod.source)
    more = made if isinstance(made, dict) else {}
    model = {key: value for key, value in {"uri": uri, **more}.items() if value is not None}
    pod.job(model, **bad.job)
    before = around.list()
    with during():
        code, told = pod.command("fetch")
        if bad.fetched:
            assert code == 0, told.message
            code, told = pod.command("optimize")
    assert (told.outcome, told.reason, code) == (Outcome.FAILED, bad.reason, bad.code), told.message
    assert all(part in told.message for part in bad.says), told.message
    assert "\n" not in told.message
    assert any(mark in told.message for mark in (";", ":")), f"says nothing to do: {told.message}"
    assert str(pod.folder) not in told.message, f"names a folder of the pod: {told.message}"
    assert around.list() == before
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert not list((pod.store / "artifacts").glob("[!.]*"))
    return told
