"""Where rollouts of others broke, row by row: what must happen here instead, played in the small world."""

import copy
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.core import observe, plan
from support.builders import OWNER
from support.neighbours import UNLOADABLE, WRONG
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.world import World


def canary(version, *, replicas=3, **rollout):
    return {**make_wanted(version, replicas=replicas), "rollout": {"strategy": "Canary", **rollout}}


def make_world(spec, *, rate=20.0):
    """A world in which the spec is served."""
    world = World(lawful=True, always_available=True)
    world.traffic.rate = rate
    world.submit(spec)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    return world


def revisions(world):
    """Hashes of the pods behind the traffic Service."""
    return {pod["metadata"]["labels"][names.REVISION_LABEL] for pod in world.reached()}


def stable_of(world):
    return world.status["stableRevision"]["hash"]


def at_step(world, index):
    rollout = world.status.get("rollout", {})
    step = rollout.get("step") or {}
    return rollout.get("stage") == "Stepping" and step.get("index") == index and "readyAt" in step


def asked(world, revision):
    found = world.cluster.look("Deployment", names.revision_name(OWNER.name, revision))
    return 0 if found is None else found["spec"]["replicas"]


def effects_of(world, change):
    before = len(world.cluster.effects)
    change()
    world.settle()
    return [(e.verb, e.kind) for e in world.cluster.effects[before:] if e.verb in {"apply", "delete"}]


def test_ta01_an_abort_of_nothing_moves_nothing():
    world = make_world(canary("v1"))
    assert effects_of(world, lambda: world.act("abort")) == []
    assert world.said("Ready") == ("True", "Serving")
    assert "nothing to abort" in world.status["rollout"]["actionMessage"]


def test_ta01_an_abort_of_what_was_promoted_moves_nothing():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.settle()
    after = stable_of(world)
    assert effects_of(world, lambda: world.act("abort")) == []
    assert stable_of(world) == after
    assert world.next_plan().is_empty


def test_ta03_an_abort_brings_the_weight_to_nothing_however_small_the_canary():
    world = make_world(canary("v1"))
    world.submit(canary("v2", steps=[{"weight": 1, "hold": "Forever"}]))
    world.until(lambda: at_step(world, 0))
    world.act("abort")
    world.step(world.reconcile)
    assert revisions(world) == {stable_of(world)}, "one pass is enough"


def test_ta04_scaling_brings_no_pod_of_an_aborted_revision_back():
    world = make_world(canary("v1"))
    world.around.models[uri("v2")] = ERRING
    world.submit(canary("v2"))
    world.settle()
    assert world.said("Ready") == ("False", "AnalysisFailed")
    failed = world.status["candidateRevision"]["hash"]
    for replicas in (5, 1, 4):
        world.edit(f"asks for {replicas} pods", replicas=replicas)
        world.settle()
        assert asked(world, failed) == 0
        assert revisions(world) == {stable_of(world)}
        assert len(world.endpoints()) == replicas
    assert world.said("Ready") == ("False", "AnalysisFailed")


def test_ta05_going_back_moves_no_request_to_pods_that_are_not_there():
    world = World(lawful=True, always_available=True, sees_room=True)
    world.around.gpus = 2
    world.traffic.rate = 20.0
    spec = {**make_wanted("v1", replicas=2), "rollout": {"bake": "5m", "analysis": {}}}
    world.submit(spec)
    world.settle()
    first = stable_of(world)
    world.submit({**spec, "model": {"uri": uri("v2")}})
    world.until(lambda: world.status.get("rollout", {}).get("stage") == "Baking")
    assert asked(world, first) == 0, "its GPUs were given up one by one"
    world.around.load = timedelta(minutes=2)
    world.act("abort")
    world.step(world.reconcile)
    assert len(world.endpoints()) == 2, "all still serve: nobody else is ready"
    world.settle()
    assert revisions(world) == {first}
    assert len(world.endpoints()) == 2


@pytest.mark.parametrize("then", ["retry", "another spec"])
def test_ta05_what_starts_again_in_the_middle_of_its_way_back_leaves_nobody_without_answers(then):
    world = World(lawful=True, always_available=True, sees_room=True)
    world.around.gpus = 2
    world.traffic.rate = 20.0
    spec = {**make_wanted("v1", replicas=2), "rollout": {"bake": "5m", "analysis": {}}}
    world.submit(spec)
    world.settle()
    world.submit({**spec, "model": {"uri": uri("v2")}})
    world.until(lambda: world.status.get("rollout", {}).get("stage") == "Baking")
    world.around.load = timedelta(minutes=2)
    world.act("abort")
    world.go_on(timedelta(seconds=20))
    assert world.status["phase"] == "Aborted"
    if then == "retry":
        world.act("retry", "2")
    else:
        world.act("retry", "2")
        world.step(world.reconcile)
        world.submit({**spec, "model": {"uri": uri("v3")}})
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert len(world.endpoints()) == 2


def test_ta06_a_broken_candidate_does_not_keep_the_abort_away():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 1))
    world.happens("v2 crashes", lambda: world.around.models.update({uri("v2"): UNLOADABLE}))
    world.act("abort")
    world.settle()
    assert revisions(world) == {stable_of(world)}
    assert len(world.endpoints()) == 3


def test_ta08_pods_that_are_wanted_again_while_they_drain_stay():
    world = make_world(make_wanted("v1", replicas=2))
    world.submit(make_wanted("v2", replicas=2))
    first = stable_of(world)
    world.until(lambda: stable_of(world) != first)
    world.pass_time(timedelta(seconds=14))
    before = {pod["metadata"]["uid"] for pod in world.cluster.find("Pod", names.pod_selector(OWNER.name, first))}
    world.submit(make_wanted("v1", replicas=2))
    world.settle()
    assert stable_of(world) == first
    assert {pod["metadata"]["uid"] for pod in world.reached()} == before
    world.go_on(timedelta(minutes=5))
    assert {pod["metadata"]["uid"] for pod in world.reached()} == before, "a former deadline means nothing any more"


