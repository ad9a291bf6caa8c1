"""P8: 410 Gone in a stream, as the answer to a watch, and at a relist while objects were deleted."""

from dataclasses import replace

import pytest

from pilotfish.core.objects import ref_of
from support.faults.plan import FOR_EVER, Act, Fault, On, Plan, draw
from support.faults.run import SPEED, campaign, problems
from support.faults.workloads import WORKLOADS, chosen

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

FAST = ("first", "update that fails")
BACK_WITHIN = 60.0
"""Seconds, generous: the figure is measured on a quiet machine, `waits` has it."""
RESYNC = 20
KINDS = ("ModelDeployment", "Job", "Deployment", "Pod", "Service", "ControllerRevision")


def in_stream(references, names, *, every=1):
    """The stream says 410 instead of an event; the event itself is lost."""
    return [
        (WORKLOADS[name], Plan((Fault(act=Act.SAY, on=On.EVENT, code=410, nth=nth),)))
        for name in names
        for nth in range(1, len(references[name].trace.events) + 1, every)
    ]


def as_answer(names):
    """The watch of a kind is refused with 410 the first time, and a list too."""
    return [
        (WORKLOADS[name], Plan((Fault(act=Act.ANSWER, on=on, code=410, kind=kind),)))
        for name in names
        for kind in KINDS
        for on in (On.WATCH, On.LIST)
    ]


def waits(outcome):
    """Seconds from each broken stream until the next one of its kind was asked for."""
    opened = [(e.about.kind, e.at) for e in outcome.trace.exchanges if e.about.watch]
    for event in (e for e in outcome.trace.events if e.fault is not None):
        yield (
            event.kind,
            min((at - event.at for kind, at in opened if kind == event.kind and at > event.at), default=None),
        )


def judge(outcome, reference, plan):
    """A watch that cannot begin ends the process: its successor counts. A stream that broke off is back in time."""
    found = problems(outcome, reference, plan)
    if plan.faults[0].on is not On.EVENT:
        found = [line for line in found if not line.startswith(("the operator ended", "log:"))]
    found += [
        f"the watch of {kind} was not back within {BACK_WITHIN:g} s: {waited}"
        for kind, waited in waits(outcome)
        if waited is None or waited > BACK_WITHIN
    ]
    return found


async def test_p8_gone_in_a_stream_or_as_an_answer_is_followed_by_a_new_list(stage, seed):
    references = await stage.references(*(WORKLOADS[name] for name in FAST))
    runs = draw(in_stream(references, FAST), 3, seed=seed) + draw(as_answer(FAST), 3, seed=seed)
    (await campaign(stage, runs, references, judge=judge)).check()


@pytest.mark.soak
@pytest.mark.timeout(10_800)
async def test_p8_every_event_and_every_kind(stage, seed):
    references = await stage.references(*chosen().values())
    runs = [*in_stream(references, chosen(), every=3), *as_answer(chosen())]
    verdicts = await campaign(stage, runs, references, judge=judge)
    back = sorted(waited * SPEED for _, _, outcome in verdicts.outcomes for _, waited in waits(outcome) if waited)
    verdicts.report(f"P8, a watch was back after {back[len(back) // 2]:.1f} s (median), {back[-1]:.1f} s at most")
    verdicts.check()


@pytest.mark.parametrize("kind", ["Deployment", "ConfigMap"])
async def test_p8_what_is_deleted_while_nobody_watches_leaves_no_phantom(stage, kind):
    """The stream says 410, its relist is held up, the object goes meanwhile: no DELETED ever comes."""
    admin = stage.admin
    async with stage.living(WORKLOADS["first"], resync=RESYNC) as run:
        (before,) = [body for body in await run.children() if body["kind"] == kind]
        ref = ref_of(before)
        gone = Fault(act=Act.SAY, on=On.EVENT, kind=kind, code=410)
        late = Fault(act=Act.DELAY, on=On.LIST, kind=kind, seconds=1.0, times=FOR_EVER)
        run.counted.set(Plan((gone, late)))
        await admin.patch(ref, {"metadata": {"annotations": {"touched": "1"}}}, manager="somebody")
        await run.until(lambda: gone in run.counted.acted)
        await admin.delete(ref)
        deleted = run.pace.seconds()

        async def is_back():
            found = await admin.get(replace(ref, uid=None))
            return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

        await run.until(is_back)
        assert run.pace.seconds() - deleted <= RESYNC + 30, "more than a resync and the lists that were held up"
