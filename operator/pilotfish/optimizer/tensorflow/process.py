"""The parent's side of TensorFlow: find a Python that has it, have a model opened and converted there, and ask it.

Imports no TensorFlow: a model that crashes it kills the child and nothing else, and its memory goes with the child.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from safetensors.numpy import load_file, save_file

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.tensors import Array, Arrays

FORMATS = frozenset({ModelFormat.KERAS, ModelFormat.SAVED_MODEL, ModelFormat.TFLITE})
PYTHON_ENV = "PILOTFISH_TENSORFLOW_PYTHON"
"""Path of another Python that has TensorFlow and Pilotfish, for a machine whose own has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the child opens. `onnx` is where the converted model goes, `scratch` the only folder it writes to."""

    format: str
    path: str
    trusted: bool
    threads: int
    onnx: str
    scratch: str


def interpreter() -> str | None:
    """A Python with TensorFlow: the one the environment names, else this one, else none."""
    if given := os.environ.get(PYTHON_ENV):
        return given
    return sys.executable if importlib.util.find_spec("tensorflow") else None


class TensorFlowProcess:
    """A child that holds one model. It ends by itself when its parent is gone.

    Raises:
        OptimizerError: whatever the child refuses, or ModelInvalid and OptimizerOutOfMemory when it dies.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._scratch = Path(order.scratch)
        self._errors = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - lives as long as the process
        self._child = subprocess.Popen(
            [interpreter() or sys.executable, "-m", "pilotfish.optimizer.tensorflow.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=module_environment(self._scratch),
        )
        self.runtime = str(self._ask(asdict(order))["runtime"])

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The model's answers to one call. Raises RuntimeError with the framework's words when it refuses them."""
        given, back = self._scratch / "inputs.safetensors", self._scratch / "outputs.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in inputs.items()}, given)
        reply = self._ask({"from": str(given), "to": str(back)})
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return dict(load_file(back))

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._errors):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with suppress(BrokenPipeError):
            writer = cast("IO[str]", self._child.stdin)
            writer.write(json.dumps(request) + "\n")
            writer.flush()
        line = cast("IO[str]", self._child.stdout).readline()
        if not line:
            raise self._death()
        reply = cast("dict[str, Any]", json.loads(line))
        if "reason" in reply:
            self.close()
            raise OptimizerError(Reason(reply["reason"]), reply["message"])
        return reply

    def _death(self) -> OptimizerError:
        code, name = self._child.wait(), Path(self._order.path).name
        if code == -signal.SIGKILL:
            return OptimizerError(
                Reason.OPTIMIZER_OUT_OF_MEMORY,
                f"TensorFlow was killed with {name} open, most likely out of memory; "
                "raise spec.optimization.resources.memory",
            )
        self._errors.seek(0)
        words = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else (words or [f"ended with {code}"])[-1]
        return OptimizerError(
            Reason.MODEL_INVALID, f"TensorFlow {how} with {name} open; write the model again, or export it as ONNX"
        )


class TensorFlowRunner:
    """The original in its child. The child starts with the first call and goes with `close`, to come back if asked."""

    def __init__(self, process: TensorFlowProcess, order: Order) -> None:
        self._process: TensorFlowProcess | None = process
        self._order, self._runtime = order, process.runtime

    @property
    def runtime(self) -> str:
        """Name and version."""
        return self._runtime

    @property
    def process(self) -> TensorFlowProcess:
        """The child, started again where it was closed."""
        if self._process is None:
            self._process = TensorFlowProcess(self._order)
        return self._process

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        return self.process.run(inputs)

    def close(self) -> None:
        """Give the child's memory back."""
        if self._process is not None:
            self._process.close()
            self._process = None


def module_environment(scratch: Path) -> dict[str, str]:
    """The environment of a child."""
    return {**os.environ, **quiet_environment(scratch)}


def quiet_environment(scratch: Path) -> dict[str, str]:
    """No chatter, no GPU, and every folder that a library might write to below `scratch`."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONWARNINGS": "ignore"}
    folders = dict.fromkeys(("HOME", "TMPDIR", "KERAS_HOME", "XDG_CACHE_HOME"), str(scratch))
    return {**quiet, **folders, "KERAS_BACKEND": "tensorflow"}
