"""Whole rollouts in words, compared with recorded ones: canaries step by step, ways back, scarce GPUs.

Every story also holds the laws of support.laws in each of its states.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from support.builders import NOW
from support.neighbours import UNLOADABLE, WRONG, Surroundings
from support.specs import make_wanted, uri
from support.traffic import ERRING, SLUGGISH
from support.world import World

RECORDED = Path(__file__).parent / "recorded"
HELD = [{"weight": 25, "hold": "1m"}, {"weight": 50, "hold": "Forever"}]
BAKE = {"strategy": "BlueGreen", "bake": "2m", "analysis": {}}


def canary(version, *, replicas=3, serving=None, **rollout: Any):
    spec = make_wanted(version, replicas=replicas, **(serving or {}))
    return {**spec, "rollout": {"strategy": "Canary", **rollout}}


def with_rollout(version, *, serving=None, **rollout: Any):
    return {**make_wanted(version, **(serving or {})), "rollout": rollout}


def serve(world, spec):
    world.submit(spec)
    world.settle()


def begin(world, spec, first=None, *, rate=20.0):
    """The first revision serves requests, the second one is asked for."""
    world.traffic.rate = rate
    serve(world, first or {**spec, "model": {"uri": uri("v1")}})
    assert world.said("Ready") == ("True", "Serving")
    world.submit(spec)


def stage_of(world):
    return world.status.get("rollout", {}).get("stage")


def at_step(world, index):
    """The share of that step is reached."""
    step = world.status.get("rollout", {}).get("step") or {}
    return stage_of(world) == "Stepping" and step.get("index") == index and "readyAt" in step


def revision_of(world, role="stableRevision"):
    return world.status[role]["hash"]


def aborted_with(world, reason, *texts):
    assert world.said("Ready") == ("False", reason)
    message = world.condition("Ready")["message"]
    for text in texts:
        assert text in message
    assert message.endswith("keeps serving")
    assert world.status["phase"] == "Aborted"


def served(world, version, *, pods):
    assert world.said("Ready") == ("True", "Serving")
    assert len(world.endpoints()) == pods
    assert {world.neighbours._uri_of(pod) for pod in world.reached()} == {uri(version)}


# A canary's way


def canary_by_default(world):
    begin(world, canary("v2"))
    world.settle()
    served(world, "v2", pods=3)


def canary_that_errs(world):
    world.around.models[uri("v2")] = ERRING
    begin(world, canary("v2"))
    world.settle()
    aborted_with(world, "AnalysisFailed", "step 1/2", "error rate 20 % > 1 %")
    assert len(world.endpoints()) == 3


def canary_that_is_slow(world):
    world.around.models[uri("v2")] = SLUGGISH
    checks = {"meanLatency": {"maxRegression": "0.2"}}
    begin(world, canary("v2", analysis={"checks": checks}))
    world.settle()
    aborted_with(world, "AnalysisFailed", "step 1/2")


def canary_that_answers_wrongly(world):
    world.around.models[uri("v2")] = WRONG
    begin(world, canary("v2"))
    world.settle()
    aborted_with(world, "VerificationFailed", "relative error")
    assert not any("reaches A A A B" in line for line in world.story)


def canary_that_cannot_be_loaded(world):
    world.around.models[uri("v2")] = UNLOADABLE
    begin(world, canary("v2"))
    world.settle()
    aborted_with(world, "ModelLoadFailed", "no such op")


def held_until_it_is_promoted(world):
    begin(world, canary("v2", steps=HELD))
    world.until(lambda: world.said("Ready") == ("False", "Holding"))
    world.go_on(timedelta(hours=1))
    assert world.said("Ready") == ("False", "Holding")
    world.act("promote")
    world.settle()
    served(world, "v2", pods=3)


def promoted_in_full(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.act("promoteFull")
    world.settle()
    served(world, "v2", pods=3)


def aborted_by_the_user(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 1))
    world.act("abort")
    world.settle()
    aborted_with(world, "AbortedByUser", "step 2/2", "action 1")


def retried_after_an_abort(world):
    world.around.models[uri("v2")] = ERRING
    begin(world, canary("v2"))
    world.settle()
    world.happens("v2 does not err any more", world.around.models.clear)
    world.settle()
    aborted_with(world, "AnalysisFailed")
    world.act("retry")
    world.settle()
    served(world, "v2", pods=3)


def undone_and_back(world):
    begin(world, canary("v2", replicas=1, steps=[{"weight": 50}]))
    world.settle()
    first = world.status["history"][0]["revision"]
    world.act("undo", toRevision=first)
    world.settle()
    assert world.said("Ready") == ("True", "Undone")
    assert revision_of(world) == first
    serve(world, canary("v3", replicas=1, steps=[{"weight": 50}]))
    served(world, "v3", pods=1)


# Changes in the middle


def there_and_back_at_a_step(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    serve(world, canary("v1"))
    served(world, "v1", pods=3)


def another_spec_at_a_step(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 1))
    serve(world, canary("v3"))
    served(world, "v3", pods=3)


def paused_at_a_step(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.go_on(timedelta(seconds=30))
    world.pause()
    world.go_on(timedelta(hours=1))
    assert at_step(world, 0)
    world.pause(False)
    resumed = world.moment
    world.until(lambda: at_step(world, 1))
    assert world.moment - resumed == timedelta(seconds=90), "the time in between counts towards nothing"
    world.settle()
    served(world, "v2", pods=3)


def paused_and_then_it_errs(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.pause()
    world.go_on(timedelta(minutes=1))
    world.happens("v2 errs", lambda: world.around.models.update({uri("v2"): ERRING}))
    world.settle()
    assert world.endpoints()
    assert {world.neighbours._uri_of(pod) for pod in world.reached()} == {uri("v1")}
    world.pause(False)
    world.settle()
    aborted_with(world, "AnalysisFailed")


def steps_are_edited(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 1))
    other = [{"weight": 25, "hold": "1m"}, {"weight": 75, "hold": "1m"}]
    world.submit(canary("v2", steps=other))
    world.until(lambda: at_step(world, 0))
    assert world.status["rollout"]["step"]["weight"] == 25
    world.settle()
    served(world, "v2", pods=3)


def scaled_at_a_step(world):
    world.around.gpus = 12
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.go_on(timedelta(seconds=70))
    before = world.status["rollout"]
    world.edit("asks for 6 pods", replicas=6)
    world.go_on(timedelta(seconds=5))
    after = world.status["rollout"]
    for kept in ("revision", "stage", "stageStartedAt", "step", "verification", "analysis"):
        assert after[kept] == before[kept], kept
    world.settle()
    served(world, "v2", pods=6)


def windows(world):
    begin(world, canary("v2", maintenanceWindows=[{"schedule": "3-59/10 12 * * *", "duration": "2m"}]))
    world.until(lambda: world.said("Ready") == ("False", "WaitingForWindow"))
    world.until(lambda: at_step(world, 0))
    world.until(lambda: world.said("Ready") == ("False", "WaitingForWindow"))
    world.settle()
    served(world, "v2", pods=3)


def bad_while_it_waits_for_its_window(world):
    begin(world, canary("v2", maintenanceWindows=[{"schedule": "3 12 * * *", "duration": "2m"}]))
    world.until(lambda: at_step(world, 0))
    world.until(lambda: world.said("Ready") == ("False", "WaitingForWindow"))
    world.happens("v2 errs", lambda: world.around.models.update({uri("v2"): ERRING}))
    world.settle()
    aborted_with(world, "AnalysisFailed", "step 1/2")


def a_window_that_closes_in_the_gap(world):
    world.sees_room = True
    world.around.gpus = 1
    world.around.load = timedelta(seconds=90)
    window = [{"schedule": "3 12 * * *", "duration": "1m"}]
    begin(world, with_rollout("v2", serving={"minAvailable": 0}, maintenanceWindows=window))
    world.settle()
    served(world, "v2", pods=1)
    assert world.moment < NOW + timedelta(minutes=6), "the gap is not as long as the way to the next window"


# Data that is missing


def nobody_asks(world):
    begin(world, canary("v2"), rate=0)
    world.settle()
    aborted_with(world, "NoData", "for 30 min")


def nobody_asks_and_that_is_good(world):
    begin(world, canary("v2", analysis={"onNoData": "Pass"}), rate=0)
    world.settle()
    served(world, "v2", pods=3)


def nobody_asks_and_that_is_bad(world):
    begin(world, canary("v2", analysis={"onNoData": "Abort"}), rate=0)
    world.settle()
    aborted_with(world, "NoData", "onNoData Abort")


def the_operator_restarts_in_an_analysis(world):
    begin(world, canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.go_on(timedelta(seconds=70))
    world.restart()
    world.settle()
    served(world, "v2", pods=3)


# Blue-green and Replace


def baked(world):
    begin(world, with_rollout("v2", serving={"replicas": 2}, **BAKE))
    world.settle()
    served(world, "v2", pods=2)


def bad_while_it_bakes(world):
    begin(world, with_rollout("v2", serving={"replicas": 2}, **BAKE))
    world.until(lambda: stage_of(world) == "Baking")
    world.go_on(timedelta(seconds=30))
    world.happens("v2 errs", lambda: world.around.models.update({uri("v2"): ERRING}))
    world.settle()
    aborted_with(world, "AnalysisFailed", "while it baked")
    assert {world.neighbours._uri_of(pod) for pod in world.reached()} == {uri("v1")}


def replaced(world):
    begin(world, with_rollout("v2", serving={"replicas": 2}, strategy="Replace"))
    world.settle()
    served(world, "v2", pods=2)


def replaced_by_what_cannot_be_loaded(world):
    world.around.models[uri("v2")] = UNLOADABLE
    begin(world, with_rollout("v2", strategy="Replace"))
    world.settle()
    aborted_with(world, "ModelLoadFailed")
    assert len(world.endpoints()) == 1


# Scarce GPUs


def one_gpu_and_no_gap(world):
    world.sees_room = True
    world.around.gpus = 1
    begin(world, with_rollout("v2", strategy="BlueGreen"))
    world.go_on(timedelta(minutes=2))
    assert world.said("Ready") == ("False", "InsufficientGPU")
    assert world.said("Available") == ("True", "Serving")
    world.happens("another GPU is there", lambda: setattr(world.around, "gpus", 2))
    world.settle()


def one_gpu_and_a_gap(world):
    world.sees_room = True
    world.around.gpus = 1
    world.around.load = timedelta(seconds=40)
    begin(world, with_rollout("v2", serving={"minAvailable": 0}))
    told = world.until(lambda: world.status.get("rollout", {}).get("capacity", {}).get("plan") == "Recreate")
    assert told is None
    assert len(world.endpoints()) == 1, "the plan is told before anything stops"
    world.settle()
    served(world, "v2", pods=1)


def one_gpu_and_nobody_may_look(world):
    world.around.gpus = 1
    begin(world, with_rollout("v2", serving={"minAvailable": 0}))
    world.settle()
    served(world, "v2", pods=1)


def two_gpus_swapped(world):
    world.sees_room = True
    world.around.gpus = 2
    world.around.load = timedelta(seconds=40)
    world.around.grace = timedelta(seconds=30)
    begin(world, canary("v2", replicas=2, steps=[{"weight": 50, "hold": "1m"}]))
    world.settle()
    served(world, "v2", pods=2)


def two_gpus_swapped_without_steps(world):
    world.sees_room = True
    world.around.gpus = 2
    begin(world, make_wanted("v2", replicas=2))
    world.settle()
    served(world, "v2", pods=2)


def another_tenant_takes_the_gpu(world):
    world.sees_room = True
    world.around.gpus = 2
    begin(world, make_wanted("v2", replicas=2))
    world.until(lambda: len(world.cluster.find("Deployment")) == 2)
    world.step(world.neighbours.control_deployments)
    world.happens("another tenant takes a GPU", lambda: setattr(world.around, "gpus", 1))
    world.settle()
    assert world.said("Available") == ("True", "Serving")
    assert world.status["phase"] == "Aborted"
    assert len(world.endpoints()) == 1
    world.happens("the GPU is free again", lambda: setattr(world.around, "gpus", 2))
    world.settle()
    assert len(world.endpoints()) == 2
    assert {world.neighbours._uri_of(pod) for pod in world.reached()} == {uri("v1")}


def the_quota_is_used_up(world):
    world.sees_room = True
    begin(world, with_rollout("v2", strategy="BlueGreen"))
    world.step(world.reconcile)
    world.step(world.neighbours.control_jobs)
    world.happens("the quota is used up", lambda: setattr(world.around, "quota_exceeded", True))
    world.go_on(timedelta(minutes=2))
    assert world.said("Ready") == ("False", "QuotaExceeded")
    world.happens("the quota is raised", lambda: setattr(world.around, "quota_exceeded", False))
    world.settle()
    served(world, "v2", pods=1)


# A stable revision that is not well


def a_fix_for_what_is_broken(world):
    begin(world, canary("v1"))
    world.settle()
    world.happens("v1 crashes", lambda: world.around.models.update({uri("v1"): UNLOADABLE}))
    world.go_on(timedelta(seconds=10))
    assert world.said("Available") == ("False", "ModelLoadFailed")
    serve(world, canary("v2"))
    served(world, "v2", pods=3)


def a_fix_where_there_is_no_room(world):
    world.sees_room = True
    world.around.gpus = 3
    begin(world, canary("v1"))
    world.settle()
    world.happens("v1 crashes", lambda: world.around.models.update({uri("v1"): UNLOADABLE}))
    world.go_on(timedelta(seconds=10))
    serve(world, canary("v2"))
    served(world, "v2", pods=3)


def without_pods(world):
    serve(world, canary("v1", replicas=0))
    assert world.said("Ready") == ("True", "ScaledToZero")
    serve(world, canary("v2", replicas=0))
    assert world.said("Ready") == ("True", "ScaledToZero")
    world.edit("asks for 2 pods", replicas=2)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    serve(world, canary("v3", replicas=0))
    assert world.said("Ready") == ("True", "ScaledToZero")
    assert world.status["candidateRevision"], "nothing is promoted that no pod has answered for"
    world.edit("asks for 2 pods", replicas=2)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert "candidateRevision" not in world.status


INTERRUPTED = (
    replaced,
    replaced_by_what_cannot_be_loaded,
    one_gpu_and_a_gap,
    one_gpu_and_nobody_may_look,
    a_window_that_closes_in_the_gap,
)
HURT = (a_fix_for_what_is_broken, a_fix_where_there_is_no_room, without_pods)
STORIES = {
    story.__name__: story
    for story in (
        canary_by_default,
        canary_that_errs,
        canary_that_is_slow,
        canary_that_answers_wrongly,
        canary_that_cannot_be_loaded,
        held_until_it_is_promoted,
        promoted_in_full,
        aborted_by_the_user,
        retried_after_an_abort,
        undone_and_back,
        there_and_back_at_a_step,
        another_spec_at_a_step,
        paused_at_a_step,
        paused_and_then_it_errs,
        steps_are_edited,
        scaled_at_a_step,
        windows,
        bad_while_it_waits_for_its_window,
        nobody_asks,
        nobody_asks_and_that_is_good,
        nobody_asks_and_that_is_bad,
        the_operator_restarts_in_an_analysis,
        baked,
        bad_while_it_bakes,
        one_gpu_and_no_gap,
        two_gpus_swapped,
        two_gpus_swapped_without_steps,
        another_tenant_takes_the_gpu,
        the_quota_is_used_up,
        *INTERRUPTED,
        *HURT,
    )
}


@pytest.mark.parametrize("name", STORIES)
def test_the_rollout_is_as_recorded(name, compare_recorded):
    story = STORIES[name]
    world = World(around=Surroundings(gpus=8), lawful=True, always_available=story not in {*INTERRUPTED, *HURT})
    story(world)
    assert world.next_plan().is_empty, "what has come to rest asks for nothing"
    compare_recorded(RECORDED / f"{name}.txt", "\n".join(world.story) + "\n")


def test_what_got_its_artifact_without_pods_is_verified_before_its_first_pod_gets_requests():
    world = World(lawful=True)
    serve(world, canary("v1", replicas=0))
    assert world.said("Ready") == ("True", "ScaledToZero")
    world.edit("asks for 2 pods", replicas=2)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert any(line.endswith("applies Job digits-A-verify") for line in world.story)
    assert "reaches" not in "\n".join(world.story[: world.story.index(next(x for x in world.story if "-verify" in x))])


def test_pods_that_get_gpus_get_an_artifact_that_was_made_for_gpus():
    """The candidates differ: nothing of OpenVINO for a GPU, half precision for it alone."""
    world = World(around=Surroundings(gpus=8), lawful=True)
    serve(world, canary("v1", serving={"gpus": 0}))
    for count, made in ((1, 2), (2, 2), (0, 2)):
        world.edit(f"asks for {count} GPUs", gpus={"count": count})
        world.settle()
        assert sum("-optimize" in line and "applies Job" in line for line in world.story) == made
