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

from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import Subject

KILLED = "the runtime was killed"


class WorkerError(Exception):
    """The model could not be loaded or run; the text is the runtime's last line."""


class Worker:
    """A running worker. Use as a context manager: leaving it ends the process.

    `program` is a module that calls `worker.main` with a loader of its own.
    """

    def __init__(self, subject: Subject, *, work: Path, program: str = "pilotfish.optimizer.worker") -> None:
        self._work = work
        self._errors = tempfile.TemporaryFile(dir=work)  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_environment(subject.threads),
        )
        self._runtime = ""
        with suppress(BrokenPipeError):  # it has ended already: the first request says why
            self._send(asdict(subject))

    def __enter__(self) -> Self:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()

    @property
    def runtime(self) -> str:
        """What computes in there. The first use waits for the model; raises WorkerError when it does not load."""
        if not self._runtime:
            self._runtime = str(self._receive()["runtime"])
        return self._runtime

    def run(self, *, batch: int, pad_to: int = 0) -> dict[str, Array]:
        """All samples through the model in calls of `batch`, optionally padded; raises WorkerError."""
        target = self._work / f"outputs-{self._process.pid}.safetensors"
        reply = self._ask({"do": "run", "batch": batch, "pad_to": pad_to, "to": str(target)})
        if "error" in reply:
            raise WorkerError(reply["error"])
        outputs = dict(load_file(target))
        target.unlink()
        return outputs

    def time(self, **request: float) -> dict[str, Any]:
        """One round of timing: `times` in seconds, `waiting` as a share of the round, `peak` in bytes."""
        return self._ask({"do": "time", **request})

    def load(self, *, callers: int, batch: int, seconds: float) -> dict[str, Any]:
        """Several callers for some seconds: `times` of their calls and `seconds` in all; raises WorkerError."""
        reply = self._ask({"do": "load", "callers": callers, "batch": batch, "seconds": seconds})
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def close(self) -> None:
        """End the process and let go of its files."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        _ = self.runtime  # loaded, or its reason raised
        with suppress(BrokenPipeError):
            self._send(request)
        return self._receive()

    def _send(self, request: dict[str, Any]) -> None:
        writer = cast("IO[str]", self._process.stdin)
        writer.write(json.dumps(request) + "\n")
        writer.flush()

    def _receive(self) -> dict[str, Any]:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise WorkerError(self._last_words())
        return cast("dict[str, Any]", json.loads(line))

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [text for text in self._errors.read().decode(errors="replace").splitlines() if text.strip()]
        if code == -signal.SIGKILL:
            return f"{KILLED}, most likely out of memory; raise spec.optimization.resources.memory"
        if code < 0:
            return f"the runtime was ended by {signal.Signals(-code).name}"
        return lines[-1] if lines else f"the runtime ended with exit code {code}"


def _environment(threads: int) -> dict[str, str]:
    """Libraries that size their pools when they are loaded get the serving pod's thread count.

    OpenMP threads that spin while they wait make torch a hundred times slower as soon as a core is shared: they sleep.
    """
    pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **pools, "PYTHONWARNINGS": "ignore"}
