"""P6: events that never come, one by one and all of them; the next resync sees what they would have said."""

import os

import pytest

from support.faults.plan import FOR_EVER, Act, Fault, On, Plan, draw
from support.faults.run import campaign
from support.faults.workloads import WORKLOADS, chosen

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

FAST = ("first", "update that fails")
RESYNC = 10
PLANS = int(os.environ.get("PILOTFISH_FAULT_PLANS", "0"))
NOTHING_COMES = Plan((Fault(act=Act.DROP, on=On.EVENT, times=FOR_EVER),))
EVERYTHING_TWICE = Plan((Fault(act=Act.DOUBLE, on=On.EVENT, times=FOR_EVER),))
NO_DELETION = Plan((Fault(act=Act.DROP, on=On.EVENT, type="DELETED", times=FOR_EVER),))


def dropped(references, names):
    """A plan for every event of every workload: it is lost; and one for every stretch of five that is lost."""
    return [
        (WORKLOADS[name], Plan((Fault(act=Act.DROP, on=On.EVENT, nth=nth, times=times),)))
        for name in names
        for times in (1, 5)
        for nth in range(1, len(references[name].trace.events) + 1, times)
    ]


async def test_p6_lost_events_are_made_up_for(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    runs = draw(dropped(references, FAST), 6, seed=seed)
    (await campaign(stage, runs, references, resync=RESYNC)).check()


async def test_p6_without_any_event_every_resync_goes_on_a_step(stage):
    references = await stage.references(WORKLOADS["first"])
    runs = [(WORKLOADS["first"], plan) for plan in (NOTHING_COMES, NO_DELETION, EVERYTHING_TWICE)]
    (await campaign(stage, runs, references, resync=RESYNC)).check(most_unmet=1)


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p6_every_single_event(stage, seed):
    references = await stage.references(*chosen().values())
    runs = dropped(references, chosen())
    verdicts = await campaign(stage, draw(runs, PLANS or len(runs), seed=seed), references, resync=RESYNC)
    verdicts.report(f"P6, of {len(runs)} plans")
    verdicts.check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_p6_all_events_between_two_lists(stage):
    references = await stage.references(*chosen().values())
    runs = [(w, plan) for w in chosen().values() for plan in (NOTHING_COMES, NO_DELETION, EVERYTHING_TWICE)]
    verdicts = await campaign(stage, runs, references, resync=RESYNC)
    verdicts.report("P6, all events")
    verdicts.check(most_unmet=1)
