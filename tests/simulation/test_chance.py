"""Random walks: edits, actions, pauses, failures, thieves of GPUs, deaths of the operator; the laws hold throughout.

`make soak` walks on from here until many more states were checked. PILOTFISH_SEED=<n> starts at another seed.
"""

import os

import pytest

from support.walks import Walk

FIRST = int(os.environ.get("PILOTFISH_SEED", "0"))
WALKS = 24


@pytest.mark.parametrize("seed", range(FIRST, FIRST + WALKS))
def test_any_walk_keeps_the_laws_and_ends_with_the_last_good_spec_served(seed):
    walk = Walk(seed)
    try:
        walk.run()
    except AssertionError as error:
        raise AssertionError(f"PILOTFISH_SEED={seed}: {error}\n{walk.told()}") from error
