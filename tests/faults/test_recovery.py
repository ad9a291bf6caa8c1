"""P14: out of every invalid and every failing state a good spec leads back to one that is served, by nobody's hand."""

import pytest

from pilotfish import names
from pilotfish.api.reasons import Reason
from support.fuzz.states import all_states, store
from support.specs import make_wanted
from support.world import World

STATES = all_states()
GOOD = {**make_wanted("v9", replicas=2), "storage": {}}


def few(states):
    """Of the refused specs every sixth, of the models' own faults every third; of all others every one."""
    invalid = [state for state in states if state.name.startswith("invalid")]
    models = [state for state in states if state.behaviour is not None]
    return [state for state in states if state not in invalid and state not in models] + models[::3] + invalid[::6]


FEW = few(STATES)


def check_recovery(state):
    world = state.world()
    _is_told(state, world)
    if state.name.startswith("invalid") and "storage" in (state.bad or {}):
        return  # What cannot change later needs the storage that it has.
    world.around.gpus = 64
    if state.heal is not None:
        state.heal(world)
    good = {**GOOD, "storage": world.body["spec"].get("storage", {})}
    store(world, good)
    world.settle()
    _is_served(world, good)


def _is_told(state, world: World):
    """At rest, with a reason; A serves on."""
    status, reason = world.said("Ready")
    assert reason in set(Reason)
    if state.bad is not None and not state.first and state.keeps_serving and status == "False":
        assert world.reached(), f"nobody serves any more: {world.condition('Ready')}"
        assert world.said("Available")[0] == "True"
    assert status == "False" or names.revision_hash(world.observed_spec()) or state.bad is None


def _is_served(world: World, spec):
    told = world.condition("Ready")
    assert world.said("Ready") == ("True", "Serving"), told
    wanted = names.revision_hash(world.observed_spec())
    assert world.status["stableRevision"]["hash"] == wanted
    assert len(world.reached()) == spec["serving"]["replicas"]
    assert world.next_plan().is_empty


@pytest.mark.parametrize("state", FEW, ids=lambda state: state.name)
def test_a_good_spec_recovers(state):
    check_recovery(state)


@pytest.mark.soak
@pytest.mark.parametrize("state", [s for s in STATES if s not in FEW], ids=lambda state: state.name)
def test_a_good_spec_recovers_from_every_other(state):
    check_recovery(state)


@pytest.mark.parametrize("state", [s for s in STATES if s.heal is not None], ids=lambda state: state.name)
def test_what_heals_around_it_needs_no_edit(state):
    world = state.world()
    state.heal(world)
    world.settle()
    status, _ = world.said("Ready")
    if status == "True":
        return
    # Given up within its deadline: the old one serves, and a new attempt is the user's to ask for.
    assert world.status["phase"] == "Aborted", world.condition("Ready")
    world.act("retry")
    world.settle()
    assert world.said("Ready") == ("True", "Serving"), world.condition("Ready")
