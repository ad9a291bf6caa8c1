"""P2 and P22: what is as it should be is not written, and in no state at all is anything written over and over."""

import asyncio

import pytest

from pilotfish.core import plan
from support.fuzz.live import Live
from support.fuzz.states import all_states
from support.virtual_time import run_in_virtual_time

STATES = [state for state in all_states() if not state.name.startswith("invalid")]
INVALID = [state for state in all_states() if state.name.startswith("invalid")]
MINUTES = 10
EVERY = 3
"""Of the states that the model's own fault makes, every so-manyth is in the fast part."""


def few():
    models = [state for state in STATES if state.behaviour is not None]
    return [state for state in STATES if state not in models] + models[::EVERY] + INVALID[::20]


FEW = few()


def check_idempotent(world):
    """P2: the same snapshot gives the same plan, and once it is carried out there is nothing left to do."""
    observed = world.observed()
    made = plan(observed, world.policy, world.moment)
    assert plan(observed, world.policy, world.moment) == made
    for _ in range(3):
        world.execute(world.next_plan())
    assert world.next_plan().is_empty, world.next_plan()


def check_quiet(world):
    """P22: ten minutes of the real loop with nothing happening; what was written to which object."""

    async def story():
        live = Live(world=world)
        with live.running():
            await live.quiet(seconds=1, within=60)
            before = live.counted.writes.copy()
            passes = live.passes
            for _ in range(MINUTES * 6):
                await asyncio.sleep(10)
            return live.counted.writes - before, live.passes - passes, live.logged

    return run_in_virtual_time(story())


def check(state):
    world = state.world()
    check_idempotent(world)
    written, passes, logged = check_quiet(world)
    # A canary whose requests are judged is not at rest: each measurement is in its status, one an interval of 15 s.
    most = 4 * MINUTES if world.status["phase"] == "Canarying" else MINUTES
    often = {what: count for what, count in written.items() if count > most}
    assert not often, f"within {MINUTES} minutes: {often}"
    assert passes <= 6 * MINUTES, f"{passes} passes for nothing"
    assert not [entry for entry in logged if entry["log_level"] in {"error", "critical"}], logged


@pytest.mark.parametrize("state", FEW, ids=lambda state: state.name)
def test_no_state_is_a_hot_loop(state):
    check(state)


@pytest.mark.soak
@pytest.mark.parametrize("state", [s for s in (*STATES, *INVALID) if s not in FEW], ids=lambda state: state.name)
def test_no_other_state_is_a_hot_loop(state):
    check(state)
