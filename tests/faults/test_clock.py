"""P19: replicas whose clocks are an hour off, and clocks that jump: no promotion comes early, pauses last as long as asked.

A canary in the small world. Before every pass another replica takes over, each with a wall clock of its own; time is what
the API server says, as the operator reads it off the answers.
"""

import os
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pilotfish.adapters.clock import ServerClock
from pilotfish.core import plan
from support import world as small_world
from support.builders import NOW
from support.specs import make_wanted
from support.world import World

SEED = int(os.environ.get("PILOTFISH_SEED", "0"))
HOUR = 3600.0
STEPS = [{"weight": 50, "hold": "1m"}, {"weight": 80, "hold": "2m"}]
PAUSES = 60 + 120


class Replicas:
    """Operators that take turns. `jumps`: their wall clocks are set again now and then."""

    def __init__(self, skews, *, rng, jumps=False, heard=True):
        self.rng, self.jumps, self.heard = rng, jumps, heard
        self.truth = NOW.timestamp()
        self.skews = list(skews)
        self.clocks = [
            ServerClock(wall=lambda n=n: self.truth + self.skews[n], monotonic=lambda: self.truth)
            for n in range(len(self.skews))
        ]

    def plan(self, observed, policy, now):
        """A pass by one of them, right after the answers that it reads."""
        self.truth = now.timestamp()
        if self.jumps and self.rng.random() < 0.2:
            self.skews = [self.rng.choice([-HOUR, 0.0, HOUR]) for _ in self.skews]
        clock = self.rng.choice(self.clocks)
        if self.heard:
            date = datetime.fromtimestamp(int(self.truth), tz=UTC)
            clock.hear(format_datetime(date, usegmt=True), sent=self.truth - 0.01)
        return plan(observed, policy, clock.now())


def rollout_seconds(monkeypatch, replicas):
    """From the candidate's first share of the traffic to all of it, by the API server's time."""
    monkeypatch.setattr(small_world, "plan", replicas.plan)
    world = World()
    world.traffic.rate = 50.0
    world.submit(make_wanted("v1"))
    world.settle()
    checks = {"errorRate": {"max": "0.5"}}
    analysis = {"onNoData": "Pass", "checks": checks, "interval": "5s", "window": "10s"}
    world.submit({**make_wanted("v2"), "rollout": {"strategy": "Canary", "steps": STEPS, "analysis": analysis}})
    world.until(lambda: world.status.get("step", "").startswith("1/2"))
    started = world.moment
    world.until(lambda: world.status["phase"] == "Ready", rounds=4000)
    return (world.moment - started).total_seconds()


def play(monkeypatch, seed, skews, **how):
    return rollout_seconds(monkeypatch, Replicas(skews, rng=random.Random(seed), **how))


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patched:
        return play(patched, 0, [0.0])


def test_the_pauses_are_what_takes_time(reference):
    assert PAUSES - 1 <= reference <= PAUSES + 60


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
@pytest.mark.parametrize("jumps", [False, True], ids=["skewed", "jumping"])
def test_clocks_of_machines_decide_nothing(monkeypatch, reference, seed, jumps):
    found = play(monkeypatch, seed, [HOUR, -HOUR, 0.0], jumps=jumps)
    assert found >= PAUSES - 1, f"promoted early: {found:g} s, seed {seed}"
    assert found == pytest.approx(reference, abs=10), f"seed {seed}"


def test_without_the_servers_time_this_would_be_seen(monkeypatch, reference):
    found = play(monkeypatch, 1, [HOUR, 0.0], heard=False)
    assert abs(found - reference) > 60, "clocks that are off no longer show: the test above proves nothing"


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)], ids=["back", "ahead"])
def test_a_server_whose_clock_is_set_ends_no_rollout(monkeypatch, jump):
    """Time is then what it says; the rollout goes on and ends."""
    replicas = Replicas([0.0], rng=random.Random(0))
    monkeypatch.setattr(small_world, "plan", replicas.plan)
    world = World()
    world.traffic.rate = 50.0
    world.submit(make_wanted("v1"))
    world.settle()
    world.submit({**make_wanted("v2"), "rollout": {"strategy": "Canary", "steps": STEPS}})
    world.until(lambda: world.status.get("step", "").startswith("1/2"))
    world.moment += jump
    world.until(lambda: world.status["phase"] == "Ready", rounds=8000)
    assert world.said("Ready") == ("True", "Serving")
