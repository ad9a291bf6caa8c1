"""Measure live workers side by side: rounds interleaved, disturbed rounds repeated, spread said."""

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilotfish.api.report import Latency, Measurement
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.workers import Worker

CONTENDED = 0.08
"""Share of a round spent waiting for a CPU above which the round is measured again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPlan:
    """How much is measured. One round of one model at one batch size takes `min_seconds` to `max_seconds`."""

    rounds: int = 5
    extra_rounds: int = 3
    min_runs: int = 20
    min_seconds: float = 0.1
    max_seconds: float = 2.0


@dataclass(slots=True)
class Measured:
    """What was seen of one model."""

    measurements: tuple[Measurement, ...] = ()
    peak_memory_bytes: int = 0
    contended: bool = False


@dataclass(slots=True)
class _Series:
    clean: list[list[float]] = field(default_factory=list)
    noisy: list[tuple[float, list[float]]] = field(default_factory=list)
    peak: int = 0


def benchmark(
    workers: Mapping[str, Worker], *, batch_sizes: tuple[int, ...], plan: BenchmarkPlan, progress: Progress
) -> dict[str, Measured]:
    """Figures per model. All models take turns in every round, so that a noisy minute hits them alike."""
    series = {(name, batch): _Series() for batch in batch_sizes for name in workers}
    total = plan.rounds * len(series)
    done = 0
    for index in range(plan.rounds + plan.extra_rounds):
        open_series = [key for key, s in series.items() if len(s.clean) < plan.rounds]
        if not open_series:
            break
        for name, batch in open_series:
            _round(workers[name], series[name, batch], batch=batch, first=index == 0, plan=plan)
            done += 1
            progress.step(done / total, f"round {index + 1}: {name}, batch {batch}")
    return {name: _summary({b: series[name, b] for b in batch_sizes}, plan) for name in workers}


def available_threads(asked: int | None) -> int:
    """The serving pod's CPU limit as said, else what this process may use: affinity and cgroup quota."""
    if asked:
        return asked
    usable = len(os.sched_getaffinity(0))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            usable = min(usable, max(1, int(limit) // int(period)))
    return usable


def _round(worker: Worker, series: _Series, *, batch: int, first: bool, plan: BenchmarkPlan) -> None:
    reply = worker.time(
        batch=batch,
        warmup=4 if first else 1,
        min_runs=plan.min_runs,
        min_seconds=plan.min_seconds,
        max_seconds=plan.max_seconds,
    )
    series.peak = max(series.peak, int(reply["peak"]))
    if reply["waiting"] > CONTENDED:
        series.noisy.append((reply["waiting"], reply["times"]))
    else:
        series.clean.append(reply["times"])


def _summary(by_batch: Mapping[int, _Series], plan: BenchmarkPlan) -> Measured:
    contended = any(len(s.clean) < plan.rounds for s in by_batch.values())
    return Measured(
        measurements=tuple(_measurement(batch, s, plan) for batch, s in by_batch.items()),
        peak_memory_bytes=max(s.peak for s in by_batch.values()),
        contended=contended,
    )


def _measurement(batch: int, series: _Series, plan: BenchmarkPlan) -> Measurement:
    calmest = [times for _, times in sorted(series.noisy, key=lambda n: n[0])]
    rounds = (series.clean + calmest)[: plan.rounds]
    medians = [statistics.median(times) for times in rounds]
    median = statistics.median(medians)
    every = sorted(t for times in rounds for t in times)
    p95 = every[min(len(every) - 1, int(0.95 * len(every)))]
    deviation = statistics.median(abs(m - median) for m in medians)
    return Measurement(
        batch=batch,
        latency_ms=Latency(median=round(median * 1e3, 6), p95=round(p95 * 1e3, 6)),
        throughput=round(batch / median, 3),
        spread=round(2 * deviation / median, 4),
    )
