"""Rollouts behind a gateway: the same machine, with routes for the share. In every state of every story no weight is in
force for a revision without a ready pod or without a passed verification.
"""

import random
from datetime import timedelta

import pytest

from pilotfish import names
from support.builders import OWNER
from support.gateway_world import GatewayWorld
from support.neighbours import OUT_OF_MEMORY, WRONG, Surroundings
from support.specs import make_wanted, uri
from support.traffic import ERRING

GATEWAY = {"name": "public", "hostnames": ["a.example.org"], "grpc": {"hostnames": ["grpc.a.example.org"]}}
STEPS = [{"weight": 10, "hold": "1m"}, {"weight": 50, "hold": "1m"}]


def wanted(version, *, strategy="Canary", serving=None, **rollout):
    spec = make_wanted(version, replicas=2, gateway=GATEWAY, **(serving or {}))
    steps = {"steps": STEPS} if strategy == "Canary" else {}
    return {**spec, "rollout": {"strategy": strategy, **steps, **rollout}}


def errs(version, **rollout):
    return wanted(version, analysis={"minRequests": 20, "checks": {"errorRate": {"max": "0.05"}}}, **rollout)


def serve(world, spec, **how):
    world.submit(spec)
    world.settle(**how)


def revision(world, role="stableRevision"):
    return world.status[role]["hash"]


def routes(world):
    return sorted(body["kind"] for kind in ("HTTPRoute", "GRPCRoute") for body in world.cluster.find(kind))


def route_services(world):
    services = {body["metadata"]["name"] for body in world.cluster.find("Service")}
    return {name for name in services if name.endswith("-route")}


def change_routes_by_hand(world):
    """Somebody writes into both routes: the operator writes them again, and the gateway has to take that over."""
    for kind, name in (("HTTPRoute", "digits-http"), ("GRPCRoute", "digits-grpc")):
        world.cluster.change_now(kind, name, lambda body: body["spec"].update(hostnames=["elsewhere.example.org"]))


def begin(world, spec, *, rate=20.0):
    world.traffic.rate = rate
    serve(world, {**spec, "model": {"uri": uri("v1")}})
    assert world.said("Ready") == ("True", "Serving")
    old = revision(world)
    assert world.weights == {"HTTPRoute": {old: 100}, "GRPCRoute": {old: 100}}
    world.submit(spec)
    return old


def assert_alone(world, of):
    """The routes know this revision and nobody else."""
    assert world.weights == {"HTTPRoute": {of: 100}, "GRPCRoute": {of: 100}}
    assert route_services(world) == {names.route_service(OWNER.name, of)}


def shares(world, of):
    """Every share of a revision that the gateway was given, in order."""
    letter = world.letter(of)
    found = [line.partition(f"{letter} ")[2].split(" %")[0] for line in world.story if "gateway  HTTPRoute" in line]
    return [int(share) for share in found if share]


def test_a_canary_goes_through_its_weights_and_leaves_one_service():
    world = GatewayWorld()
    old = begin(world, wanted("v2"))
    world.settle()
    new = revision(world)
    assert new != old
    assert world.said("Ready") == ("True", "Serving")
    assert shares(world, new) == [0, 10, 50, 100, 100]
    assert_alone(world, new)


@pytest.mark.parametrize("strategy", ["BlueGreen", "Replace"])
def test_other_strategies_move_by_weights_too(strategy):
    world = GatewayWorld(gap=strategy == "Replace")
    old = begin(world, wanted("v2", strategy=strategy))
    world.settle()
    assert revision(world) != old
    assert world.weights["GRPCRoute"] == {revision(world): 100}


def test_a_canary_that_errs_is_sent_back_to_weight_zero():
    world = GatewayWorld()
    world.around.models[uri("v2")] = ERRING
    old = begin(world, errs("v2"))
    world.settle()
    assert world.said("Ready") == ("False", "AnalysisFailed")
    candidate = revision(world, "candidateRevision")
    assert shares(world, candidate)[-1] == 0
    assert_alone(world, old)


def test_a_canary_that_answers_wrongly_never_gets_a_weight():
    world = GatewayWorld()
    world.around.models[uri("v2")] = WRONG
    old = begin(world, wanted("v2"))
    world.settle()
    assert world.said("Ready") == ("False", "VerificationFailed")
    assert set(shares(world, revision(world, "candidateRevision"))) <= {0}
    assert_alone(world, old)


def test_a_revision_that_never_had_pods_never_had_a_route():
    world = GatewayWorld()
    world.around.models[uri("v2")] = OUT_OF_MEMORY
    old = begin(world, wanted("v2"))
    world.settle()
    assert world.status["phase"] == "Aborted"
    assert shares(world, revision(world, "candidateRevision")) == []
    assert_alone(world, old)


