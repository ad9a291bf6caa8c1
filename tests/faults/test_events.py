"""P1: nothing depends on an event. Watch events come late, in any order, merged, or not at all; the end is the same.

PILOTFISH_SEED=<n> starts at another seed; `make soak` tries 2,000 schedules.
"""

import json
import os
import random
import re

import pytest

from support.fuzz.endings import FRESH, plain
from support.fuzz.live import Live
from support.neighbours import UNLOADABLE, Surroundings
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.virtual_time import run_in_virtual_time
from support.world import World

SEED = int(os.environ.get("PILOTFISH_SEED", "0"))
FEW, MANY = 24, 2000
WITHOUT = FRESH | {"analysis", "achieved", "startedAt", "readyAt"}
_MEASURED = re.compile(r"error rate \d+ % > 1 % over 60 s, \d+ requests")


def canary(version):
    return {**make_wanted(version), "rollout": {"strategy": "Canary", "steps": [{"weight": 50, "hold": "1m"}]}}


WORKLOADS = {
    "update and back": (make_wanted, ("v1", "v2", "v1")),
    "update that fails, and its cure": (make_wanted, ("v1", "bad", "v2")),
    "canary": (canary, ("v1", "v2")),
    "canary that errs": (canary, ("v1", "erring")),
}


def ending(workload, **schedule):
    """Everything but events, once all is quiet after the last edit."""
    make, versions = WORKLOADS[workload]
    world = World(around=Surroundings(models={uri("bad"): UNLOADABLE, uri("erring"): ERRING}))
    world.traffic.rate = 20.0

    async def story():
        live = Live(world=world, **schedule)
        world.submit(make(versions[0]))
        with live.running():
            await live.quiet()
            for version in versions[1:]:
                live.now()
                world.submit(make(version))
                await live.quiet()
        return live

    live = run_in_virtual_time(story())
    assert not [entry for entry in live.logged if entry["log_level"] in {"error", "critical"}]
    bodies = (plain(body, without=WITHOUT) for body in world.cluster.everything() if body["kind"] != "Event")
    return [_MEASURED.sub("<measured>", json.dumps(body, sort_keys=True)) for body in bodies], live


REFERENCE = {}


def reference(workload):
    """Where every event arrives at once."""
    if workload not in REFERENCE:
        REFERENCE[workload], live = ending(workload)
        assert live.passes > 10
    return REFERENCE[workload]


def check(seed):
    rng = random.Random(seed)
    workload = rng.choice(list(WORKLOADS))
    lost, late = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0]), rng.choice([0.0, 1.0, 20.0, 200.0])
    found, _ = ending(workload, rng=rng, lost=lost, late=late)
    told = f"PILOTFISH_SEED={seed}: {workload}, {lost:.0%} of the events lost, others up to {late:g} s late"
    different = [(a, b) for a, b in zip(found, reference(workload), strict=False) if a != b]
    assert len(found) == len(reference(workload)), told
    assert not different, f"{told}: {different[:1]}"


@pytest.mark.parametrize("seed", range(SEED, SEED + FEW))
def test_any_schedule_of_events_ends_in_the_same_place(seed):
    check(seed)


@pytest.mark.soak
def test_two_thousand_schedules_of_events_end_in_the_same_place():
    for seed in range(SEED, SEED + MANY):
        check(seed)
