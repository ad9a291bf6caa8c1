"""The search on servers that are formulas: what it finds, what it does not try, how it ends, and its whole story."""

from dataclasses import replace
from pathlib import Path

import pytest

from pilotfish.api.optimization import Objective
from pilotfish.api.tuning import Accelerator, PointVerdict, Tunable
from pilotfish.optimizer.tuning.figures import Goal
from pilotfish.optimizer.tuning.search import PointError, Search, SearchPlan, TuningError
from pilotfish.optimizer.tuning.settings import Setting, Space
from pilotfish.optimizer.tuning.telling import tell_story
from pilotfish.optimizer.tuning.tune import confirm_answers
from support.simulated_server import Simulated

RECORDED = Path(__file__).parent / "recorded"
ALL = frozenset(Tunable)


def space(*, cores=4, free=ALL, largest=32, **more):
    start = more.pop("start", Setting(threads=cores))
    return Space(start=start, free=free, cores=cores, largest_batch=largest, **more)


def run(server, where=None, *, objective=Objective.THROUGHPUT, top=16, bound_ms=None, **plan):
    goal = Goal(objective=objective, top=top, bound_ms=bound_ms)
    return Search(
        space=where or space(cores=server.cores), goal=goal, bench=server, plan=SearchPlan(**plan), clock=server.clock
    ).run()


