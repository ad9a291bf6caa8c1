"""Measure live workers side by side: rounds interleaved, disturbed rounds repeated, spread said.

Then a short look at several callers at once. That look decides nothing: callers wait for each other by design, so
nobody can tell whether somebody else disturbed it.
"""

import os
import statistics
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from pilotfish.api.report import Latency, Measurement
from pilotfish.api.report_sections import Histogram, Load
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import Worker, WorkerError

CONTENDED = 0.08
"""Share of a round spent waiting for a CPU above which the round is measured again."""
BINS = 24
"""Of a histogram; the last one holds what is slower than 99 % of all calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPlan:
    """How much is measured. One round of one model at one batch size takes `min_seconds` to `max_seconds`."""

    rounds: int = 5
    extra_rounds: int = 3
    min_runs: int = 20
    min_seconds: float = 0.1
    max_seconds: float = 2.0
    concurrencies: tuple[int, ...] = (2, 4)
    load_seconds: float = 0.4
    """Of one look at several callers, at the first batch size."""


@dataclass(slots=True)
class Measured:
    """What was seen of one model."""

    measurements: tuple[Measurement, ...] = ()
    peak_memory_bytes: int = 0
    contended: bool = False
    subject: Subject | None = None


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
    loads = _loads(workers, batch=batch_sizes[0], plan=plan)
    told = {name: _summary({b: series[name, b] for b in batch_sizes}, plan, loads[name]) for name in workers}
    for name, worker in workers.items():
        told[name].subject = worker.subject
    return told


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


def _loads(workers: Mapping[str, Worker], *, batch: int, plan: BenchmarkPlan) -> dict[str, tuple[Load, ...]]:
    """Several callers of each model, one model at a time. One that cannot be called so has no figures."""
    found: dict[str, list[Load]] = {name: [] for name in workers}
    for callers in plan.concurrencies:
        for name, worker in workers.items():
            try:
                reply = worker.load(callers=callers, batch=batch, seconds=plan.load_seconds)
            except WorkerError:
                continue
            if times := reply["times"]:
                found[name].append(
                    Load(
                        concurrency=callers,
                        throughput=round(batch * len(times) / reply["seconds"], 3),
                        latency_ms=round(statistics.median(times) * 1e3, 6),
                    )
                )
    return {name: tuple(loads) for name, loads in found.items()}


def _summary(by_batch: Mapping[int, _Series], plan: BenchmarkPlan, loads: tuple[Load, ...]) -> Measured:
    first = next(iter(by_batch))
    contended = any(len(s.clean) < plan.rounds for s in by_batch.values())
    return Measured(
        measurements=tuple(
            _measurement(batch, s, plan, loads if batch == first else ()) for batch, s in by_batch.items()
        ),
        peak_memory_bytes=max(s.peak for s in by_batch.values()),
        contended=contended,
    )


def _measurement(batch: int, series: _Series, plan: BenchmarkPlan, loads: tuple[Load, ...]) -> Measurement:
    calmest = [times for _, times in sorted(series.noisy, key=lambda n: n[0])]
    rounds = (series.clean + calmest)[: plan.rounds]
    medians = [statistics.median(times) for times in rounds]
    median = statistics.median(medians)
    every = sorted(t for times in rounds for t in times)
    deviation = statistics.median(abs(m - median) for m in medians)
    return Measurement(
        batch=batch,
        latency_ms=Latency(
            median=round(median * 1e3, 6),
            p95=round(quantile(every, 0.95) * 1e3, 6),
            p99=round(quantile(every, 0.99) * 1e3, 6),
        ),
        throughput=round(batch / median, 3),
        spread=round(2 * deviation / median, 4),
        runs=len(every),
        rounds=tuple(round(m * 1e3, 6) for m in medians),
        histogram=make_histogram([t * 1e3 for t in every]),
        loads=loads,
    )


def make_histogram(ordered: Sequence[float], *, bins: int = BINS) -> Histogram:
    """Equal bins up to the 99 % quantile and one for the rest; `ordered` are sorted milliseconds, at least one."""
    least, most = ordered[0], ordered[-1]
    high = quantile(ordered, 0.99)
    if high <= least:
        return Histogram(edges=(round(least, 6), round(max(most, least), 6)), counts=(len(ordered),))
    steps = [least + (high - least) * i / (bins - 1) for i in range(bins)]
    inner = [bisect_left(ordered, upper) - bisect_left(ordered, low) for low, upper in pairwise(steps)]
    return Histogram(edges=tuple(round(e, 6) for e in (*steps, most)), counts=(*inner, len(ordered) - sum(inner)))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the sorted ones lie below; at least one value."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
