"""P13: twenty edits of any field to any value, good and bad, one after the other; the last good one is what is served.

PILOTFISH_SEED=<n> starts at another seed; `make soak` walks 200 times.
"""

import os

import pytest

from support.fuzz.wander import Wander

SEED = int(os.environ.get("PILOTFISH_SEED", "0"))
FEW, MANY = 12, 200


def walk(seed):
    wander = Wander(seed)
    try:
        wander.run()
    except AssertionError as error:
        story = "\n".join(wander.world.story[-40:])
        raise AssertionError(f"PILOTFISH_SEED={seed}: {error}\n{story}") from error
    return wander


@pytest.mark.parametrize("seed", range(SEED, SEED + FEW))
def test_any_walk_ends_with_the_last_good_spec_served(seed):
    wander = walk(seed)
    assert wander.taken > 2


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(SEED + FEW, SEED + MANY))
def test_many_walks(seed):
    walk(seed)
