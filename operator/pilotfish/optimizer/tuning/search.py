"""The search: a few sensible starts, then one setting after the other, then the best against the default once more.

Knows no server and no clock of its own: a `Bench` opens points and measures rounds, `clock` says how late it is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pilotfish.api.optimization import Objective
from pilotfish.api.tuning import Tunable, TuningPoint
from pilotfish.optimizer.tuning.ending import Ending
from pilotfish.optimizer.tuning.figures import Goal, Round, Tried, lead
from pilotfish.optimizer.tuning.settings import Setting, Space

HOPELESS = 0.4
"""A first round that is worse by this share than the best point ends a point."""


_LEAST_TURNS = 2
"""Turns of the confirmation that time is kept for; a lead in all of them counts, or in most of more."""


class PointError(Exception):
    """The server does not load or serve this point; the text says why."""


class TuningError(Exception):
    """Nothing can be measured at all; the text says why."""


class Bench(Protocol):
    """A server that serves one point at a time."""

    def open(self, setting: Setting) -> None:
        """Serve this point from now on. Raises PointError, or TuningError when no point can be served."""

    def measure(self, concurrency: int) -> Round:
        """One round under so many requests at once. Raises PointError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """How much is measured. `rounds` of each load, up to `extra_rounds` more in place of disturbed ones."""

    seconds: float = 90.0
    rounds: int = 3
    extra_rounds: int = 2
    confirmations: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the search found. `tried` holds the start first."""

    tried: tuple[Tried, ...]
    winner: Tried
    bound_ms: float
    complete: bool
    why: str
    points: tuple[TuningPoint, ...]


@dataclass(slots=True, kw_only=True)
class Search:
    """One search. `say` takes a share from 0 to 1 and what is being tried."""

    space: Space
    goal: Goal
    bench: Bench
    plan: SearchPlan
    clock: Callable[[], float]
    say: Callable[[float, str], None] = lambda _share, _what: None
    _tried: dict[Setting, Tried] = field(default_factory=dict)
    _began: float = 0.0
    _dearest: float = 0.0
    _turn: float = 0.0
    _bound: float = 0.0
    _opened: Setting | None = None

    def run(self) -> Outcome:
        """Find the best point.

        Raises:
            TuningError: the server cannot be used, or does not even serve the start.
        """
        self._began = self.clock()
        start = self._try(self.space.start, against=None)
        if start.failed is not None:
            raise TuningError(f"Triton does not serve the default settings: {start.failed}")
        self._bound = self.goal.bound_from(start)
        best = start
        for setting in self._starts():
            best = self._better_of(best, setting)
        complete = False
        while not complete and not self._late():
            before = best
            for what in self._order():
                best = self._descend(what, best)
            complete = best is before and not self._late()
        best = self._confirm(start, self._simplest(best))
        ended = Ending(goal=self.goal, bound_ms=self._bound, start=start, winner=best, points=len(self._tried))
        return Outcome(
            tried=tuple(self._tried.values()),
            winner=best,
            bound_ms=self._bound,
            complete=complete,
            why=ended.why(),
            points=tuple(ended.point(tried) for tried in self._tried.values()),
        )

    def _starts(self) -> Iterable[Setting]:
        space, start = self.space, self.space.start
        at_once = space.without_wait(start)
        yield at_once
        if self.goal.objective is Objective.THROUGHPUT:
            yield space.spread_out(at_once)
            yield (space.line(Tunable.MAX_BATCH_SIZE, at_once) or (at_once,))[-1]
        if space.accelerators:
            yield from space.line(None, at_once)

    def _order(self) -> tuple[Tunable | None, ...]:
        batching = (Tunable.MAX_BATCH_SIZE, Tunable.MAX_QUEUE_DELAY, Tunable.PREFERRED_SIZES)
        if self.goal.objective is Objective.LATENCY:
            return (Tunable.MAX_QUEUE_DELAY, Tunable.THREADS, Tunable.INSTANCES, None, *batching)
        return (Tunable.INSTANCES, *batching, Tunable.THREADS, None)

    def _descend(self, what: Tunable | None, best: Tried) -> Tried:
        """Walk up and down one setting while it gets better."""
        for side in self.space.around(what, best.setting):
            for setting in side:
                if self._late():
                    return best
                found = self._better_of(best, setting)
                if found is best:
                    break
                best = found
        return best

    def _better_of(self, best: Tried, setting: Setting) -> Tried:
        if setting in self._tried or self._late():
            return best
        tried = self._try(setting, against=best)
        if not tried.usable:
            return best
        return tried if self.goal.compare(tried, best, self._bound) > 0 else best

    def _try(self, setting: Setting, *, against: Tried | None) -> Tried:
        began = self.clock()
        loaded = began
        tried = self._tried[setting] = Tried(setting=setting)
        self.say(min(1.0, (began - self._began) / self.plan.seconds), str(setting))
        try:
            self._open(setting)
            loaded = self.clock()
            for level in self.goal.levels:
                self._measure(tried, level, against=against)
                if tried.pruned or self._decided(tried, level, against):
                    break
        except PointError as error:
            tried.failed = str(error)
        self._price(tried, opening=loaded - began, rounds=self.clock() - loaded)
        return tried

    def _price(self, tried: Tried, *, opening: float, rounds: float) -> None:
        """Learn what a point and a turn of the confirmation take."""
        counted = sum(map(len, tried.rounds.values()))
        if not tried.usable or not counted:
            return
        one = rounds / counted
        decisive = 2 if self.goal.objective is Objective.LATENCY else 1
        self._dearest = max(self._dearest, opening + one * self.plan.rounds * decisive)
        self._turn = max(self._turn, opening + one * len(self.goal.levels))

    def _open(self, setting: Setting) -> None:
        if setting != self._opened:
            self._opened = None
            self.bench.open(setting)
            self._opened = setting

    def _measure(self, tried: Tried, level: int, *, against: Tried | None) -> None:
        rounds = tried.rounds.setdefault(level, [])
        for _ in range(self.plan.rounds + self.plan.extra_rounds):
            rounds.append(self.bench.measure(level))
            if len(rounds) == 1 and against is not None and level == self.goal.levels[0]:
                tried.pruned = self._hopeless(tried, against)
                if tried.pruned:
                    return
            calm = sum(not r.contended for r in rounds)
            if calm >= self.plan.rounds or (calm == 0 and len(rounds) >= self.plan.rounds):
                return  # who is disturbed all the time gains nothing by more rounds

    def _hopeless(self, tried: Tried, against: Tried) -> str | None:
        mine, best = (one.load(self.goal.levels[0]) for one in (tried, against))
        if mine is None or best is None:
            return None
        if self.goal.objective is Objective.LATENCY:
            if lead(mine.p95_ms, best.p95_ms) > HOPELESS + best.p95_spread:
                return f"p95 {mine.p95_ms:.3g} ms in its first round, {best.p95_ms:.3g} ms with {against.setting}"
            return None
        if lead(best.throughput, mine.throughput) > HOPELESS + best.spread:
            said = f"{mine.throughput:.0f} inferences/s in its first round, {best.throughput:.0f}"
            return f"{said} with {against.setting}"
        return None

    def _decided(self, tried: Tried, level: int, against: Tried | None) -> bool:
        """Whether the other concurrencies cannot change anything; the start is measured at all of them."""
        if against is None:
            return False
        if self.goal.objective is Objective.LATENCY:
            alone = Tried(setting=against.setting, rounds={1: against.rounds.get(1, [])})
            return self.goal.compare(tried, alone, self._bound) < 0
        load = tried.load(level)
        return load is not None and load.p95_ms <= self._bound

    def _late(self) -> bool:
        """Whether another point would take the time that the confirmation needs."""
        reserve = self._dearest + 2 * _LEAST_TURNS * self._turn
        return self._over(reserve)

    def _over(self, more: float) -> bool:
        """Whether so many more seconds would be too many."""
        return self.clock() - self._began + more > self.plan.seconds

    def _simplest(self, best: Tried) -> Tried:
        """The simplest of those that are as good as the best."""
        equal = [t for t in self._tried.values() if t.usable and self.goal.compare(best, t, self._bound) <= 0]
        return min((best, *equal), key=lambda t: self.space.simplicity(t.setting))

    def _confirm(self, start: Tried, best: Tried) -> Tried:
        """Measure both in turns, so that a calm minute favours nobody.

        The best was chosen among many for its figures: it must lead in most of the new turns as well.
        """
        if best is start:
            return start
        won = turns = 0
        while turns < self.plan.confirmations and (turns < _LEAST_TURNS or not self._over(2 * self._turn)):
            turn = {}
            for tried in (start, best):
                try:
                    turn[tried.setting] = self._turn_of(tried, sorted({*start.rounds, *best.rounds}))
                except PointError as error:
                    if tried is best:
                        tried.failed = str(error)
                    return start
            turns += 1
            won += self.goal.compare(turn[best.setting], turn[start.setting], self._bound) > 0
        confirmed = 2 * won > turns and self.goal.compare(best, start, self._bound) > 0
        return best if confirmed else start

    def _turn_of(self, tried: Tried, levels: list[int]) -> Tried:
        """One round at every concurrency; counted for the point, and by itself."""
        self._open(tried.setting)
        turn = Tried(setting=tried.setting, rounds={level: [self.bench.measure(level)] for level in levels})
        for level, rounds in turn.rounds.items():
            tried.rounds.setdefault(level, []).extend(rounds)
        return turn
