"""What was measured of one point, and when one point beats another. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from pilotfish.api.optimization import Objective
from pilotfish.api.tuning import PointLoad
from pilotfish.optimizer.tuning.settings import Setting

MIN_GAIN = 0.05
"""A lead below this is no win whatever the spread says."""
MOST_SPREAD = 0.5
BOUND_FACTOR = 10
LEAST_BOUND_MS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One window of load: times in milliseconds, throughput in inferences per second."""

    requests: int
    throughput: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    contended: bool = False


@dataclass(slots=True, kw_only=True)
class Tried:
    """One point with its rounds by concurrency. `failed` and `pruned` say why there are no more of them."""

    setting: Setting
    rounds: dict[int, list[Round]] = field(default_factory=dict)
    failed: str | None = None
    pruned: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it may win."""
        return self.failed is None and self.pruned is None and bool(self.rounds)

    @property
    def contended(self) -> bool:
        """Whether some load was never measured in calm."""
        return any(all(r.contended for r in rounds) for rounds in self.rounds.values() if rounds)

    def loads(self) -> tuple[PointLoad, ...]:
        """Figures by concurrency, smallest first."""
        return tuple(summarize(concurrency, self.rounds[concurrency]) for concurrency in sorted(self.rounds))

    def load(self, concurrency: int) -> PointLoad | None:
        """Figures at one concurrency."""
        rounds = self.rounds.get(concurrency)
        return summarize(concurrency, rounds) if rounds else None


def summarize(concurrency: int, rounds: Sequence[Round]) -> PointLoad:
    """Medians over the rounds; calm rounds alone where there are some."""
    used = [r for r in rounds if not r.contended] or list(rounds)
    return PointLoad(
        concurrency=concurrency,
        throughput=round(statistics.median(r.throughput for r in used), 3),
        p50_ms=round(statistics.median(r.p50_ms for r in used), 4),
        p95_ms=round(statistics.median(r.p95_ms for r in used), 4),
        p99_ms=round(statistics.median(r.p99_ms for r in used), 4),
        requests=sum(r.requests for r in used),
        spread=_spread([r.throughput for r in used]),
        p95_spread=_spread([r.p95_ms for r in used]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is best. `top` is the most requests at once; `bound_ms` holds for Throughput."""

    objective: Objective
    top: int
    bound_ms: float | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """Concurrencies in the order in which they decide."""
        if self.objective is Objective.LATENCY:
            return (1, self.top)
        return tuple(dict.fromkeys((self.top, max(2, self.top // 4), 1)))

    def bound_from(self, start: Tried) -> float:
        """The latency bound that holds: the one that was given, else from the start's single requests."""
        if self.bound_ms is not None:
            return self.bound_ms
        alone = start.load(1)
        return max(LEAST_BOUND_MS, BOUND_FACTOR * alone.p95_ms) if alone else LEAST_BOUND_MS

    def scored(self, tried: Tried, bound_ms: float) -> PointLoad | None:
        """For Throughput: the load with the most inferences per second within the bound."""
        within = [load for load in tried.loads() if load.p95_ms <= bound_ms]
        return max(within, key=lambda load: load.throughput, default=None)

    def compare(self, one: Tried, other: Tried, bound_ms: float) -> int:
        """1: `one` is better beyond the noise, -1: `other` is, 0: neither."""
        if self.objective is Objective.LATENCY:
            return _compare_latency(one, other, self.top)
        mine, theirs = self.scored(one, bound_ms), self.scored(other, bound_ms)
        if mine is None or theirs is None:
            return _compare_bounds(one, other, (mine is not None) - (theirs is not None))
        return _larger(mine.throughput, theirs.throughput, max(mine.spread, theirs.spread))


def lead(better: float, worse: float) -> float:
    """How much larger one positive figure is than another, as a share of the other."""
    return better / worse - 1 if worse > 0 else float("inf")


def threshold(spread: float) -> float:
    """The smallest lead that is no noise."""
    return max(MIN_GAIN, min(spread, MOST_SPREAD))


def _compare_latency(one: Tried, other: Tried, top: int) -> int:
    """By p95 of single requests; a lead that costs more throughput than it gains is none; ties go by throughput."""
    mine, theirs = one.load(1), other.load(1)
    if mine is None or theirs is None:
        return (mine is not None) - (theirs is not None)
    by_latency = _larger(theirs.p95_ms, mine.p95_ms, max(mine.p95_spread, theirs.p95_spread))
    my_top, their_top = one.load(top), other.load(top)
    if my_top is None or their_top is None:
        return by_latency
    spread = max(my_top.spread, their_top.spread)
    if by_latency == 0:
        return _larger(my_top.throughput, their_top.throughput, spread)
    winner, loser = (mine, theirs) if by_latency > 0 else (theirs, mine)
    won, lost = (my_top, their_top) if by_latency > 0 else (their_top, my_top)
    gained, paid = lead(loser.p95_ms, winner.p95_ms), lead(lost.throughput, won.throughput)
    return 0 if paid > max(gained, threshold(spread)) else by_latency


def _compare_bounds(one: Tried, other: Tried, within: int) -> int:
    """Where not both keep the bound: who does, else whose smallest load is faster."""
    mine, theirs = one.loads(), other.loads()
    if within or not mine or not theirs:
        return within or (bool(mine) - bool(theirs))
    spread = max(mine[0].p95_spread, theirs[0].p95_spread)
    return _larger(theirs[0].p95_ms, mine[0].p95_ms, spread)


def _larger(mine: float, theirs: float, spread: float) -> int:
    if lead(mine, theirs) > threshold(spread):
        return 1
    return -1 if lead(theirs, mine) > threshold(spread) else 0


def _spread(values: Sequence[float]) -> float:
    median = statistics.median(values)
    if median <= 0 or len(values) < 2:  # noqa: PLR2004 - one value has no spread
        return 0.0
    return round(2 * statistics.median(abs(v - median) for v in values) / median, 4)
