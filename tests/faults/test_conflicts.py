"""P7: the API server says Conflict to any write, once or three times in a row."""

import os
from collections import Counter

import pytest

from support.faults.plan import Act, Fault, Plan, draw
from support.faults.run import campaign, problems
from support.faults.workloads import WORKLOADS, chosen

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

FAST = ("first", "update that fails")
PLANS = int(os.environ.get("PILOTFISH_FAULT_PLANS", "0"))
MOST_EXTRA = 2
"""Writes that a conflict may cost, the refused one left out."""


def conflicting(references, names):
    """A plan for every write of every workload, refused once or three times."""
    return [
        (WORKLOADS[name], Plan((Fault(act=Act.ANSWER, code=409, nth=nth, times=times),)))
        for name in names
        for nth in range(1, len(references[name].trace.writes) + 1)
        for times in (1, 3)
    ]


def repeated(outcome):
    """Writes to children that changed nothing, because the pass before had done the same."""
    stored = Counter(
        (e.about.kind, e.about.name, (e.stored or {}).get("metadata", {}).get("resourceVersion"))
        for e in outcome.trace.writes
        if e.code in {200, 201} and e.about.kind != "Event"
    )
    return sum(count - 1 for count in stored.values())


def judge(outcome, reference, plan):
    """As always, and what a conflict cost."""
    conflicts = sum(e.told == 409 for e in outcome.trace.writes)
    extra = repeated(outcome) - repeated(reference)
    found = problems(outcome, reference, plan)
    if extra > MOST_EXTRA * conflicts:
        found.append(f"{conflicts} conflicts cost {extra} writes that changed nothing")
    return found


async def test_p7_a_conflict_is_met_by_looking_again(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    runs = draw(conflicting(references, FAST), 6, seed=seed)
    (await campaign(stage, runs, references, judge=judge)).check()


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p7_every_write_once_and_three_times(stage, seed):
    references = await stage.references(*chosen().values())
    runs = conflicting(references, chosen())
    verdicts = await campaign(stage, draw(runs, PLANS or len(runs), seed=seed), references, judge=judge)
    verdicts.report(f"P7, of {len(runs)} plans")
    verdicts.check()