def test_ta09_replicas_and_model_together_in_the_middle():
    world = make_world(canary("v1", replicas=2))
    first = stable_of(world)
    world.submit(canary("v2", replicas=2))
    world.until(lambda: at_step(world, 0))
    second = world.status["candidateRevision"]["hash"]
    world.submit(canary("v3", replicas=4))
    world.step(world.reconcile)
    assert world.status["candidateRevision"]["hash"] not in {first, second}, "replaced at once"
    assert revisions(world) == {first}, "the one in the middle is left like after an abort"
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert len(world.endpoints()) == 4
    assert {d["metadata"]["labels"][names.REVISION_LABEL] for d in world.cluster.find("Deployment")} == revisions(world)


def test_ta09_what_comes_back_after_another_spec_is_verified_again():
    """Its pods are others than those that were verified."""
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 0))
    second = world.status["candidateRevision"]["hash"]
    world.submit(canary("v3"))
    world.until(lambda: asked(world, second) == 0)
    world.happens("v2 is damaged meanwhile", lambda: world.around.models.update({uri("v2"): WRONG}), hurts=False)
    world.submit(canary("v2"))
    world.settle()
    assert world.said("Ready") == ("False", "VerificationFailed")


def test_ta10_scaling_at_a_step_keeps_what_was_counted():
    world = make_world(canary("v1"))
    world.submit(canary("v2", steps=[{"weight": 25, "hold": "10m"}]))
    world.until(lambda: at_step(world, 0))
    world.go_on(timedelta(seconds=80))
    before = copy.deepcopy(world.status["rollout"])
    assert before["analysis"]["checks"][0]["passed"] == 2
    world.edit("asks for 4 pods", replicas=4)
    world.go_on(timedelta(seconds=5))
    after = world.status["rollout"]
    for kept in ("revision", "stage", "stageStartedAt", "step", "verification", "analysis"):
        assert after[kept] == before[kept], kept


def test_ta11_stable_is_what_is_recorded_whatever_else_is_ready():
    world = make_world(canary("v1"))
    first = stable_of(world)
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 1))
    assert stable_of(world) == first
    world.act("abort")
    world.settle()
    assert stable_of(world) == first
    third = canary("v3")
    world.submit(third)
    world.until(lambda: at_step(world, 0))
    assert stable_of(world) == first, "not the newest one that was ready"


def test_ta13_one_status_per_pass_against_the_version_that_was_read():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    read = world.body["metadata"]["resourceVersion"]
    made = world.next_plan()
    assert made.status["metadata"]["resourceVersion"] == read


def test_ta13_a_pass_over_what_was_read_before_starts_nothing_twice():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 0))
    old = world.observed()
    world.until(lambda: at_step(world, 1))
    late = plan(old, world.policy, world.moment)
    assert [a.body["kind"] for a in late.applies if a.body["kind"] == "Job"] == []
    stale = late.status["metadata"]["resourceVersion"]
    assert stale != world.body["metadata"]["resourceVersion"], "the API server refuses what it says"


def test_ta16_defaults_and_order_of_fields_make_no_new_revision():
    world = make_world(canary("v1"))
    first = stable_of(world)
    again = canary("v1")
    again["serving"] = dict(reversed(list(again["serving"].items()))) | {"instances": 1, "minAvailable": 1}
    assert effects_of(world, lambda: world.submit(dict(reversed(list(again.items()))))) == []
    assert stable_of(world) == first


def test_ta17_a_fix_takes_over_from_pods_that_crash():
    world = make_world(canary("v1"))
    world.always_available = world.laws.always_available = False
    world.happens("v1 crashes", lambda: world.around.models.update({uri("v1"): UNLOADABLE}))
    world.go_on(timedelta(minutes=1))
    assert world.endpoints() == []
    world.submit(canary("v2"))
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert len(world.endpoints()) == 3


def test_ta17_a_fix_takes_over_at_a_step_when_stable_breaks():
    world = make_world(canary("v1"))
    world.laws.always_available = False
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 0))
    world.happens("v1 crashes", lambda: world.around.models.update({uri("v1"): UNLOADABLE}))
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert revisions(world) == {stable_of(world)}


def test_ta20_other_settings_of_the_operator_start_no_rollout():
    world = make_world(canary("v1"))
    images = world.policy.images.__class__(optimizer="new:2", optimizer_torch="new-torch:2", triton="new-triton:2")
    other = world.policy.__class__(images=images, triton_version="2.60.0")

    def upgrade():
        world.policy = other

    assert effects_of(world, upgrade) == []
    assert world.said("Ready") == ("True", "Serving")


def test_ta22_waits_are_times_in_status_and_a_late_pass_keeps_them():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 0))
    ready_at = world.status["rollout"]["step"]["readyAt"]
    world.restart()
    world.go_on(timedelta(seconds=119))
    assert at_step(world, 0)
    assert world.status["rollout"]["step"]["readyAt"] == ready_at


def test_ta22_a_clock_that_is_behind_promotes_nothing():
    world = make_world(canary("v1"))
    world.submit(canary("v2"))
    world.until(lambda: at_step(world, 0))
    seen = observe(world.body, [*world.observed().children, *world.observed().pods])
    for behind in (timedelta(minutes=1), timedelta(hours=1)):
        made = plan(seen, world.policy, world.moment - behind)
        assert not [a for a in made.applies if a.body["kind"] in {"Service", "Deployment"}]
        assert made.deletes == ()
