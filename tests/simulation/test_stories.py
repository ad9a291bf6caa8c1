"""Whole rollouts in words, compared with recorded ones: each line is a write of the operator or what it said."""

from datetime import timedelta
from pathlib import Path

import pytest

from support.neighbours import DAMAGED, SLOW, UNLOADABLE, Surroundings
from support.specs import make_wanted, uri
from support.world import World

RECORDED = Path(__file__).parent / "recorded"
ONE, TWO, BAD = make_wanted("v1"), make_wanted("v2"), make_wanted("bad")


def serve(world, spec):
    world.submit(spec)
    world.settle()


def first_deployment(world):
    serve(world, ONE)
    assert world.said("Ready") == ("True", "Serving")


def update(world):
    serve(world, ONE)
    serve(world, TWO)
    assert world.said("Ready") == ("True", "Serving")


def update_of_two_pods(world):
    serve(world, make_wanted("v1", replicas=2))
    serve(world, make_wanted("v2", replicas=2))
    assert world.status["readyReplicas"] == 2


def update_that_fails_in_its_job(world):
    world.around.models[uri("bad")] = "UnsafeModel"
    serve(world, ONE)
    serve(world, BAD)
    assert world.said("Ready") == ("False", "UnsafeModel")
    assert world.said("Available") == ("True", "Serving")
    serve(world, TWO)
    assert world.said("Ready") == ("True", "Serving")


def update_that_cannot_be_loaded(world):
    world.around.models[uri("bad")] = UNLOADABLE
    serve(world, ONE)
    serve(world, BAD)
    assert world.said("Ready") == ("False", "ModelLoadFailed")
    assert world.status["phase"] == "Aborted"
    assert world.neighbours.free_gpus() == 7


def update_whose_artifact_was_damaged(world):
    world.around.models[uri("bad")] = DAMAGED
    serve(world, ONE)
    serve(world, BAD)
    assert world.said("Ready") == ("False", "ArtifactDigestMismatch")


def update_that_takes_too_long(world):
    world.around.models[uri("bad")] = SLOW
    serve(world, ONE)
    serve(world, BAD)
    world.pass_time(timedelta(minutes=11))
    world.settle()
    assert world.said("Ready") == ("False", "ProgressDeadlineExceeded")
    assert world.neighbours.free_gpus() == 7


def back_to_an_earlier_spec(world):
    serve(world, ONE)
    serve(world, TWO)
    serve(world, ONE)
    assert sum("applies Job" in line and "optimize" in line for line in world.story) == 2


def there_and_back_in_the_middle(world):
    serve(world, ONE)
    world.submit(TWO)
    for _ in range(4):
        world.step(world.reconcile)
        world.step(world.neighbours.control_jobs)
    serve(world, ONE)
    assert world.said("Ready") == ("True", "Serving")


def another_spec_in_the_middle(world):
    serve(world, ONE)
    world.submit(TWO)
    world.step(world.reconcile)
    world.step(world.neighbours.control_jobs)
    serve(world, make_wanted("v3"))
    assert world.said("Ready") == ("True", "Serving")


def no_gpu_is_free(world):
    world.around.gpus = 1
    serve(world, ONE)
    serve(world, TWO)
    assert world.said("Ready") == ("False", "InsufficientGPU")
    assert world.said("Available") == ("True", "Serving")
    world.around.gpus = 2
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def no_gpu_in_time(world):
    world.around.gpus = 1
    serve(world, ONE)
    serve(world, TWO)
    world.pass_time(timedelta(minutes=11))
    world.settle()
    assert world.said("Stalled") == ("True", "InsufficientGPU")
    world.around.gpus = 2
    world.settle()
    assert world.said("Stalled") == ("True", "InsufficientGPU")
    serve(world, {**TWO, "rollout": {"progressDeadline": "20m"}})
    assert world.said("Ready") == ("True", "Serving")


def paused(world):
    serve(world, ONE)
    serve(world, {**TWO, "paused": True})
    assert world.status["phase"] == "Paused"
    serve(world, TWO)
    assert world.said("Ready") == ("True", "Serving")


def only_serving_changes(world):
    serve(world, ONE)
    serve(world, make_wanted("v1", batching={"maxBatchSize": 16}))
    assert sum("applies Job" in line and "optimize" in line for line in world.story) == 1


def scaled(world):
    serve(world, ONE)
    serve(world, make_wanted("v1", replicas=3))
    assert world.status["readyReplicas"] == 3
    serve(world, make_wanted("v1", replicas=1))
    assert world.status["readyReplicas"] == 1


STORIES = {
    story.__name__: story
    for story in (
        first_deployment,
        update,
        update_of_two_pods,
        update_that_fails_in_its_job,
        update_that_cannot_be_loaded,
        update_whose_artifact_was_damaged,
        update_that_takes_too_long,
        back_to_an_earlier_spec,
        there_and_back_in_the_middle,
        another_spec_in_the_middle,
        no_gpu_is_free,
        no_gpu_in_time,
        paused,
        only_serving_changes,
        scaled,
    )
}


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_as_recorded(name, compare_recorded):
    world = World(around=Surroundings(), lawful=True, always_available=True)
    STORIES[name](world)
    assert world.next_plan().is_empty, "what has come to rest asks for nothing"
    compare_recorded(RECORDED / f"{name}.txt", "\n".join(world.story) + "\n")
