"""P3, P4: the operator dies at any write, once or twice, starts again knowing nothing, and ends where it would have."""

import os
import random
from itertools import combinations

import pytest

from support.faults.plan import Act, Fault, Plan, crash_plans, draw
from support.faults.run import campaign
from support.faults.workloads import WORKLOADS, chosen

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

CRASHES = (Act.CRASH_BEFORE, Act.CRASH_AFTER, Act.LOSE_ANSWER)
FAST = ("first", "update that fails")
PLANS = int(os.environ.get("PILOTFISH_FAULT_PLANS", "0"))
"""Of a soak run: at most so many plans; 0 means all."""


def single(references, names):
    """A plan for every write of every workload, before it, after it, and with its answer lost."""
    return [(WORKLOADS[name], plan) for name in names for plan in crash_plans(len(references[name].trace.writes))]


def double(references, names, *, count, seed):
    """Pairs of crashes, drawn: the second counts from the start, too, so it may fall into what the first left undone."""
    rng = random.Random(seed)
    pairs = [
        (name, Plan(tuple(Fault(act=rng.choice(CRASHES[:2]), nth=nth) for nth in pair), seed=seed))
        for name in names
        for pair in combinations(range(1, len(references[name].trace.writes) + 1), 2)
    ]
    return [(WORKLOADS[name], plan) for name, plan in rng.sample(pairs, min(count, len(pairs)))]


async def test_p3_a_crash_at_a_write_ends_in_the_reference_state(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    verdicts = await campaign(stage, draw(single(references, FAST), 10, seed=seed), references)
    verdicts.check()


async def test_p4_two_crashes_end_in_the_reference_state(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    verdicts = await campaign(stage, double(references, FAST, count=4, seed=seed), references)
    verdicts.check()


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p3_every_write_of_every_workload(stage, seed):
    references = await stage.references(*chosen().values())
    runs = single(references, chosen())
    verdicts = await campaign(stage, draw(runs, PLANS or len(runs), seed=seed), references)
    verdicts.report("P3")
    verdicts.check()


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p4_five_hundred_double_crashes(stage, seed):
    references = await stage.references(*chosen().values())
    verdicts = await campaign(stage, double(references, chosen(), count=PLANS or 500, seed=seed), references)
    verdicts.report("P4")
    verdicts.check()


@pytest.mark.soak
async def test_nothing_is_alarming_without_a_fault(stage):
    """False alarms of the harness itself: the same workloads again, judged like the others."""
    references = await stage.references(*chosen().values())
    verdicts = await campaign(stage, [(workload, Plan()) for workload in chosen().values()] * 3, references)
    verdicts.report("without faults")
    verdicts.check()


if "PILOTFISH_FAULT_PLAN" in os.environ:

    async def test_replay(stage):
        """The plan that a failing test printed."""
        workload = WORKLOADS[os.environ["PILOTFISH_FAULT_WORKLOAD"]]
        references = await stage.references(workload)
        runs = [(workload, Plan.from_json(os.environ["PILOTFISH_FAULT_PLAN"]))]
        (await campaign(stage, runs, references)).check(most_unmet=1)