BIG = {"overhead_ms": 0.5, "sample_ms": 20, "parallel": 0.95}
SMALL = {"overhead_ms": 2.0, "sample_ms": 0.05, "parallel": 0.0}
SERIAL = {"overhead_ms": 0.2, "sample_ms": 4.0, "parallel": 0.1}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_latency_of_a_big_model_wants_all_threads_and_no_wait(seed):
    won = run(Simulated(**BIG, seed=seed), objective=Objective.LATENCY).winner.setting
    assert (won.instances, won.threads, won.delay_us) == (1, 4, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_throughput_of_a_serial_model_wants_instances(seed):
    server = Simulated(**SERIAL, seed=seed)
    outcome = run(server)
    assert (outcome.winner.setting.instances, outcome.winner.setting.threads) == (4, 1)
    best = max(
        server.figures(Setting(max_batch=b, instances=i, threads=t, delay_us=d), 16)[1]
        for b in (8, 16, 32) for i, t in ((1, 4), (1, 2), (1, 1), (2, 2), (2, 1), (4, 1)) for d in (0, 500, 2000, 5000)
    )  # fmt: skip
    assert server.figures(outcome.winner.setting, 16)[1] > 0.95 * best, "what a full grid would find"
    assert len(outcome.tried) < 20


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_throughput_of_a_small_model_wants_large_batches(seed):
    outcome = run(Simulated(**SMALL, cores=2, seed=seed), top=32)
    assert outcome.winner.setting.max_batch >= 16


def test_a_lead_inside_the_noise_is_no_win():
    """Nothing matters to this server: the default stays, however noisy the figures are."""
    for seed in range(8):
        server = Simulated(overhead_ms=0, sample_ms=5, parallel=0, cores=1, noise=0.03, seed=seed)
        where = space(cores=1, start=Setting(delay_us=0))
        outcome = run(server, where, objective=Objective.LATENCY)
        assert outcome.winner.setting == where.start, f"seed {seed}"
        assert "beyond the noise" in outcome.why


def test_what_the_user_wrote_stays():
    where = space(free=frozenset({Tunable.THREADS}), start=Setting(instances=2, threads=2, delay_us=300, max_batch=8))
    server = Simulated(**SERIAL)
    outcome = run(server, where, objective=Objective.LATENCY)
    assert {(s.instances, s.delay_us, s.max_batch, s.preferred) for s in server.opened} == {(2, 300, 8, ())}
    assert all(s.instances * s.threads <= 4 for s in server.opened)
    recorded = where.result(outcome.winner.setting).to_wire()
    assert set(recorded) == {"intraOpThreads", "cores"}


def test_no_point_needs_more_than_the_cpu_limit_or_larger_batches_than_were_proven():
    for cores in (1, 2, 3, 4, 8):
        server = Simulated(**SERIAL, cores=cores)
        run(server, space(cores=cores, largest=16), top=64)
        assert all(s.instances * s.threads <= cores for s in server.opened)
        assert all(8 <= s.max_batch <= 16 for s in server.opened), "clients may send as many samples as by default"


def test_a_model_that_is_not_batched_has_no_batcher_to_tune():
    server = Simulated(**SERIAL)
    where = space(batched=False, start=Setting(max_batch=1, threads=4))
    outcome = run(server, where)
    assert {(s.max_batch, s.delay_us) for s in server.opened} == {(1, 2000)}
    assert "maxBatchSize" not in where.result(outcome.winner.setting).to_wire()


def test_the_latency_bound_counts():
    """Large batches are faster in all, but a request in one takes longer than it may."""
    server = Simulated(overhead_ms=30, sample_ms=1, parallel=0, cores=1)
    free = run(server, space(cores=1), top=32, bound_ms=10_000)
    bound = run(Simulated(overhead_ms=30, sample_ms=1, parallel=0, cores=1), space(cores=1), top=32, bound_ms=60)
    level = bound.winner.loads()
    assert max(load.throughput for load in level if load.p95_ms <= 60) < free.winner.load(32).throughput
    assert any(load.p95_ms <= 60 for load in level)


def test_hopeless_points_cost_one_round():
    server = Simulated(**BIG)
    outcome = run(server, objective=Objective.LATENCY)
    pruned = [p for p in outcome.points if p.verdict is PointVerdict.PRUNED]
    assert pruned
    assert all(len(t.rounds[1]) == 1 for t in outcome.tried if t.pruned)


def test_a_point_that_does_not_load_is_told_and_passed_over():
    outcome = run(Simulated(**SERIAL, breaks={"instances": 4}))
    assert outcome.winner.setting.instances == 2
    failed = [p for p in outcome.points if p.verdict is PointVerdict.FAILED]
    assert failed[0].reason == "not enough memory"


def test_a_default_that_does_not_load_ends_the_search():
    with pytest.raises(TuningError, match="not enough memory"):
        run(Simulated(breaks={"instances": 1}))


@pytest.mark.parametrize("seconds", [15, 30, 60])
def test_time_is_kept(seconds):
    server = Simulated(**SERIAL)
    outcome = run(server, seconds=seconds)
    assert server.now <= seconds
    if seconds == 15:
        assert not outcome.complete


def test_disturbed_rounds_are_measured_again_and_do_not_decide():
    for seed in range(5):
        server = Simulated(**SERIAL, disturbed=0.3, seed=seed)
        outcome = run(server, seconds=200)
        assert outcome.winner.setting.instances == 4, f"seed {seed}"


def test_figures_that_were_always_disturbed_are_told():
    assert run(Simulated(**SERIAL, disturbed=1)).why.endswith("; other processes were at work all the time")
    assert "other processes" not in run(Simulated(**SERIAL, disturbed=0.2), seconds=200).why


def test_a_small_lead_in_latency_is_not_worth_half_of_the_throughput():
    """One instance with both threads answers a little sooner, two instances do nearly twice as much."""
    server = Simulated(overhead_ms=0.1, sample_ms=10, parallel=0.25, cores=2, noise=0.005)
    alone, spread = Setting(threads=2, delay_us=0), Setting(instances=2, threads=1, delay_us=0)
    assert 1.05 < server.figures(spread, 1)[0] / server.figures(alone, 1)[0] < 1.2
    assert server.figures(spread, 16)[1] / server.figures(alone, 16)[1] > 1.7
    won = run(server, objective=Objective.LATENCY).winner.setting
    assert (won.delay_us, won.max_batch) == (0, 8)


def test_accelerators_are_candidates_on_gpus():
    class Gpu(Simulated):
        def figures(self, s, concurrency):
            latency, throughput = super().figures(replace(s, threads=1), concurrency)
            factor = {None: 1.0, Accelerator.TENSORRT_FP32: 1.4, Accelerator.TENSORRT_FP16: 2.5}[s.accelerator]
            return latency / factor, throughput * factor

    server = Gpu(**SMALL)
    where = space(gpu=True, accelerators=tuple(Accelerator))
    won = run(server, where, seconds=200).winner.setting
    assert won.accelerator is Accelerator.TENSORRT_FP16
    refused = Gpu(**SMALL, breaks={"accelerator": Accelerator.TENSORRT_FP16})
    assert run(refused, where, seconds=200).winner.setting.accelerator is Accelerator.TENSORRT_FP32


def test_a_winner_that_answers_otherwise_does_not_serve():
    server = Simulated(**SERIAL)
    outcome = run(server)
    refusal = "output 'y': relative error 0.31 is above 0.0001"
    checked = confirm_answers(outcome, Refusing(server, refusal))
    assert checked.winner is outcome.tried[0]
    verdicts = {p.verdict: p.reason for p in checked.points}
    assert verdicts[PointVerdict.FAILED] == refusal
    assert verdicts[PointVerdict.WON] == checked.why == f"{outcome.winner.setting} was the best, but {refusal}"
    assert confirm_answers(outcome, Refusing(server, None)) is outcome


class Refusing:
    """A bench whose answers are compared."""

    def __init__(self, server, refusal):
        self.open, self.refusal = server.open, refusal

    def check(self, setting):
        if self.refusal:
            raise PointError(self.refusal)


STORIES = {
    "throughput_of_a_serial_model": (SERIAL, {"objective": Objective.THROUGHPUT}),
    "throughput_of_a_small_model": (SMALL, {"objective": Objective.THROUGHPUT}),
    "latency_of_a_big_model": (BIG, {"objective": Objective.LATENCY}),
    "out_of_time": (SERIAL, {"objective": Objective.THROUGHPUT, "seconds": 25}),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_as_recorded(name, compare_recorded):
    model, asked = STORIES[name]
    compare_recorded(RECORDED / f"{name}.txt", tell_story(run(Simulated(**model), **asked)) + "\n")
