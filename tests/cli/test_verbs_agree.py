"""What the command line calls pointless is what the operator calls pointless, in every situation of a rollout."""

import pytest

from pilotfish.cli import requests
from pilotfish.cli.requests import Pointless, standing_of
from support.neighbours import UNLOADABLE, WRONG
from support.specs import make_wanted, uri
from support.world import World

CANARY = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}], "analysis": {"minRequests": 0}}


def wanted(version):
    return {**make_wanted(version, gpus=0, replicas=2), "rollout": CANARY}


def first_on_its_way():
    world = World()
    world.submit(wanted("v1"))
    world.reconcile()
    return world


def serving():
    world = World()
    world.submit(wanted("v1"))
    world.settle()
    return world


def second_on_its_way():
    world = serving()
    world.submit(wanted("v2"))
    world.reconcile()
    return world


def at_a_step():
    world = second_on_its_way()
    world.until(lambda: stage_of(world) == "Stepping")
    return world


def failed(how):
    world = serving()
    world.around.models[uri("v2")] = how
    world.submit(wanted("v2"))
    world.settle()
    return world


def aborted():
    world = at_a_step()
    world.act("abort", "by-hand")
    world.settle()
    return world


def promoted():
    world = at_a_step()
    world.act("promoteFull", "by-hand")
    world.settle()
    return world


def undone():
    world = promoted()
    target = requests.known_revisions(world.observed())[-1]
    all_the_way(world, "undo-by-hand", target)
    return world


def all_the_way(world, number, target):
    """Undo to a revision; where that is a canary again, promote it."""
    world.act("undo", number, toRevision=target)
    world.until(lambda: world.status.get("rollout", {}).get("lastActionId") == number)
    world.until(lambda: stage_of(world) == "Stepping" or stable_of(world) == target)
    if stage_of(world) == "Stepping":
        world.act("promoteFull", f"{number}-all-the-way")
        world.until(lambda: stable_of(world) == target)


def stage_of(world):
    return world.status.get("rollout", {}).get("stage")


def stable_of(world):
    return world.status["stableRevision"]["hash"]


SITUATIONS = {
    "the first revision is on its way": first_on_its_way,
    "all is quiet": serving,
    "a second revision is on its way": second_on_its_way,
    "a canary holds": at_a_step,
    "it cannot be loaded": lambda: failed(UNLOADABLE),
    "it answers wrongly": lambda: failed(WRONG),
    "it was aborted": aborted,
    "it was promoted": promoted,
    "it was undone": undone,
}
ASK = {
    "promote": lambda at, observed: requests.promote(at, "asked", full=False),
    "promoteFull": lambda at, observed: requests.promote(at, "asked", full=True),
    "abort": lambda at, observed: requests.abort(at, "asked"),
    "retry": lambda at, observed: requests.retry(at, "asked"),
}


@pytest.mark.parametrize("verb", ASK)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_same_verdict(situation, verb):
    world = SITUATIONS[situation]()
    standing = standing_of(world.body)
    assert standing.fresh
    try:
        ASK[verb](standing, world.observed())
        pointless = False
    except Pointless:
        pointless = True
    world.act(verb, "asked")
    world.reconcile()
    rollout = world.status["rollout"]
    assert rollout["lastActionId"] == "asked"
    assert ("nothing to" in rollout["actionMessage"]) is pointless, rollout["actionMessage"]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_default_of_undo_is_a_revision_that_the_operator_takes(situation):
    world = SITUATIONS[situation]()
    try:
        request = requests.undo(standing_of(world.body), world.observed(), "asked", to_revision=None)
    except Pointless:
        assert situation in {"the first revision is on its way", "all is quiet", "it was undone"}
        return
    target = request.patch["spec"]["rollout"]["action"]["toRevision"]
    if situation in {"a second revision is on its way", "a canary holds"}:
        assert target == stable_of(world), "in the middle of a rollout it goes back"
    all_the_way(world, "asked", target)
    world.reconcile()
    assert stable_of(world) == target
    assert (world.status.get("candidateRevision") or {}).get("hash") in {None, target}