def test_a_revision_that_was_sent_back_comes_again_through_the_same_gates():
    world = GatewayWorld()
    world.around.models[uri("v2")] = ERRING
    old = begin(world, errs("v2"))
    world.settle()
    assert_alone(world, old)
    world.around.models.clear()
    world.act("retry")
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    new = revision(world)
    assert shares(world, new) == [0, 10, 0, 0, 10, 50, 100, 100]
    assert_alone(world, new)


def test_ta12_nothing_moves_and_no_pod_goes_while_the_gateway_does_not_answer():
    world = GatewayWorld()
    old = begin(world, wanted("v2"))
    world.until(lambda: (world.status.get("rollout", {}).get("step") or {}).get("index") == 0)
    world.answers = False
    before = {kind: dict(weights) for kind, weights in world.weights.items()}
    world.go_on(timedelta(minutes=5))
    assert world.weights == before
    assert world._ready(old)
    assert world.said("Ready")[0] == "False"
    world.answers = True
    world.settle()
    assert world.weights["HTTPRoute"] == {revision(world): 100}
    assert revision(world) != old


def pods_of(world, revision):
    return world.cluster.find("Pod", names.pod_selector(OWNER.name, revision))


@pytest.mark.parametrize("how", ["aborted", "left behind"])
def test_ta02_the_wait_for_a_gateway_that_is_silent_ends_after_drain_and_deadline(how):
    """The route's weight is 0 all the while: pods that nobody should ask do not keep their GPUs for ever."""
    world = GatewayWorld()
    old = begin(world, wanted("v2", progressDeadline="3m"))
    world.until(lambda: (world.status.get("rollout", {}).get("step") or {}).get("readyAt"))
    candidate = revision(world, "candidateRevision")
    world.answers = False
    given_up = world.moment
    world.gap = True  # What is in force is what the gateway took over last.
    if how == "aborted":
        world.act("abort")
    else:
        world.submit(wanted("v1", progressDeadline="3m"))
    world.go_on(timedelta(minutes=3, seconds=14))
    assert pods_of(world, candidate)
    world.go_on(timedelta(seconds=2))
    assert world.cluster.look("Deployment", names.revision_name(OWNER.name, candidate)) is None
    assert world.moment - given_up == timedelta(minutes=3, seconds=16)
    assert world.said("Available") == ("True", "Serving")
    world.answers = True
    world.settle()
    assert_alone(world, old)


def test_ta08_a_revision_that_is_left_behind_again_drains_from_then_on():
    """It was stable once: what history says of that time is over."""
    world = GatewayWorld()
    first = begin(world, wanted("v2"))
    world.settle()
    second = revision(world)
    world.submit(wanted("v1"))
    world.until(lambda: world.weights["HTTPRoute"].get(first) == 50)
    world.submit(wanted("v2"))
    world.go_on(timedelta(seconds=13))
    assert pods_of(world, first)
    world.go_on(timedelta(seconds=5))
    assert not pods_of(world, first)
    assert_alone(world, second)


def test_ta02_what_never_had_requests_has_no_pods_at_once_and_is_gone_after_the_deadline():
    world = GatewayWorld()
    old = begin(world, wanted("v2", progressDeadline="3m"))
    world.until(lambda: world.status["phase"] == "Starting")
    candidate = revision(world, "candidateRevision")
    world.answers = False
    world.around.models[uri("v2")] = WRONG
    world.go_on(timedelta(minutes=2))
    assert world.said("Ready") == ("False", "VerificationFailed")
    assert not pods_of(world, candidate)
    world.go_on(timedelta(minutes=2))
    assert world.cluster.look("Deployment", names.revision_name(OWNER.name, candidate)) is None
    world.answers = True
    world.settle()
    assert_alone(world, old)


@pytest.mark.parametrize(("strategy", "gpus"), [("Canary", 2), ("BlueGreen", 2), ("BlueGreen", 3), ("Canary", 3)])
def test_swapped_pods_have_no_weight_when_they_go(strategy, gpus):
    """In every state: a weight only for a revision with a ready pod, and clients inside the cluster are answered."""
    world = GatewayWorld(around=Surroundings(gpus=gpus), sees_room=True, always_available=True)
    begin(world, wanted("v2", strategy=strategy, capacity="Swap"))
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert_alone(world, revision(world))


@pytest.mark.parametrize("answers", [True, False], ids=["followed", "silent"])
def test_pods_that_gave_their_place_back_keep_it_until_their_weight_is_gone(answers):
    world = GatewayWorld(around=Surroundings(gpus=2), sees_room=True)
    old = begin(world, errs("v2", capacity="Swap"))
    world.until(lambda: world.weights["HTTPRoute"].get(world.status.get("candidateRevision", {}).get("hash")) == 50)
    candidate = revision(world, "candidateRevision")
    world.answers = answers
    world.act("abort")
    world.go_on(timedelta(minutes=1))
    assert bool(pods_of(world, candidate)) is not answers
    world.answers = True
    world.settle()
    assert len(world._ready(old)) == 2
    assert_alone(world, old)


