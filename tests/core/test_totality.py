"""plan() has an answer to anything: statuses with holes, half-made objects. And it changes nothing that it gets."""

import copy
import random

import pytest

from pilotfish.core import observe, plan
from support.builders import NOW, POLICY
from support.neighbours import DAMAGED, GOOD, UNLOADABLE
from support.specs import make_wanted, uri
from support.status_check import check_status
from support.world import World


def make_worlds():
    """Observed objects of worlds in different stages."""
    for behaviour in (GOOD, UNLOADABLE, DAMAGED, "SourceNotFound"):
        world = World()
        world.around.models[uri("v2")] = behaviour
        world.submit(make_wanted("v1"))
        world.settle()
        world.submit(make_wanted("v2"))
        for _ in range(6):
            for actor in world.actors():
                world.step(actor)
            yield world.body, [o for o in world.cluster.everything() if o["kind"] not in {"Event", "ModelDeployment"}]


STAGES = list(make_worlds())


def holes(value, rng):
    """The value with parts missing or emptied."""
    if isinstance(value, dict):
        return {k: holes(v, rng) for k, v in value.items() if rng.random() > 0.05}
    if isinstance(value, list | tuple):
        kept = [holes(v, rng) for v in value if rng.random() > 0.05]
        return kept if rng.random() > 0.05 else []
    return value


@pytest.mark.parametrize("seed", range(60))
def test_statuses_with_holes(seed):
    rng = random.Random(seed)
    body, objects = rng.choice(STAGES)
    broken = [{**o, **({"status": holes(o["status"], rng)} if "status" in o else {})} for o in copy.deepcopy(objects)]
    owner = {**body, "status": holes(copy.deepcopy(body["status"]), rng)}
    made = plan(observe(owner, broken), POLICY, NOW)
    if made.status is not None:
        check_status(made.status)


@pytest.mark.parametrize("seed", range(30))
def test_children_that_are_gone(seed):
    rng = random.Random(seed)
    body, objects = rng.choice(STAGES)
    left = [o for o in objects if rng.random() > 0.3]
    made = plan(observe(body, left), POLICY, NOW)
    if made.status is not None:
        check_status(made.status)


def test_the_same_arguments_give_the_same_plan_and_stay_as_they_were():
    for body, objects in STAGES:
        before = copy.deepcopy((body, objects))
        shuffled = random.Random(1).sample(objects, len(objects))
        assert plan(observe(body, objects), POLICY, NOW) == plan(observe(body, shuffled), POLICY, NOW)
        assert (body, objects) == before


def test_a_revision_record_that_is_none_is_passed_over():
    body, objects = STAGES[0]
    odd = [{**o, "data": {"mine": 1}} if o["kind"] == "ControllerRevision" else o for o in objects]
    made = plan(observe(body, odd), POLICY, NOW)
    assert made.deletes == ()
