"""Figures from rounds: what a distribution says, that models take turns, and what several callers at once may not spoil."""

from dataclasses import dataclass, field
from itertools import cycle

import pytest

from pilotfish.optimizer.benchmark import BenchmarkPlan, benchmark, make_histogram
from pilotfish.optimizer.progress import OPTIMIZE_STAGES, Progress
from pilotfish.optimizer.workers import WorkerError

PLAN = BenchmarkPlan(rounds=3, extra_rounds=2, concurrencies=(2, 4))


@dataclass
class Played:
    """A worker that answers from a script and writes down when it was asked."""

    name: str
    log: list
    times: list
    waiting: list = field(default_factory=lambda: [0.0])
    breaks_under_load: bool = False
    subject: None = None

    def __post_init__(self):
        self.waits = cycle(self.waiting)

    def time(self, *, batch, **_request):
        self.log.append((self.name, batch))
        return {"times": self.times, "waiting": next(self.waits), "peak": 1000}

    def load(self, *, callers, batch, seconds):
        self.log.append((self.name, f"{callers} callers"))
        if self.breaks_under_load:
            raise WorkerError("one at a time")
        return {"times": self.times * callers, "seconds": 1.0}


def run(*workers, batches=(1, 8), plan=PLAN):
    progress = Progress(OPTIMIZE_STAGES)
    with progress.stage("benchmark"):
        return benchmark({w.name: w for w in workers}, batch_sizes=batches, plan=plan, progress=progress)


def test_models_take_turns_and_several_callers_come_last():
    log = []
    run(Played("a", log, [0.001]), Played("b", log, [0.002]))
    turn = [("a", 1), ("b", 1), ("a", 8), ("b", 8)]
    assert log == turn * 3 + [("a", "2 callers"), ("b", "2 callers"), ("a", "4 callers"), ("b", "4 callers")]


def test_a_disturbed_round_is_measured_again_and_several_callers_do_not_count_as_disturbance():
    log = []
    told = run(Played("a", log, [0.001], waiting=[0.0, 0.5, 0.0, 0.0]), batches=(1,))
    assert log.count(("a", 1)) == 4
    assert not told["a"].contended


def test_figures_of_a_measurement():
    times = [n / 1000 for n in range(1, 101)]
    one = run(Played("a", [], times), batches=(2, 4))["a"].measurements
    assert [m.batch for m in one] == [2, 4]
    assert (one[0].latency_ms.median, one[0].latency_ms.p95, one[0].latency_ms.p99) == (50.5, 96, 100)
    assert (one[0].runs, one[0].rounds) == (300, (50.5, 50.5, 50.5))
    assert sum(one[0].histogram.counts) == 300
    assert [(load.concurrency, load.throughput, load.latency_ms) for load in one[0].loads] == [
        (2, 400, 50.5),
        (4, 800, 50.5),
    ]
    assert one[1].loads == ()


def test_a_runtime_that_takes_one_caller_at_a_time_has_no_figures_for_several_and_is_no_failure():
    told = run(Played("a", [], [0.001], breaks_under_load=True), Played("b", [], [0.001]))
    assert told["a"].measurements[0].loads == ()
    assert len(told["b"].measurements[0].loads) == 2


@pytest.mark.parametrize(
    "times", [[1.0], [1.0, 1.0, 1.0], [1.0, 2.0], [1.0] * 99 + [50.0], [float(n) for n in range(1, 1000)]]
)
def test_a_histogram_counts_every_call_once(times):
    told = make_histogram(times)
    assert sum(told.counts) == len(times)
    assert len(told.edges) == len(told.counts) + 1
    assert list(told.edges) == sorted(told.edges)
    assert (told.edges[0], told.edges[-1]) == (times[0], times[-1])


def test_the_tail_has_a_bin_of_its_own_so_that_one_slow_call_does_not_hide_the_rest():
    told = make_histogram(sorted([1 + n / 1000 for n in range(1000)] + [500.0]))
    assert told.counts[-1] <= 12
    assert max(told.counts[:-1]) < 100
