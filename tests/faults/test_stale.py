"""P5: passes that see an old view of everything, while what they write is real."""

import os

import pytest

from support.faults.oracles import unexpected
from support.faults.plan import EVERYTHING, FOR_EVER, Act, Fault, On, Plan, draw
from support.faults.run import campaign
from support.faults.workloads import WORKLOADS, chosen

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

BACK = (1, 5, EVERYTHING)
READS = 40
"""Two passes and a bit: each reads the object and one list of each kind."""
FAST = ("first", "update that fails")
PLANS = int(os.environ.get("PILOTFISH_FAULT_PLANS", "0"))


LAGGING = ("ModelDeployment", "Job", "Deployment", "Pod", "ControllerRevision", "Service")


def frozen(references, names, *, every):
    """From every so manieth read on the view stands still; and the same for an operator that has just started again."""
    runs = []
    for name in names:
        trace = references[name].trace
        reads = sum(On.READ in e.about.on for e in trace.exchanges)
        for back in BACK:
            view = {"act": Act.FREEZE, "on": On.READ, "times": READS, "back": back}
            runs += [(WORKLOADS[name], Plan((Fault(nth=nth, **view),))) for nth in range(1, reads, every)]
            runs += [
                (WORKLOADS[name], Plan((Fault(act=Act.CRASH_AFTER, nth=nth), Fault(nth=reads // 2, **view))))
                for nth in range(2, len(trace.writes) + 1, max(1, every // 2))
            ]
    return runs


def lagging(names):
    """What one stream, or all of them, tells comes late each time: the cache is behind."""
    return [
        (WORKLOADS[name], Plan((Fault(act=Act.DELAY, on=On.EVENT, kind=kind, seconds=seconds, times=FOR_EVER),)))
        for name in names
        for kind in (*LAGGING, "")
        for seconds in (0.2, 0.7)
    ]


def judge(outcome, reference, plan):
    """0 wrong deletes, 0 duplicate creates; the end state was compared already."""
    found = []
    for verb in ("created", "deleted"):
        for title, count in outcome.counts[verb].items():
            if count > reference.counts[verb][title]:
                found.append(f"{title} was {verb} {count} times, {reference.counts[verb][title]} in the reference run")
    found += [f"status: {violation}" for violation in outcome.violations]
    found += [f"log: {line}" for line in unexpected(outcome.lines, plan)]
    return found


async def test_p5_a_stale_view_deletes_nothing_wrong_and_makes_nothing_twice(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    runs = draw(frozen(references, FAST, every=4), 4, seed=seed) + draw(lagging(FAST), 3, seed=seed)
    (await campaign(stage, runs, references, judge=judge)).check(most_unmet=0.5)


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p5_three_hundred_stale_views(stage, seed):
    references = await stage.references(*chosen().values())
    runs = [*frozen(references, chosen(), every=4), *lagging(chosen())]
    runs = draw(runs, PLANS or len(runs), seed=seed)
    verdicts = await campaign(stage, runs, references, judge=judge)
    verdicts.report("P5")
    verdicts.check(most_unmet=0.5)


async def test_the_operator_asks_for_no_old_view(stage):
    """Whatever it decides by is read at the newest version: no resourceVersion in any get or list."""
    references = await stage.references(WORKLOADS["first"])
    reads = [e for e in references["first"].trace.exchanges if On.READ in e.about.on]
    assert reads
    assert not [e.query for e in reads if "resourceVersion" in e.query]
