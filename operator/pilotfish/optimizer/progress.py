"""Progress for people and for log readers: stage, percent, elapsed, remaining. Writes lines and nothing else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from pilotfish.api.job_progress import ProgressNote
from pilotfish.api.job_sources import lesson_sources
from pilotfish.api.optimization import OptimizationSpec
from pilotfish.api.report import StageTiming, one_line

OPTIMIZE_STAGES = {"load": 10, "samples": 3, "convert": 25, "verify": 12, "benchmark": 40, "package": 10}
_TRAINING, _LESSON, _TUNING, _EXPLAINING = 60, 45, 60, 8
FETCH_STAGES = {"fetch": 90, "samples": 10}
REFRESH_STAGES = {"refresh": 100}
VERIFY_STAGES = {"golden": 5, "wait": 25, "verify": 70}


@dataclass(slots=True)
class Board:
    """The last thing that this process said of its progress; progress_server.py shows it to others."""

    note: ProgressNote | None = None

    def show(self, stage: str, percent: float, what: str, seconds_left: float | None) -> None:
        """Put up a note in the place of the one before; what cannot be told is no reason for a run to fail."""
        try:
            self.note = ProgressNote(
                stage=stage,
                percent=min(max(int(percent), 0), 100),
                message=one_line("".join(c if c.isprintable() else " " for c in what), limit=200),
                remaining_seconds=None if seconds_left is None else min(max(round(seconds_left), 0), 10_000_000),
            )
        except ValueError:
            self.note = None


BOARD = Board()


@dataclass(slots=True)
class Progress:
    """Prints one line per event; the share of each stage is its weight over the sum of weights."""

    weights: dict[str, int]
    out: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
    every: float = 1.0
    timings: list[StageTiming] = field(default_factory=list)
    _started: float = 0.0
    _stage: str = ""
    _before: float = 0.0
    _printed: float = -1e9

    def __post_init__(self) -> None:
        """Start the watch."""
        self._started = self.clock()

    @contextmanager
    def stage(self, name: str, what: str = "") -> Iterator[None]:
        """Run one stage, announce it and record how long it took."""
        total = sum(self.weights.values())
        names = list(self.weights)
        self._before = 100 * sum(self.weights[n] for n in names[: names.index(name)]) / total
        self._stage = name
        began = self.clock()
        self._line(self._before, what or "started")
        yield
        self.timings.append(StageTiming(stage=name, seconds=round(self.clock() - began, 3)))
        self._line(self._before + 100 * self.weights[name] / total, f"done in {self.clock() - began:.1f} s")

    def step(self, done: float, what: str, *, force: bool = False) -> None:
        """Say how far the running stage is; `done` from 0 to 1. At most one line per `every` seconds unless forced."""
        if not force and self.clock() - self._printed < self.every:
            return
        share = 100 * self.weights[self._stage] / sum(self.weights.values())
        self._line(self._before + share * min(max(done, 0.0), 1.0), what)

    def _line(self, percent: float, what: str) -> None:
        now = self.clock()
        self._printed = now
        elapsed = now - self._started
        seconds_left = elapsed * (100 - percent) / percent if percent >= 10 else None  # noqa: PLR2004
        left = "estimating" if seconds_left is None else f"about {clock_text(seconds_left)} left"
        BOARD.show(self._stage, percent, what, seconds_left)
        text = f"{percent:3.0f} %  {self._stage:<9}  {what}  ({clock_text(elapsed)} elapsed, {left})"
        print(text, file=self.out or sys.stdout, flush=True)


def optimize_stages(optimization: OptimizationSpec) -> dict[str, int]:
    """The stages of a run with the training that is asked for, which takes longest."""
    asked = {
        "teacher": (optimization.distill, _LESSON),
        "fineTune": (optimization.fine_tune, _TRAINING),
        "prune": (optimization.prune, _TRAINING),
        "distill": (optimization.distill, _TRAINING),
    }
    training = {name: weight for name, (stage, weight) in asked.items() if stage is not None}
    tuning = {} if optimization.tuning is None else {"tune": _TUNING}
    explaining = {} if optimization.explanations is None else {"explain": _EXPLAINING}
    first, *middle, last = OPTIMIZE_STAGES.items()
    return dict([first, *training.items(), *middle, *tuning.items(), *explaining.items(), last])


def fetch_stages(optimization: OptimizationSpec) -> dict[str, int]:
    """The stages of the container that fetches, with what training needs."""
    further = {lesson.name: _LESSON for lesson in lesson_sources(optimization)}
    return FETCH_STAGES | further


def clock_text(seconds: float) -> str:
    """Seconds as m:ss."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def size_text(count: int) -> str:
    """Bytes for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
