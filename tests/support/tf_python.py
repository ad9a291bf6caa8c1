"""TensorFlow for tests: a Python that has it (hack/tensorflow) and files that it wrote, both made once per machine."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "tensorflow_models.py"


@cache
def tensorflow_python() -> str:
    """The first call on a machine installs it: half a minute."""
    done = subprocess.run([ROOT / "hack" / "tensorflow"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tensorflow_environment() -> dict[str, str]:
    """What a process needs to use that Python with this tree's Pilotfish."""
    return {"PILOTFISH_TENSORFLOW_PYTHON": tensorflow_python(), "PYTHONPATH": str(ROOT / "operator")}


@cache
def tensorflow_models() -> Path:
    """The folder that tensorflow_models.py fills; kept beside the Python until either changes."""
    python = Path(tensorflow_python())
    home = python.parent.parent
    folder = home / f"models-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]}"
    with (home / ".models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for old in home.glob("models-*"):
                shutil.rmtree(old)
            folder.mkdir()
            quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
            done = subprocess.run(
                [python, SCRIPT, folder], capture_output=True, text=True, check=False, env={**os.environ, **quiet}
            )
            assert done.returncode == 0, done.stderr[-4000:]
    return folder
