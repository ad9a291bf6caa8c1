"""Rollouts behind a gateway in words, compared with recorded ones: a gateway that falls silent, and plain
JSON that only one of two revisions offers.
"""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from pilotfish import names
from support.builders import OWNER
from support.gateway_world import GatewayWorld
from support.specs import make_wanted

RECORDED = Path(__file__).parent / "recorded"
GATEWAY = {"name": "public", "hostnames": ["a.example.org"], "grpc": {"hostnames": ["grpc.a.example.org"]}}
STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
DEADLINE = timedelta(minutes=3)


def wanted(version, *, strategy="Canary", **rollout):
    steps = {"steps": STEPS} if strategy == "Canary" else {}
    own = {"strategy": strategy, "progressDeadline": "3m", **steps, **rollout}
    return {**make_wanted(version, replicas=2, gateway=GATEWAY), "rollout": own}


def serving(world, spec):
    """The stable revision of a world with requests."""
    world.traffic.rate = 20.0
    world.submit(spec)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    return hash_of(world)


def hash_of(world, role="stableRevision"):
    return world.status.get(role, {}).get("hash")


def pods_of(world, revision):
    return world.cluster.find("Pod", names.pod_selector(OWNER.name, revision))


def written(world):
    """Weight by Service, as the HTTPRoute is stored."""
    (rule,) = world.cluster.look("HTTPRoute", "digits-http")["spec"]["rules"]
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


def at_step(world, index):
    """The step of that index has its share."""

    def there():
        step = world.status.get("rollout", {}).get("step") or {}
        return step.get("index") == index and "readyAt" in step

    world.until(there)


def falls_silent(world, spec):
    """A canary with 10 % in force, whose gateway does not hear of 50 %; both revisions."""
    old = serving(world, wanted("v1"))
    world.submit(spec)
    at_step(world, 0)
    world.answers = False
    world.until(lambda: "unconfirmedSince" in world.status["rollout"])
    return old, hash_of(world, "candidateRevision")


def the_gateway_falls_silent(world):
    old, new = falls_silent(world, wanted("v2"))
    in_force = world.weights["HTTPRoute"]
    assert in_force == {old: 90, new: 10}
    world.go_on(DEADLINE - timedelta(seconds=2))
    assert world.said("Ready") == ("False", "WaitingForRoutes")
    world.go_on(timedelta(seconds=3))
    assert world.said("Ready") == ("False", "RoutesNotConfirmed")
    assert world.said("Available") == ("True", "Serving")
    assert world.status["phase"] == "Aborted"
    message = world.status["rollout"]["aborted"]["message"]
    assert message == (
        'Aborted at step 2/2: its weights were not confirmed for 3m: Gateway "public" has not taken over the present '
        'HTTPRoute "digits-http" yet'
    )
    assert written(world) == {names.route_service(OWNER.name, old): 100, names.route_service(OWNER.name, new): 0}
    world.go_on(timedelta(hours=1))
    assert world.weights["HTTPRoute"] == in_force
    assert pods_of(world, new), "a proxy may still send it requests"
    assert world.status["phase"] == "Aborted"


def the_gateway_comes_back_before_the_deadline(world):
    _, new = falls_silent(world, wanted("v2"))
    world.go_on(DEADLINE - timedelta(seconds=2))
    world.answers = True
    at_step(world, 1)
    assert "unconfirmedSince" not in world.status["rollout"]
    world.answers = False
    # What is in force needs no gateway that speaks.
    world.go_on(timedelta(seconds=50))
    assert world.status["rollout"]["stage"] == "Stepping"
    world.until(lambda: world.status["rollout"]["stage"] == "Promoting")
    world.go_on(DEADLINE - timedelta(seconds=30))
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert hash_of(world) == new


def the_gateway_comes_back_after_the_abort(world):
    old, new = falls_silent(world, wanted("v2"))
    world.go_on(DEADLINE + timedelta(minutes=30))
    assert pods_of(world, new)
    world.answers = True
    world.settle()
    assert world.weights == {"HTTPRoute": {old: 100}, "GRPCRoute": {old: 100}}
    assert not pods_of(world, new)
    assert world.said("Ready") == ("False", "RoutesNotConfirmed")
    assert world.status["phase"] == "Aborted"
    world.act("retry")
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert world.weights["HTTPRoute"] == {new: 100}


def predicting(version, **predict):
    spec = wanted(version)
    spec["serving"]["predict"] = predict
    return spec


def plain_json_is_added_by_a_canary(world):
    serving(world, wanted("v1"))
    assert world.predicting == {}
    world.submit(predicting("v1"))
    at_step(world, 0)
    new = hash_of(world, "candidateRevision")
    assert world.predicting == {new: 10}
    world.settle()
    assert hash_of(world) == new
    assert world.predicting == {new: 100}


def plain_json_is_removed_by_a_canary(world):
    old = serving(world, predicting("v1"))
    world.submit(wanted("v1"))
    at_step(world, 1)
    assert world.predicting == {old: 50}
    world.settle()
    assert hash_of(world) != old
    assert world.predicting == {}


def plain_json_is_added_by_a_canary_that_is_aborted(world):
    old = serving(world, wanted("v1"))
    world.submit(predicting("v1"))
    at_step(world, 1)
    world.act("abort")
    world.settle()
    assert hash_of(world) == old
    assert world.predicting == {}


