"""Objects as the operator's own rules leave them, pass by pass, through the lives that a rollout can have."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

from support.neighbours import UNLOADABLE, WRONG
from support.specs import make_wanted, uri
from support.world import World

CANARY = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}], "analysis": {"minRequests": 0}}


class Recorder:
    """A world that keeps every different object that its operator stored."""

    def __init__(self) -> None:
        self.world = World()
        self.bodies: list[dict[str, Any]] = []

    def submit(self, version: str, **more: Any) -> None:
        """Ask for a version; seen before the operator has looked at it as well."""
        self.world.submit({**make_wanted(version, gpus=0, replicas=2), "rollout": CANARY, **more})
        self.look()

    def act(self, verb: str) -> None:
        """Ask for an action, as a person would."""
        self.world.act(verb, f"{verb}-{len(self.bodies)}")
        self.look()

    def until(self, there: Callable[[dict[str, Any]], bool]) -> None:
        """Go on until status is so, and about the present spec."""

        def probe() -> bool:
            self.look()
            body = self.bodies[-1]
            status = body.get("status", {})
            return status.get("observedGeneration") == body["metadata"]["generation"] and there(status)

        self.world.until(probe)

    def look(self) -> None:
        """Keep the object as it is now."""
        body = copy.deepcopy(self.world.body)
        if not self.bodies or body != self.bodies[-1]:
            self.bodies.append(body)


def _is_ready(status: dict[str, Any]) -> bool:
    return status.get("phase") == "Ready"


def _holds(status: dict[str, Any]) -> bool:
    return bool(status.get("phase") == "Canarying")


def _aborted(status: dict[str, Any]) -> bool:
    return status.get("phase") == "Aborted"


def _promoted_and_retried() -> Recorder:
    """First, canary that holds, pause, promotion, abort by hand, retry, promotion of all."""
    life = Recorder()
    life.submit("v1")
    life.until(_is_ready)
    life.submit("v2")
    life.until(_holds)
    life.world.pause()
    life.look()
    life.world.settle()
    life.look()
    life.world.pause(False)
    life.act("abort")
    life.until(_aborted)
    life.world.settle()
    life.look()
    life.act("retry")
    life.until(_holds)
    life.act("promote")
    life.until(_is_ready)
    return life


def _fails(how: str) -> Recorder:
    life = Recorder()
    life.submit("v1")
    life.until(_is_ready)
    life.world.around.models[uri("v2")] = how
    life.submit("v2")
    life.until(_aborted)
    life.world.settle()
    life.look()
    return life


def _first_fails() -> Recorder:
    life = Recorder()
    life.world.around.models[uri("v1")] = UNLOADABLE
    life.submit("v1")
    life.until(lambda status: status.get("phase") == "Stalled")
    return life


def _refused() -> Recorder:
    """A spec of a newer contract: what the schema would have refused."""
    life = Recorder()
    life.submit("v1")
    life.until(_is_ready)
    life.world.submit({**make_wanted("v1"), "rollout": {"strategy": "Canary", "steps": [{"weight": 500}]}})
    life.until(lambda status: status.get("phase") == "Stalled")
    return life


@cache
def recorded_objects() -> tuple[dict[str, Any], ...]:
    """All of them, without those that differ in nothing but their name's other fields."""
    lives = (_promoted_and_retried(), _fails(UNLOADABLE), _fails(WRONG), _first_fails(), _refused())
    return tuple(body for life in lives for body in life.bodies)
