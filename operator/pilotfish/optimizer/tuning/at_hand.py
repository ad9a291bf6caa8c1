"""A Triton on a person's machine: at the address that was given, or started here where tritonserver is on PATH."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pilotfish.api.controlled_server import LOOPBACK, controlled_arguments
from pilotfish.api.job_input import JobTuning
from pilotfish.api.report import OptimizerReason
from pilotfish.api.serving_settings import given_serving
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.tuning import TuningSpec
from pilotfish.optimizer.benchmark import available_threads
from pilotfish.optimizer.errors import OptimizerError

_PROGRAM = "tritonserver"
_STOP_SECONDS = 10


def with_tuning(spec: ModelDeploymentSpec, address: str | None) -> ModelDeploymentSpec:
    """The spec; an address that is given asks for tuning.

    Raises:
        OptimizerError: the address is none.
    """
    if address is None:
        return spec
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise OptimizerError(
            OptimizerReason.INPUT_INVALID, f"{address!r} is no address of a Triton; give HOST:PORT of its gRPC API"
        )
    if spec.optimization.tuning is not None:
        return spec
    asked = spec.optimization.model_copy(update={"tuning": TuningSpec()})
    return spec.model_copy(update={"optimization": asked})


def is_at_hand(spec: ModelDeploymentSpec, address: str | None) -> bool:
    """Whether there is something to measure."""
    return spec.optimization.tuning is not None and (address is not None or shutil.which(_PROGRAM) is not None)


@contextmanager
def triton_at_hand(spec: ModelDeploymentSpec, address: str | None) -> Iterator[JobTuning | None]:
    """Where to measure; None where there is nothing. A server that was started here ends with the context."""
    if not is_at_hand(spec, address):
        yield None
        return
    where = JobTuning(
        address=address or f"{LOOPBACK}:{_free_port()}",
        cores=available_threads(None),
        given=given_serving(spec.serving),
    )
    if address is not None:
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="pilotfish-triton-") as folder, _started(Path(folder), where):
        yield where.model_copy(update={"folder": folder})


@contextmanager
def _started(folder: Path, where: JobTuning) -> Iterator[None]:
    arguments = controlled_arguments(model_repository=str(folder), port=int(where.address.rpartition(":")[2]))
    process = subprocess.Popen([_PROGRAM, *arguments], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its backends' stubs too
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
