"""The checker that runs after every pass refuses what it should: a checker that accepts everything proves nothing."""

import copy

import pytest

from support.specs import make_wanted
from support.status_check import check_status
from support.world import World


@pytest.fixture(scope="module")
def ready():
    world = World()
    world.submit(make_wanted("v1"))
    world.settle()
    return world.body


def condition(body, kind):
    return next(c for c in body["status"]["conditions"] if c["type"] == kind)


def add(kind, status="True", reason="Optimizing"):
    def change(body):
        extra = {**condition(body, "Ready"), "type": kind, "status": status, "reason": reason}
        body["status"]["conditions"].append(extra)

    return change


BREAKS = {
    "unknown field": lambda b: b["status"].update(mood="good"),
    "unknown condition": add("Happy"),
    "twice the same": add("Ready"),
    "ready and working": add("Reconciling"),
    "ready and stuck": add("Stalled", reason="InvalidSpec"),
    "false while present": add("Stalled", status="False"),
    "unknown reason": lambda b: condition(b, "Ready").update(reason="Because"),
    "another generation": lambda b: condition(b, "Ready").update(observedGeneration=99),
    "no sentence": lambda b: condition(b, "Ready").update(message=""),
    "two lines": lambda b: condition(b, "Ready").update(message="a\nb"),
    "full stop": lambda b: condition(b, "Ready").update(message="It is so."),
    "a time in the sentence": lambda b: condition(b, "Ready").update(message="since 10:20:30"),
    "ready without an artifact": lambda b: condition(b, "ArtifactReady").update(status="False"),
    "healthy though nobody serves": lambda b: condition(b, "Available").update(status="False"),
    "ready with a candidate": lambda b: b["status"].update(candidateRevision={"name": "n", "hash": "h"}),
    "one revision, two roles": lambda b: b["status"].update(candidateRevision=b["status"]["stableRevision"]),
    "ready without a stable revision": lambda b: b["status"].pop("stableRevision"),
    "available without an address": lambda b: b["status"].pop("endpoints"),
    "available without pods": lambda b: b["status"].update(readyReplicas=0),
    "a broken time": lambda b: condition(b, "Ready").update(lastTransitionTime="yesterday"),
}


def test_a_good_status_passes(ready):
    check_status(ready)


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_status_is_refused(ready, name):
    body = copy.deepcopy(ready)
    BREAKS[name](body)
    with pytest.raises(AssertionError):
        check_status(body)
