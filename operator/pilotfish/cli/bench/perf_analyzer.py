"""Triton's own load generator, where the user has it. It measures until its figures are stable; we read its table."""

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pilotfish.api.report import ModelSignature
from pilotfish.cli.bench.figures import Level
from pilotfish.cli.bench.wires import Address
from pilotfish.cli.port_forward import NoAnswer

PROGRAM = "perf_analyzer"
TRIALS = 10
"""Windows after which it gives up on stable figures; bounds its time."""
_MICROSECONDS = 1e-3


def find() -> str | None:
    """Its path, where it is installed."""
    return shutil.which(PROGRAM)


def command_of(
    program: str,
    *,
    model: str,
    address: Address,
    signature: ModelSignature,
    concurrency: int,
    seconds: float,
    batch_size: int,
    table: Path,
) -> list[str]:
    """Its argument vector. Free dimensions get their example, or 1."""
    shapes = [
        f"--shape={spec.name}:{','.join(str(max(1, n)) for n in spec.example or spec.shape)}"
        for spec in signature.inputs
        if any(n < 0 for n in spec.shape)
    ]
    protocol = "grpc" if address.is_grpc else "http"
    return [
        *(program, "-m", model, "-i", protocol, "-u", f"{address.host}:{address.port}", "-f", str(table)),
        f"--concurrency-range={concurrency}:{concurrency}",
        f"--measurement-interval={round(seconds * 1000)}",
        f"--max-trials={TRIALS}",
        *((f"-b{batch_size}",) if batch_size > 1 else ()),
        *shapes,
    ]


def measure(
    program: str,
    *,
    model: str,
    address: Address,
    signature: ModelSignature,
    concurrency: int,
    seconds: float,
    batch_size: int,
) -> Level:
    """One level. Raises NoAnswer with its last line when it fails or takes far too long."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        table = Path(folder) / "table.csv"
        command = command_of(
            program,
            model=model,
            address=address,
            signature=signature,
            concurrency=concurrency,
            seconds=seconds,
            batch_size=batch_size,
            table=table,
        )
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=(seconds + 5) * (TRIALS + 2)
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoAnswer(f"{PROGRAM}: {error}") from error
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if done.returncode or not table.is_file():
            raise NoAnswer(f"{PROGRAM} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return read_level(table.read_text(encoding="utf-8").splitlines(), seconds=seconds, batch_size=batch_size)


def read_level(lines: Sequence[str], *, seconds: float, batch_size: int) -> Level:
    """The one row of its table; latencies there are in microseconds. Raises NoAnswer."""
    try:
        row = next(csv.DictReader(lines))
        rate = float(row["Inferences/Second"])
        latency = {f"p{p}": float(row[f"p{p} latency"]) * _MICROSECONDS for p in (50, 90, 95, 99)}
        concurrency = int(row["Concurrency"])
    except (StopIteration, KeyError, ValueError) as error:
        raise NoAnswer(f"{PROGRAM} wrote a table that is not understood ({error})") from error
    requests = round(rate * seconds / batch_size)
    return Level(
        concurrency=concurrency, requests=requests, errors=0, seconds=seconds, batch_size=batch_size, latency=latency
    )
