"""Stories of new bytes at the same address, told by the whole operator in a world that plays along."""

from datetime import timedelta

import pytest

from pilotfish import names
from support.neighbours import ANY_BYTES
from support.specs import make_wanted, uri
from support.world import World

NEW = "sha256:" + "c" * 64
NEWER = "sha256:" + "d" * 64
HOUR = timedelta(hours=1)


def refreshed(version="v1", **more):
    spec = make_wanted(version)
    return {**spec, "model": {**spec["model"], "refresh": {"interval": "1h"}}, **more}


def go_on(world, by):
    """Let time pass, with a pass whenever one is due."""
    until = world.moment + by
    for _ in range(200):
        world.settle(wait=False)
        if world.due is None or world.due > until:
            world.pass_time(until - world.moment)
            world.settle(wait=False)
            return
        world.pass_time(max(world.due - world.moment, timedelta(seconds=1)))
    raise AssertionError("no rest: " + str(world.story[-20:]))


@pytest.fixture
def world():
    """v1 serves and is refreshed."""
    world = World(always_available=True)
    world.submit(refreshed())
    go_on(world, timedelta(minutes=30))
    assert world.said("Ready")[0] == "True"
    return world


def serving(world):
    return world.status["stableRevision"]["sourceDigest"]


def jobs(world):
    return sorted({line.split()[-1] for line in world.story if "applies Job" in line})


def looks(world):
    return sum("applies Job digits-refresh" in line for line in world.story)


def optimizations(world):
    return sum("applies Job" in line and "-optimize" in line for line in world.story)


def test_the_same_bytes_hour_after_hour(world):
    before = jobs(world)
    go_on(world, 5 * HOUR)
    assert looks(world) in {4, 5}
    assert jobs(world) == sorted([*before, "digits-refresh"])
    assert "pin" not in world.status["source"]
    assert world.cluster.look("Job", "digits-refresh") is None
    assert not world.cluster.find("ControllerRevision")[1:]


def test_new_bytes_are_served_and_the_old_ones_serve_meanwhile(world):
    first = world.status["stableRevision"]["hash"]
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    assert serving(world) == NEW
    assert world.status["source"]["pin"] == NEW
    assert world.status["stableRevision"]["hash"] != first
    assert world.said("Ready")[0] == "True"
    revisions = {d["metadata"]["labels"][names.REVISION_LABEL] for d in world.cluster.find("Deployment")}
    assert revisions == {world.status["stableRevision"]["hash"]}
    before = len(world.cluster.find("ControllerRevision"))
    go_on(world, 3 * HOUR)
    assert len(world.cluster.find("ControllerRevision")) == before


def test_old_bytes_that_come_back_need_no_optimization(world):
    first = world.status["stableRevision"]["hash"]
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    world.around.bytes_at[uri("v1")] = ANY_BYTES
    go_on(world, 2 * HOUR)
    assert world.status["stableRevision"]["hash"] == first
    assert optimizations(world) == 2


def test_bytes_that_cannot_be_used_leave_the_old_ones_alone_and_are_not_tried_twice(world):
    world.around.bytes_at[uri("v1")] = NEW
    world.around.models[NEW] = "ModelInvalid"
    go_on(world, 5 * HOUR)
    assert serving(world) == ANY_BYTES
    assert world.said("Available")[0] == "True"
    assert world.said("Ready") == ("False", "ModelInvalid")
    assert optimizations(world) == 2
    assert looks(world) >= 4
    world.around.bytes_at[uri("v1")] = NEWER
    go_on(world, 2 * HOUR)
    assert serving(world) == NEWER
    assert world.said("Ready")[0] == "True"


def test_failing_looks_disturb_nothing(world):
    before = world.status["conditions"]
    world.around.bytes_at[uri("v1")] = "SourceForbidden"
    go_on(world, 4 * HOUR)
    assert world.status["conditions"] == before
    assert world.status["source"]["reason"] == "SourceForbidden"
    assert uri("v1") in world.status["source"]["message"]
    events = [e for e in world.cluster.find("Event") if e["reason"] == "SourceForbidden"]
    assert len(events) == 1
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    assert serving(world) == NEW
    assert "reason" not in world.status["source"]


def test_a_lost_status_loses_no_pin(world):
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    pinned = world.status["stableRevision"]["hash"]
    world.cluster.change_now("ModelDeployment", "digits", lambda body: body.pop("status"))
    go_on(world, HOUR / 2)
    assert world.status["stableRevision"]["hash"] == pinned
    assert world.status["source"]["pin"] == NEW
    assert not world.cluster.find("Deployment")[1:]


def test_turning_refreshing_off_and_on_moves_no_pods(world):
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    pinned = world.status["stableRevision"]["hash"]
    for spec in (make_wanted("v1"), refreshed()):
        world.submit(spec)
        go_on(world, HOUR / 2)
        assert world.status["stableRevision"]["hash"] == pinned
        assert world.status["source"]["pin"] == NEW


def test_another_address_drops_the_pin(world):
    world.around.bytes_at[uri("v1")] = NEW
    go_on(world, 2 * HOUR)
    world.around.bytes_at[uri("v2")] = NEWER
    world.submit(refreshed("v2"))
    go_on(world, HOUR / 2)
    assert serving(world) == NEWER
    assert "pin" not in world.status["source"]


def test_pausing_holds_looks(world):
    world.submit(refreshed(paused=True))
    go_on(world, 5 * HOUR)
    assert looks(world) == 0
    world.submit(refreshed())
    go_on(world, HOUR / 2)
    assert looks(world) == 1
