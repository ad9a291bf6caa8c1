"""What status says of a rollout's traffic: who is reached, the share asked for, given and measured, the step."""

from dataclasses import replace

import pytest

from pilotfish.api.rollout_status import AbortStatus, RolloutStage, RolloutStatus, StepStatus, TrafficStatus
from pilotfish.core.rollout.layout import Layout, Share
from pilotfish.core.rollout.pods import Pods
from pilotfish.core.rollout.routes import keep_routes
from pilotfish.core.rollout.telling import count_serving, describe, describe_step, serving_revisions
from support.builders import POLICY
from support.two_revisions import NEW, OLD, deployment, scope_of, state_of, traffic

ROUTES = replace(POLICY, gateway_api=True)
CANARY = {"strategy": "Canary", "steps": [{"weight": 10}, {"weight": 50}]}
BOTH = Layout(replicas={OLD: 3, NEW: 1}, share=Share.BOTH, other=NEW)


@pytest.mark.parametrize(
    ("layout", "revisions", "pods"),
    [
        (Layout(replicas={OLD: 3}), (OLD,), Pods(wanted=3, asked=3, total=3, ready=3, complete=True, exists=True)),
        (Layout(), (OLD,), Pods(wanted=4, asked=3, total=3, ready=3, exists=True)),
        (
            replace(BOTH, share=Share.STABLE),
            (OLD,),
            Pods(wanted=3, asked=3, total=3, ready=3, complete=True, exists=True),
        ),
        (replace(BOTH, other=OLD), (OLD,), Pods(wanted=3, asked=3, total=3, ready=3, complete=True, exists=True)),
        (BOTH, (OLD, NEW), Pods(wanted=4, asked=4, total=4, ready=4, complete=True, exists=True)),
        (
            replace(BOTH, share=Share.OTHER),
            (NEW,),
            Pods(wanted=1, asked=1, total=1, ready=1, complete=True, exists=True),
        ),
        (
            replace(BOTH, replicas={OLD: 3, NEW: 2}),
            (OLD, NEW),
            Pods(wanted=5, asked=4, total=4, ready=4, complete=False, exists=True),
        ),
        (
            replace(BOTH, replicas={}),
            (OLD, NEW),
            Pods(wanted=0, asked=4, total=4, ready=4, complete=False, exists=True),
        ),
    ],
)
def test_who_the_requests_reach(layout, revisions, pods):
    scope = scope_of(deployment(OLD, 3), deployment(NEW, 1))
    assert serving_revisions(layout, OLD) == revisions
    assert count_serving(scope, layout, OLD) == pods


def test_one_that_stands_is_enough_to_exist():
    found = count_serving(scope_of(deployment(OLD, 3, 2, total=5)), BOTH, OLD)
    assert found == Pods(wanted=4, asked=3, total=5, ready=2, complete=False, exists=True)
    assert not count_serving(scope_of(), BOTH, OLD).exists


def at_step(index=0, weight=10, **more):
    return state_of().model_copy(update={"step": StepStatus(index=index, weight=weight, started_at="t"), **more})


def told(state, layout=BOTH, *objects, **more):
    return describe(scope_of(*objects, **{"rollout": CANARY, "state": state, **more}), state, layout).traffic


STANDS = (deployment(OLD, 3), deployment(NEW, 1), traffic(None))


def test_a_step_tells_what_it_asks_for_what_it_gets_and_what_is_possible():
    measured = TrafficStatus(achieved="12.5", desired=3)
    assert told(at_step(1, 50, traffic=measured), BOTH, *STANDS) == TrafficStatus(
        desired=50, assigned=25, achieved="12.5", source="Replicas", achievable=(20, 33, 43, 50)
    )


def test_a_step_that_pods_cannot_meet_is_warned_of():
    found = told(at_step(0, 10), BOTH, *STANDS, replicas=2)
    assert found.achievable == (33, 50)
    assert found.message.startswith("A step of 10 % cannot be met with 2 replicas: 1 of 3 pods take 33 %")


@pytest.mark.parametrize(
    ("service", "assigned"),
    [(None, 25), (NEW, 100), (OLD, 0), ("dddddddd", None)],
)
def test_the_share_that_is_given_is_read_from_the_service(service, assigned):
    assert told(at_step(), BOTH, deployment(OLD, 3), deployment(NEW, 1), traffic(service)).assigned == assigned


def test_behind_a_gateway_the_share_is_what_its_routes_say():
    def share(weights, *, layout=BOTH):
        scope = replace(scope_of(*STANDS, gateway={"name": "public"}, rollout=CANARY, state=at_step()), policy=ROUTES)
        routes = tuple(
            {**apply.body, "metadata": {**apply.body["metadata"], "uid": str(number)}}
            for number, apply in enumerate(keep_routes(scope, weights))
        )
        known = replace(scope.observed, children=(*scope.observed.children, *routes))
        return describe(replace(scope, observed=known), at_step(), layout).traffic

    assert share({OLD: 3, NEW: 1}) == TrafficStatus(desired=10, assigned=25, source="Gateway")
    assert share({OLD: 100}).assigned == 0
    assert share({}).assigned is None
    assert share({OLD: 3, NEW: 1}, layout=Layout(replicas={OLD: 4})).assigned is None


def test_without_a_ready_pod_or_a_service_no_share_is_given():
    assert told(at_step(), BOTH, deployment(OLD, 3, 0), deployment(NEW, 1, 0), traffic(None)).assigned is None
    assert told(at_step(), BOTH, deployment(OLD, 3)).assigned is None
    assert told(at_step(), Layout(replicas={OLD: 4}), *STANDS).assigned is None


@pytest.mark.parametrize(
    ("layout", "desired"),
    [
        (replace(BOTH, share=Share.OTHER), 100),
        (BOTH, None),
        (replace(BOTH, share=Share.STABLE), None),
        (replace(BOTH, share=Share.OTHER, returns=True), 0),
    ],
)
@pytest.mark.parametrize("stage", [RolloutStage.PROMOTING, RolloutStage.BAKING])
def test_after_the_steps_all_is_asked_for_once_it_is_given(layout, desired, stage):
    found = told(state_of(stage), layout, *STANDS)
    assert (found.desired, found.achievable, found.message, found.source) == (desired, (), None, "Replicas")


def test_a_step_that_is_left_asks_for_nothing():
    assert told(at_step(1, 50), replace(BOTH, returns=True), *STANDS).desired == 0


@pytest.mark.parametrize("stage", [RolloutStage.STARTING, RolloutStage.VERIFYING, None])
def test_before_it_has_requests_nothing_is_told_of_them(stage):
    state = state_of(stage).model_copy(update={"traffic": TrafficStatus(achieved="1.0")})
    assert told(state, BOTH, *STANDS) is None
    assert told(at_step(traffic=TrafficStatus(achieved="1.0")), BOTH, *STANDS, stable=None) is None


def test_which_step_it_is():
    assert described(at_step(1, 50)) == "2/2 50%"
    assert described(at_step(0, 10)) == "1/2 10%"
    assert described(at_step(2, 80)) is None, "fewer steps since"
    assert described(state_of()) is None
    assert described(None) is None
    given_up = AbortStatus(revision=NEW, reason="AnalysisFailed", at="t")
    assert described(at_step(aborted=given_up)) is None
    assert described(at_step(revision="another")) is None
    assert described(at_step(), rollout={"strategy": "BlueGreen"}) is None


def described(state, *, rollout=CANARY):
    scope = replace(scope_of(rollout=rollout, state=state or RolloutStatus()), revision=NEW)
    return describe_step(scope, state)
