"""From single latencies to the figures of a concurrency level. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

BUSY = 0.85
"""Of one core: above it, Python's one lock is what limits the load."""
GAIN = 1.05
"""Throughput below so many times the level before has stopped growing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What one concurrency gave. Latencies in milliseconds, by name: mean, p50, p90, p95, p99."""

    concurrency: int
    requests: int
    """Answered well."""
    errors: int
    seconds: float
    batch_size: int
    latency: dict[str, float]
    client_busy: float | None = None
    """Share of one core that this program used; None where another program made the load."""
    first_error: str = ""

    @property
    def throughput(self) -> float:
        """Samples per second."""
        return self.requests * self.batch_size / self.seconds if self.seconds else 0.0

    def to_wire(self) -> dict[str, Any]:
        """As `-o json` prints it."""
        wire = {
            "concurrency": self.concurrency,
            "requests": self.requests,
            "errors": self.errors,
            "seconds": round(self.seconds, 3),
            "samplesPerSecond": round(self.throughput, 2),
            "latencyMs": {name: round(value, 3) for name, value in self.latency.items()},
        }
        if self.client_busy is not None:
            wire["clientBusy"] = round(self.client_busy, 3)
        return {**wire, "firstError": self.first_error} if self.first_error else wire


def summarize(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles of latencies in seconds, as milliseconds; empty when there are none.

    A percentile is the smallest value that so many percent of all are not above.
    """
    if not seconds:
        return {}
    ranked = sorted(seconds)
    at = {f"p{p}": ranked[max(0, ceil(len(ranked) * p / 100) - 1)] for p in (50, 90, 95, 99)}
    return {name: value * 1e3 for name, value in {"mean": sum(ranked) / len(ranked), **at}.items()}


def warnings_about(levels: Sequence[Level], *, through_forward: bool) -> tuple[str, ...]:
    """What keeps these figures from being the server's."""
    told = []
    busy = [level.concurrency for level in levels if (level.client_busy or 0.0) >= BUSY]
    if busy:
        told.append(
            f"at concurrency {', '.join(map(str, busy))} this program itself was the bottleneck; "
            "the server can do more: use perf_analyzer, or several clients"
        )
    if through_forward:
        told.append(
            "every request went through a port-forward, which costs time that your users do not pay; "
            "give --url from inside the cluster for the server's own figures"
        )
    failed = [level for level in levels if level.errors]
    if failed:
        count = sum(level.errors for level in failed)
        told.append(f"{count} requests failed, which no figure counts; the first: {failed[0].first_error}")
    return tuple(told)


def saturation_of(levels: Sequence[Level]) -> int | None:
    """The concurrency from which on more of it no longer gives more; None where it grew to the end."""
    for one, after in pairwise(levels):
        if after.throughput < GAIN * one.throughput:
            return one.concurrency
    return None