def test_a_first_deployment_is_ready_once_its_routes_are_accepted():
    world = GatewayWorld(answers=False)
    world.submit(wanted("v1"))
    world.go_on(timedelta(minutes=2))
    assert routes(world) == ["GRPCRoute", "HTTPRoute"]
    assert world.status["stableRevision"]["hash"]
    assert world.said("Available") == ("True", "Serving")
    assert world.said("Ready") == ("False", "WaitingForRoutes")
    message = world.condition("Ready")["message"]
    assert message.startswith('Gateway "public" has not answered HTTPRoute "digits-http"; check that it exists')
    assert message.endswith(f"; inside the cluster revision {revision(world)} serves")
    assert world.status["phase"] == "Starting"
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert world.heard == ["Optimizing", "Starting", "Verifying", "WaitingForRoutes", "Serving"]


def test_ready_does_not_flap_while_a_gateway_takes_a_route_over_again():
    world = GatewayWorld()
    begin(world, wanted("v1"))
    world.settle()
    before = list(world.heard)
    for seconds in (1, 9):
        world.answers = False
        change_routes_by_hand(world)
        world.go_on(timedelta(seconds=seconds))
        assert world.said("Ready") == ("True", "Serving")
        assert world.said("Progressing") == ("True", "WaitingForRoutes")
        assert world.status["phase"] == "Ready"
        world.answers = True
        world.settle()
        assert world.said("Progressing") == ("False", "UpToDate")
    assert world.heard == before


def test_a_gateway_that_falls_silent_is_told_ten_seconds_later():
    world = GatewayWorld()
    begin(world, wanted("v1"))
    world.settle()
    world.answers = False
    change_routes_by_hand(world)
    world.go_on(timedelta(seconds=11))
    assert world.said("Ready") == ("False", "WaitingForRoutes")
    assert world.said("Reconciling") == ("True", "WaitingForRoutes")
    assert world.said("Available") == ("True", "Serving")
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_another_host_is_not_ready_before_the_gateway_knows_it():
    """Nobody who waits for Ready after a change is told so by what was before."""
    world = GatewayWorld()
    begin(world, wanted("v1"))
    world.settle()
    world.answers = False
    spec = wanted("v1")
    spec["serving"]["gateway"] = {**GATEWAY, "hostnames": ["b.example.org"]}
    world.submit(spec)
    world.go_on(timedelta(seconds=1))
    assert world.said("Ready") == ("False", "WaitingForRoutes")
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_a_promotion_is_told_once_and_the_routes_are_tidied_without_a_word():
    world = GatewayWorld()
    begin(world, wanted("v2"))
    before = len(world.heard)
    world.settle()
    since = world.heard[before:]
    assert since.count("Serving") == 1
    assert since[-1] == "Serving"


def test_paused_with_a_silent_gateway_nobody_says_ready():
    world = GatewayWorld()
    begin(world, wanted("v1"))
    world.settle()
    world.answers = False
    change_routes_by_hand(world)
    world.pause()
    world.go_on(timedelta(minutes=1))
    assert world.said("Ready") == ("False", "Paused")
    world.pause(False)
    world.answers = True
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_a_cluster_without_routes_serves_inside_and_says_what_is_missing():
    world = GatewayWorld(unserved=frozenset({"HTTPRoute", "GRPCRoute"}))
    world.submit(wanted("v1"))
    world.go_on(timedelta(minutes=2))
    assert world.said("Available") == ("True", "Serving")
    assert world.said("Ready") == ("False", "GatewayUnavailable")
    world.submit(wanted("v2"))
    world.go_on(timedelta(minutes=5))
    assert routes(world) == []
    assert world.said("Available") == ("True", "Serving")
    assert world.said("Ready") == ("False", "GatewayUnavailable")
    assert "install the Gateway API" in world.condition("Ready")["message"]


def test_the_gateway_api_that_comes_later_is_seen_within_a_minute():
    world = GatewayWorld(unserved=frozenset({"HTTPRoute", "GRPCRoute"}))
    world.submit(wanted("v1"))
    world.go_on(timedelta(minutes=2))
    world.unserved = frozenset()
    world.go_on(timedelta(seconds=61))
    assert world.said("Ready") == ("True", "Serving")


def test_a_gateway_that_is_no_longer_named_takes_everything_of_it_along():
    world = GatewayWorld()
    begin(world, wanted("v1"))
    world.settle()
    spec = wanted("v1")
    del spec["serving"]["gateway"]
    serve(world, spec)
    assert routes(world) == []
    assert route_services(world) == set()
    assert world.said("Ready") == ("True", "Serving")


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_events_keeps_weights_on_ready_pods(seed):
    world = GatewayWorld()
    rng = random.Random(seed)
    begin(world, wanted("v2"))
    for _ in range(rng.randrange(40)):
        world.step(rng.choice(world.actors()))
    serve(world, wanted(rng.choice(["v1", "v2", "v3"])), rng=rng)
    assert world.said("Ready") == ("True", "Serving"), world.story[-10:]
    assert_alone(world, revision(world))
