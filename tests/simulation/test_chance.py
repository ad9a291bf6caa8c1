"""Random walks: edits, actions, pauses, failures, thieves of GPUs, deaths of the operator; the laws hold throughout.

`make soak` walks on from here until many more states were checked. PILOTFISH_SEED=<n> starts at another seed.
"""

import os

import pytest

from support.builders import OWNER
from support.walks import Walk

FIRST = int(os.environ.get("PILOTFISH_SEED", "0"))
WALKS = 24
AUTOSCALED = 8


@pytest.mark.parametrize("seed", range(FIRST, FIRST + AUTOSCALED))
def test_the_laws_hold_under_an_autoscaler(seed):
    """Whatever it writes whenever: nobody who was given up comes back for it, and the last good spec is served."""
    walk = Walk(seed, autoscaled=True)
    try:
        walk.run()
        found = walk.world.cluster.look("HorizontalPodAutoscaler", OWNER.name)
        assert found is not None
        assert not [e for e in walk.world.cluster.effects if e.kind == found["kind"] and e.verb == "delete"]
    except AssertionError as error:
        raise AssertionError(f"PILOTFISH_SEED={seed}: {error}\n{walk.told()}") from error


@pytest.mark.parametrize("seed", range(FIRST, FIRST + WALKS))
def test_any_walk_keeps_the_laws_and_ends_with_the_last_good_spec_served(seed):
    walk = Walk(seed)
    try:
        walk.run()
    except AssertionError as error:
        raise AssertionError(f"PILOTFISH_SEED={seed}: {error}\n{walk.told()}") from error