STORIES = {
    story.__name__: story
    for story in (
        the_gateway_falls_silent,
        the_gateway_comes_back_before_the_deadline,
        the_gateway_comes_back_after_the_abort,
        plain_json_is_added_by_a_canary,
        plain_json_is_removed_by_a_canary,
        plain_json_is_added_by_a_canary_that_is_aborted,
    )
}


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_as_recorded(name, compare_recorded):
    world = GatewayWorld(lawful=True, always_available=True)
    STORIES[name](world)
    assert world.next_plan().is_empty, "what has come to rest asks for nothing"
    compare_recorded(RECORDED / f"{name}.txt", "\n".join(world.story) + "\n")


def test_both_revisions_share_plain_json_that_both_offer():
    world = GatewayWorld()
    old = serving(world, predicting("v1"))
    world.submit(predicting("v1", scores="None"))
    at_step(world, 0)
    assert world.predicting == world.weights["HTTPRoute"] == {old: 90, hash_of(world, "candidateRevision"): 10}


@pytest.mark.parametrize("seed", range(6))
def test_plain_json_reaches_who_offers_it_in_any_order_of_events(seed):
    """The world checks every route that the gateway takes over."""
    world = GatewayWorld()
    rng = random.Random(seed)
    specs = [wanted("v1"), predicting("v1"), wanted("v2"), predicting("v2", scores="None")]
    serving(world, rng.choice(specs))
    for _ in range(3):
        world.submit(rng.choice(specs))
        for _ in range(rng.randrange(60)):
            world.step(rng.choice(world.actors()))
    last = rng.choice(specs)
    world.submit(last)
    world.settle(rng=rng)
    assert world.said("Ready") == ("True", "Serving"), world.story[-10:]
    assert world.predicting == ({hash_of(world): 100} if "predict" in last["serving"] else {})


def test_a_promotion_that_no_gateway_confirms_is_given_up():
    world = GatewayWorld()
    old = serving(world, wanted("v1", strategy="BlueGreen"))
    world.submit(wanted("v2", strategy="BlueGreen"))
    world.until(lambda: world.weights["HTTPRoute"].get(hash_of(world, "candidateRevision")) == 100)
    world.answers = False  # Of one route it heard, of the other it never does.
    new = hash_of(world, "candidateRevision")
    world.go_on(DEADLINE + timedelta(seconds=30))
    assert world.said("Ready") == ("False", "RoutesNotConfirmed")
    assert "Aborted at promotion: its weights were not confirmed for 3m: Gateway" in world.condition("Ready")["message"]
    assert written(world) == {names.route_service(OWNER.name, old): 100, names.route_service(OWNER.name, new): 0}
    world.go_on(timedelta(hours=1))
    assert world.weights == {"HTTPRoute": {old: 0, new: 100}, "GRPCRoute": {old: 100, new: 0}}
    assert len(pods_of(world, old)) == len(pods_of(world, new)) == 2
    assert hash_of(world) == old


def test_time_that_the_user_holds_it_does_not_count():
    world = GatewayWorld()
    falls_silent(world, wanted("v2"))
    world.go_on(timedelta(minutes=2))
    world.pause()
    world.go_on(timedelta(hours=1))
    world.pause(False)
    world.go_on(timedelta(seconds=50))
    assert world.said("Ready") == ("False", "WaitingForRoutes")
    world.go_on(timedelta(seconds=20))
    assert world.said("Ready") == ("False", "RoutesNotConfirmed")


def test_a_canary_that_holds_with_its_weights_in_force_stays_while_the_gateway_flaps():
    """What the status of a route says for a while sends nobody back, and each silence counts by itself."""
    world = GatewayWorld()
    serving(world, wanted("v1"))
    world.submit(wanted("v2", steps=[{"weight": 10, "hold": "Forever"}]))
    at_step(world, 0)
    world.answers = False
    world.go_on(timedelta(hours=2))
    for _ in range(3):
        world.answers = False
        world.cluster.change_now("HTTPRoute", "digits-http", lambda body: body.update(status={"parents": []}))
        world.go_on(DEADLINE - timedelta(seconds=5))
        world.answers = True
        world.go_on(timedelta(seconds=90))
    assert world.said("Ready") == ("False", "Holding")
    assert "aborted" not in world.status["rollout"]


@pytest.mark.parametrize("deadline", ["3m", "4m"])
def test_another_gateway_or_any_change_of_the_spec_tries_again(deadline):
    world = GatewayWorld()
    _, new = falls_silent(world, wanted("v2"))
    world.go_on(DEADLINE + timedelta(minutes=1))
    spec = wanted("v2", progressDeadline=deadline)
    spec["serving"]["gateway"] = {**GATEWAY, "name": "other"}
    world.submit(spec)
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert hash_of(world) == new


def test_another_spec_does_not_wait_for_ever_behind_a_silent_gateway():
    world = GatewayWorld()
    old, new = falls_silent(world, wanted("v2"))
    world.go_on(DEADLINE + timedelta(minutes=20))
    assert pods_of(world, new)
    world.gap = True  # What is in force is what the gateway took over last; the user has decided.
    world.submit(wanted("v1"))
    world.go_on(timedelta(minutes=4))
    assert not pods_of(world, new)
    assert len(pods_of(world, old)) == 2
