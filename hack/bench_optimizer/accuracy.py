"""Accuracy before and after on inputs that nobody has seen: `make bench-accuracy [MODELS="cnn words"]`.

Each trained model goes through the optimizer once for each precision, with its default tolerance; what wins answers the
unseen inputs in the runtime that would serve it. Nothing here is timed.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from bench_optimizer.made import make
from bench_optimizer.trained import MODELS, Array, Trained
from pilotfish.api.report import Report
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.workers import Worker

QUICK = BenchmarkPlan(rounds=1, extra_rounds=0, min_runs=3, min_seconds=0.01, max_seconds=0.2, concurrencies=())
PRECISIONS = ("FP32", "BF16", "INT8")
ROW = "{:<10} {:<9} {:<22} {:>9} {:>9} {:>8} {:>7}  {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one precision gave."""

    report: Report
    accuracy: float


def main() -> None:
    """Compare the models named on the command line, or all."""
    print(ROW.format("model", "asked", "served", "original", "served", "points", "MB", "refused or failed"), flush=True)
    for name in sys.argv[1:] or MODELS:
        trained = MODELS[name]()
        before = accuracy(_ask(trained), trained.answers)
        for precision in PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                show(name, precision, before, optimize(name, trained, precision, Path(folder)))


def optimize(name: str, trained: Trained, precision: str, folder: Path) -> Outcome:
    """The artifact of one precision and its accuracy on the unseen inputs."""
    made = make(
        name,
        trained.module,
        {trained.input: trained.calibration},
        folder,
        output="logits",
        optimization={"precisions": [precision], "batchSizes": [1]},
        labels=trained.labels,
        plan=QUICK,
    )
    inputs = folder / "unseen.safetensors"
    save_file({trained.input: np.ascontiguousarray(trained.unseen)}, inputs)
    with Worker(made.subject(inputs), work=folder) as worker:
        (answers,) = worker.run(batch=1).values()
    return Outcome(report=made.report, accuracy=accuracy(answers, trained.answers))


def accuracy(logits: Array, answers: Array) -> float:
    """Share of inputs whose largest output is the right one."""
    return float((logits.argmax(1) == answers).mean())


def show(name: str, precision: str, before: float, outcome: Outcome) -> None:
    """One row, and why the others did not win."""
    report, points = outcome.report, 100 * (outcome.accuracy - before)
    reasons = "; ".join(f"{c.variant}: {c.reason}" for c in report.candidates if c.reason)
    figures = (f"{before:.2%}", f"{outcome.accuracy:.2%}", f"{points:+.2f}", f"{report.artifact.bytes / 1e6:.2f}")
    print(ROW.format(name, precision, report.winner, *figures, reasons[:200]), flush=True)


def _ask(trained: Trained) -> Array:
    with torch.no_grad():
        parts = [trained.module(part).numpy() for part in torch.from_numpy(trained.unseen).split(256)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
