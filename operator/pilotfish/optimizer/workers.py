"""The parent's side of a worker: start it, ask it, and turn its death into a sentence.

Starting returns at once: the worker loads its libraries and its model while the parent goes on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from safetensors.numpy import load_file

from pilotfish.api.optimization import ExportFormat
from pilotfish.optimizer.memory import Room, resident_bytes
from pilotfish.optimizer.tensorflow.process import FORMATS as TENSORFLOW
from pilotfish.optimizer.tensorflow.process import interpreter, quiet_environment
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import Subject

KILLED = "the runtime was killed"
LIBRARIES = {"onnx": 160 << 20, "openvino": 260 << 20}
"""Bytes of a worker without its model, by kind; every other kind imports PyTorch or TensorFlow."""
HEAVY_LIBRARIES = 700 << 20
COLD_WARMUP = 4


class WorkerError(Exception):
    """The model could not be loaded or run; the text is the runtime's last line."""


class Worker:
    """A running worker. Use as a context manager: leaving it ends the process.

    `program` is a module that calls `worker.main` with a loader of its own. Workers that share a `room` take turns when
    they do not fit into it together: one that was parked starts again when it is asked.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        work: Path,
        program: str = "pilotfish.optimizer.worker",
        room: Room | None = None,
    ) -> None:
        self._subject, self._work, self._program, self._room = subject, work, program, room
        self._errors = tempfile.TemporaryFile(dir=work)  # noqa: SIM115 - lives as long as the worker
        self._process: subprocess.Popen[str] | None = None
        self._runtime = ""
        self._started = False
        """Its process has said that the model is loaded."""
        self._peak = 0
        if room is None or room.fits(self):
            self._start()

    def __enter__(self) -> Self:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    @property
    def subject(self) -> Subject:
        """What it was started with."""
        return self._subject

    @property
    def runtime(self) -> str:
        """What computes in there. The first use waits for the model; raises WorkerError when it does not load."""
        if not self._runtime:
            self._run()
        return self._runtime

    def run(self, *, batch: int, pad_to: int = 0) -> dict[str, Array]:
        """All samples through the model in calls of `batch`, optionally padded; raises WorkerError."""
        target = self._work / f"outputs-{id(self):x}.safetensors"
        reply = self._ask({"do": "run", "batch": batch, "pad_to": pad_to, "to": str(target)})
        if "error" in reply:
            raise WorkerError(reply["error"])
        outputs = dict(load_file(target))
        target.unlink()
        return outputs

    def time(self, **request: float) -> dict[str, Any]:
        """One round of timing: `times` in seconds, `waiting` as a share of the round, `peak` in bytes."""
        if not self.resident_bytes():  # whatever warmed up before is gone
            request["warmup"] = max(request.get("warmup", 0), COLD_WARMUP)
        reply = self._ask({"do": "time", **request})
        self._peak = max(self._peak, int(reply["peak"]))
        return reply

    def load(self, *, callers: int, batch: int, seconds: float) -> dict[str, Any]:
        """Several callers for some seconds: `times` of their calls and `seconds` in all; raises WorkerError."""
        reply = self._ask({"do": "load", "callers": callers, "batch": batch, "seconds": seconds})
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process and let go of its files."""
        if self._room is not None:
            self._room.forget(self)
        self.park()
        self._errors.close()

    def park(self) -> None:
        """End the process; the next question starts it again."""
        process, self._process, self._started = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def resident_bytes(self) -> int:
        """What the process holds now; 0 when it does not run."""
        return resident_bytes(self._process.pid) if self._process is not None else 0

    def expected_bytes(self) -> int:
        """What it held at most, else a guess: the libraries, and the model's file twice while it is loaded."""
        return self._peak or LIBRARIES.get(self._subject.kind, HEAVY_LIBRARIES) + 2 * self._subject.bytes()

    def _start(self) -> None:
        if self._room is not None:
            self._room.admit(self)
        extra = quiet_environment(self._work) if _is_tensorflow(self._subject) else {}
        self._process = subprocess.Popen(
            [_python(self._subject), "-m", self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment_for(self._subject.threads) | extra,
        )
        with suppress(BrokenPipeError):  # it has ended already: the first request says why
            self._send(asdict(self._subject))

    def _run(self) -> None:
        """Running and loaded, or its reason raised."""
        if self._process is None:
            self._start()
        elif self._room is not None:
            self._room.admit(self)
        if not self._started:
            self._runtime = str(self._receive()["runtime"])
            self._started = True

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._run()
        with suppress(BrokenPipeError):
            self._send(request)
        return self._receive()

    def _send(self, request: dict[str, Any]) -> None:
        writer = cast("IO[str]", self._running.stdin)
        writer.write(json.dumps(request) + "\n")
        writer.flush()

    def _receive(self) -> dict[str, Any]:
        line = cast("IO[str]", self._running.stdout).readline()
        if not line:
            raise WorkerError(self._last_words())
        return cast("dict[str, Any]", json.loads(line))

    @property
    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None:
            raise WorkerError("the worker is closed")
        return self._process

    def _last_words(self) -> str:
        code = self._running.wait()
        self._errors.seek(0)
        lines = [text for text in self._errors.read().decode(errors="replace").splitlines() if text.strip()]
        if code == -signal.SIGKILL:
            return f"{KILLED}, most likely out of memory; raise spec.optimization.resources.memory"
        if code < 0:
            return f"the runtime was ended by {signal.Signals(-code).name}"
        return lines[-1] if lines else f"the runtime ended with exit code {code}"


def _is_tensorflow(subject: Subject) -> bool:
    formats = {f.value for f in TENSORFLOW}
    own = subject.kind == "original" and (subject.source or {}).get("format") in formats
    return own or subject.kind == f"export:{ExportFormat.TFLITE.value}"


def _python(subject: Subject) -> str:
    """The Python that can load the subject."""
    return (interpreter() if _is_tensorflow(subject) else None) or sys.executable


def environment_for(threads: int) -> dict[str, str]:
    """Libraries that size their pools when they are loaded get the serving pod's thread count.

    OpenMP threads that spin while they wait make torch a hundred times slower as soon as a core is shared: they sleep.
    """
    pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **pools, "PYTHONWARNINGS": "ignore"}
