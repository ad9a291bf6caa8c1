"""The operator dies before or after each of its writes, starts again knowing nothing, and ends in the same place."""

import re

import pytest

from support.neighbours import UNLOADABLE
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.world import Crash, World

_CHANGES = {
    "pilotfish.dev/verifies",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "since",
    "at",
    "analysis",
}
"""Beside what is new in each run: how often was measured. Whoever starts again has to look for a window first."""
_TIMES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\S*")


def canary(version):
    steps = [{"weight": 50, "hold": "1m"}]
    return {**make_wanted(version), "rollout": {"strategy": "Canary", "steps": steps}}


def plain_update(version):
    return make_wanted(version)


WORKLOADS = {
    "update and back": (plain_update, ("v1", "v2", "v1")),
    "update that fails": (plain_update, ("v1", "bad")),
    "canary": (canary, ("v1", "v2")),
    "canary that errs": (canary, ("v1", "erring")),
}


def run(workload, *, crash_at=None, when="after"):
    """The world after all specs; the operator dies at its n-th write, once."""
    make, versions = WORKLOADS[workload]
    world = World(lawful=True, always_available=True)
    world.around.models |= {uri("bad"): UNLOADABLE, uri("erring"): ERRING}
    world.traffic.rate = 20.0
    seen = 0

    def fault(moment, effect):
        nonlocal seen
        if moment != when:
            return
        seen += 1
        if seen == crash_at:
            raise Crash

    world.cluster.fault = fault
    for version in versions:
        world.submit(make(version))
        while not settled(world):
            pass
    return world, seen


def settled(world):
    try:
        world.settle()
    except Crash:
        world.restart()
        return False
    return True


def plain(value):
    """The value without what differs between two runs that mean the same."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in _CHANGES}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return _TIMES.sub("<time>", value) if isinstance(value, str) else value


def ending(world):
    return [plain(body) for body in world.cluster.everything() if body["kind"] != "Event"]


def jobs_started(world):
    return sorted({e.name for e in world.cluster.effects if e.kind == "Job" and e.verb == "apply"})


CASES = pytest.mark.parametrize(
    ("workload", "when"),
    [
        ("update and back", "before"),
        ("update and back", "after"),
        ("update that fails", "after"),
        ("canary", "after"),
        ("canary that errs", "after"),
    ],
)


@CASES
def test_a_crash_at_a_write_ends_in_the_same_place(workload, when):
    check_crashes(workload, when, every=3)


@pytest.mark.soak
@CASES
def test_a_crash_at_any_write_ends_in_the_same_place(workload, when):
    check_crashes(workload, when, every=1)


def check_crashes(workload, when, *, every):
    reference, writes = run(workload, when=when)
    assert writes > 20
    for number in range(1, writes + 1, every):
        world, _ = run(workload, crash_at=number, when=when)
        where = f"crash {when} write {number} of {workload}"
        assert ending(world) == ending(reference), where
        assert jobs_started(world) == jobs_started(reference), where
        assert world.next_plan().is_empty, where


def test_every_child_goes_with_the_object():
    world, _ = run("update and back")
    world.cluster.remove_now("ModelDeployment", "digits")
    assert [body for body in world.cluster.everything() if body["kind"] != "Event"] == []
