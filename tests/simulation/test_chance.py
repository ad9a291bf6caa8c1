"""Random walks: edits, pauses, failures and everybody's steps in an order that the seed decides; the laws hold throughout.

The laws are those of World.check and World.execute: traffic only to ready revisions, somebody serves once somebody has
served, at most one Job per recipe, every stored status consistent.
"""

import contextlib
import random
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from support.neighbours import DAMAGED, FLAKY, OUT_OF_MEMORY, SILENT, SLOW, UNLOADABLE
from support.specs import make_wanted, uri
from support.world import Crash, World

VERSIONS = {
    "v1": None,
    "v2": None,
    "v3": None,
    "flaky": FLAKY,
    "big": OUT_OF_MEMORY,
    "silent": SILENT,
    "slow": SLOW,
    "odd": UNLOADABLE,
    "damaged": DAMAGED,
    "missing": "SourceNotFound",
}


def make_world():
    world = World(always_available=True)
    world.around.models |= {uri(version): behaviour for version, behaviour in VERSIONS.items() if behaviour}
    return world


def edit(world, rng):
    spec = make_wanted(rng.choice(list(VERSIONS)), replicas=rng.choice([1, 1, 2]))
    world.submit({**spec, "paused": rng.random() < 0.1, "revisionHistoryLimit": rng.choice([0, 2, 5])})


def walk(world, rng, *, edits=12):
    for _ in range(edits):
        edit(world, rng)
        if rng.random() < 0.3:
            world.settle(rng=rng)
        for _ in range(rng.randrange(25)):
            step(world, rng)


def step(world, rng):
    if rng.random() < 0.1:
        world.pass_time(timedelta(seconds=rng.choice([1, 10, 700])))
    if rng.random() < 0.1:
        world.cluster.fault = crash_once(world, rng.choice(["before", "after"]))
    with contextlib.suppress(Crash):
        world.step(rng.choice(world.actors()))
    world.cluster.fault = None


def crash_once(world, when):
    def fault(moment, effect):
        if moment == when:
            world.cluster.fault = None
            raise Crash

    return fault


@pytest.mark.parametrize("seed", range(25))
def test_any_walk_ends_with_the_last_good_spec_served(seed):
    rng = random.Random(seed)
    world = make_world()
    walk(world, rng)
    last = make_wanted(rng.choice(["v1", "v2", "v3"]))
    world.submit(last)
    world.settle(rng=rng)
    assert world.said("Ready") == ("True", "Serving"), "\n".join(world.story)
    assert world.next_plan().is_empty
    assert world.neighbours.free_gpus() == 7, "nobody else holds a GPU"
    revision = names.revision_hash(ModelDeploymentSpec.model_validate(last))
    assert [d["metadata"]["name"] for d in world.cluster.find("Deployment")] == [f"digits-{revision}"]
    assert len(world.cluster.find("ControllerRevision")) <= 6
