"""What was proven is lost or changed while it serves: a condition says what to do, and doing it is enough."""

from datetime import timedelta

import pytest

from pilotfish.core.objects import name_of
from support.neighbours import DAMAGED, Neighbours
from support.specs import make_wanted, uri
from support.world import World


def optimizations(world):
    """How often a Job was made for an artifact."""
    return sum(e.verb == "apply" and e.kind == "Job" and e.name.endswith("-optimize") for e in world.cluster.effects)


def lose_pods(world):
    for pod in world.cluster.find("Pod", {"pilotfish.dev/component": "triton"}):
        world.cluster.remove_now("Pod", name_of(pod))


@pytest.mark.parametrize("restarted", [False, True])
def test_an_artifact_that_is_lost_while_it_serves_is_made_again_when_its_record_is_deleted(restarted, monkeypatch):
    # The played kubelet looks at the record, which is not there for a while.
    monkeypatch.setattr(Neighbours, "_uri_of", lambda _self, _pod: uri("v1"))
    world = World()
    world.submit(make_wanted("v1"))
    world.settle()
    assert (world.said("Ready"), optimizations(world)) == (("True", "Serving"), 1)
    world.happens("the store is lost", lambda: world.around.models.update({uri("v1"): DAMAGED}))
    lose_pods(world)
    world.go_on(timedelta(minutes=5))
    assert world.said("Ready") == ("False", "ArtifactDigestMismatch")
    (record,) = world.cluster.find("ControllerRevision")
    advice = f'delete ControllerRevision "{name_of(record)}" to make it again'
    assert advice in world.condition("Ready")["message"]
    assert world.next_plan().is_empty, "it waits for the user and writes nothing"
    world.cluster.remove_now("ControllerRevision", name_of(record))
    world.around.models.clear()  # what is made now is sound
    if restarted:
        world.restart()
    world.go_on(timedelta(minutes=30))
    assert optimizations(world) == 2, "the result of the first Job is not taken for an artifact"
    assert world.said("Ready") == ("True", "Serving")
    assert world.next_plan().is_empty
