"""Where pods and traffic should be: at rest, as found, and on the way back from wherever a rollout was."""

from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import RolloutStage, RolloutStatus
from pilotfish.core.rollout.layout import (
    Arrival,
    Layout,
    Share,
    arrival,
    as_found,
    at_rest,
    go_back,
    mode_of,
    promised,
    route_weights,
    scale_of,
    stored_share,
)
from pilotfish.core.rollout.pods import Pods, count_pods, unready_since
from pilotfish.core.rollout.scale import Scale
from support.builders import NOW
from support.two_revisions import NEW, OLD, deployment, labelled, pod, scope_of, state_of, traffic


def back(*objects, state=None, **more):
    state = state or state_of()
    return go_back(scope_of(*objects, state=state, **more), state, NEW)


# Counting


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (deployment(NEW, 4), Pods(wanted=4, asked=4, total=4, ready=4, complete=True, exists=True)),
        (deployment(NEW, 4, 3), Pods(wanted=4, asked=4, total=4, ready=3, exists=True)),
        (deployment(NEW, 4, seen=0), Pods(wanted=4, asked=4, total=4, ready=4, exists=True)),
        (deployment(NEW, 3), Pods(wanted=4, asked=3, total=3, ready=3, exists=True)),
        (deployment(NEW, 4, total=5), Pods(wanted=4, asked=4, total=5, ready=4, exists=True)),
        (deployment(NEW, 4, 5, total=5), Pods(wanted=4, asked=4, total=5, ready=5, exists=True)),
        (deployment(NEW, 4, updated=3), Pods(wanted=4, asked=4, total=4, ready=4, exists=True)),
        (deployment(NEW, 4, deletionTimestamp="2026-01-01T11:00:00Z"), Pods(wanted=4)),
        (deployment(OLD, 4), Pods(wanted=4)),
    ],
)
def test_pods_as_their_deployment_has_counted_them(found, expected):
    assert count_pods(scope_of(found), NEW) == expected


def test_what_a_controller_has_not_said_counts_as_none():
    bare = {**deployment(NEW, 1), "spec": {}, "status": {}}
    assert count_pods(scope_of(bare), NEW) == Pods(wanted=4, asked=1, exists=True)
    del bare["status"]
    assert count_pods(scope_of(bare), NEW, wanted=1) == Pods(wanted=1, asked=1, exists=True)
    unnumbered = deployment(NEW, 4)
    del unnumbered["metadata"]["generation"]
    assert count_pods(scope_of(unnumbered), NEW).complete
    later = deployment(NEW, 4, seen=3)
    assert count_pods(scope_of(later), NEW).complete


def test_pods_that_leave_hold_their_place():
    gone = "2026-01-01T11:00:00Z"
    pods = (pod("a", NEW, deletionTimestamp=gone), pod("b", NEW, deletionTimestamp=gone), pod("c", NEW))
    other = pod("d", OLD, deletionTimestamp=gone)
    assert count_pods(scope_of(deployment(NEW, 1), *pods, other), NEW).leaving == 2
    assert count_pods(scope_of(*pods, other), NEW) == Pods(wanted=4, leaving=2)


def test_since_when_the_longest_unready_pod_is_not_ready():
    early, later, last = "2026-01-01T11:00:00Z", "2026-01-01T11:10:00Z", "2026-01-01T11:20:00Z"
    waits = pod("a", NEW, ready="False", since=later, created=early)
    assert unready_since(scope_of(waits), NEW) == NOW - timedelta(minutes=50)
    ready_first = pod("r", NEW, ready="True", since=early)
    fresh = pod("f", NEW, created=last)
    assert unready_since(scope_of(ready_first, fresh), NEW) == NOW - timedelta(minutes=40)
    assert unready_since(scope_of(ready_first, fresh, waits), NEW) == NOW - timedelta(minutes=50)
    unknown = pod("u", NEW)
    assert unready_since(scope_of(unknown, fresh), NEW) == NOW - timedelta(minutes=40)
    assert unready_since(scope_of(ready_first), NEW) is None
    assert unready_since(scope_of(waits), OLD) is None


# Where the traffic is


def test_at_rest_all_of_it_is_on_the_stable_revision():
    assert at_rest(scope_of()) == Layout(replicas={OLD: 4})
    assert at_rest(scope_of(stable=None)) == Layout()


@pytest.mark.parametrize(("service", "share"), [(OLD, "Stable"), (None, "Both"), (NEW, "Other"), ("dddddddd", None)])
def test_whom_the_traffic_service_points_at(service, share):
    assert stored_share(scope_of(traffic(service)), NEW) == share
    assert stored_share(scope_of(), NEW) is None
    bare = {**traffic(OLD), "spec": {}}
    assert stored_share(scope_of(bare), NEW) is Share.BOTH
    del bare["spec"]
    assert stored_share(scope_of(bare), NEW) is Share.BOTH


@pytest.mark.parametrize("stage", [RolloutStage.STEPPING, RolloutStage.PROMOTING, RolloutStage.BAKING])
def test_a_pass_that_may_not_move_keeps_what_stands(stage):
    state = state_of(stage)
    stands = (deployment(OLD, 3), deployment(NEW, 2, 1))
    assert as_found(scope_of(*stands, traffic(None), state=state)) == Layout(
        replicas={OLD: 3, NEW: 2}, share=Share.BOTH, other=NEW
    )
    assert as_found(scope_of(stands[0], state=state)) == Layout(replicas={OLD: 3}, other=NEW)


@pytest.mark.parametrize(
    ("state", "stable"),
    [
        (state_of(RolloutStage.STARTING), OLD),
        (state_of(RolloutStage.VERIFYING), OLD),
        (state_of(revision=OLD), OLD),
        (RolloutStatus(), OLD),
        (state_of(), None),
    ],
)
def test_without_two_that_serve_there_is_nothing_to_keep(state, stable):
    service = {**traffic(None), "metadata": {**traffic(None)["metadata"], "labels": labelled("gone")}}
    scope = scope_of(deployment(OLD, 1), deployment(NEW, 2), service, state=state, stable=stable)
    assert as_found(scope) == Layout(replicas={OLD: 4} if stable else {})


@pytest.mark.parametrize(
    ("replicas", "least", "enough"), [(4, 3, 3), (4, 4, 4), (4, 0, 1), (1, 0, 1), (4, 1, 1), (0, 0, 0)]
)
def test_what_was_promised_is_enough_for_all_of_the_traffic(replicas, least, enough):
    assert promised(scope_of(replicas=replicas, minAvailable=least)) == enough


def test_weights_of_a_gateway():
    both = scope_of(deployment(OLD, 1), deployment(NEW, 1))
    assert route_weights(both, Layout(other=NEW, weight=30)) == {OLD: 70, NEW: 30}
    assert route_weights(both, Layout(other=NEW, weight=30, returns=True)) == {OLD: 70, NEW: 30}
    assert route_weights(both, Layout()) == {OLD: 100}
    assert route_weights(both, Layout(other=OLD, weight=30)) == {OLD: 100}
    alone = scope_of(deployment(OLD, 1))
    assert route_weights(alone, Layout(other=NEW, weight=0, returns=True)) == {OLD: 100}
    assert route_weights(alone, Layout(other=NEW, weight=0)) == {OLD: 100, NEW: 0}
    assert route_weights(scope_of(stable=None), Layout(other=NEW)) == {}


def test_traffic_has_arrived_when_the_service_is_as_it_should_be():
    changing = Arrival(there=False, reason=Reason.CANARYING, message="the traffic Service is being changed")
    both = Layout(other=NEW, share=Share.BOTH)
    assert arrival(scope_of(traffic(None)), both) == Arrival(there=True)
    assert arrival(scope_of(traffic(OLD)), both) == changing
    assert arrival(scope_of(), both) == changing
    assert arrival(scope_of(traffic(OLD)), Layout(share=Share.BOTH)) == Arrival(there=True), "nobody else"
    assert arrival(scope_of(stable=None), both) == Arrival(there=True), "the first one"


def test_a_gateway_that_waits_says_so():
    waits = arrival(scope_of(traffic(None), gateway={"name": "public"}), Layout(other=NEW, share=Share.BOTH))
    assert not waits.there
    assert waits.message


# Going back


def test_nothing_to_go_back_to():
    assert back(stable=None) == Layout(returns=True)


@pytest.mark.parametrize("service", [OLD, None, NEW])
def test_beside_a_whole_stable_revision_the_other_one_loses_its_traffic_first(service):
    stands = (deployment(OLD, 4), deployment(NEW, 2), traffic(service))
    assert back(*stands) == Layout(replicas={OLD: 4, NEW: 2}, other=NEW, returns=True)


def test_one_that_never_had_requests_goes_at_once():
    stands = (deployment(OLD, 4), deployment(NEW, 2), traffic(OLD))
    gone = Layout(replicas={OLD: 4, NEW: 0}, other=NEW, returns=True)
    for stage in (RolloutStage.STARTING, RolloutStage.VERIFYING):
        assert back(*stands, state=state_of(stage)) == gone
        assert back(*stands, state=state_of(stage, plan="Swap")) == gone
    assert back(*stands, state=state_of(revision="another")) == gone


def test_swapped_pods_come_back_one_for_one_once_the_traffic_has_turned():
    turned = (deployment(OLD, 3), deployment(NEW, 1), traffic(OLD))
    assert back(*turned, state=state_of(plan="Swap"), minAvailable=3).replicas == {OLD: 4, NEW: 0}
    pointed = (deployment(OLD, 3), deployment(NEW, 1), traffic(None))
    assert back(*pointed, state=state_of(plan="Swap"), minAvailable=3) == Layout(
        replicas={OLD: 3, NEW: 1}, other=NEW, returns=True
    )
    fewer = (deployment(OLD, 1), deployment(NEW, 1), traffic(NEW))
    assert back(*fewer, state=state_of(plan="Swap"), minAvailable=1).replicas == {OLD: 3, NEW: 1}


def test_where_stable_gave_up_its_pods_both_serve_until_it_has_them_again():
    stands = (deployment(OLD, 2), deployment(NEW, 2), traffic(None))
    found = back(*stands, state=state_of(plan="Swap"), minAvailable=3)
    assert found == Layout(replicas={OLD: 2, NEW: 1}, share=Share.BOTH, other=NEW, weight=100 - 66, returns=True)


@pytest.mark.parametrize(
    ("ready", "service", "share", "weight"),
    [(1, None, Share.BOTH, 67), (0, None, Share.BOTH, 100), (0, NEW, Share.OTHER, 100), (1, NEW, Share.BOTH, 67)],
)
def test_nobody_is_turned_to_a_stable_revision_without_a_ready_pod(ready, service, share, weight):
    stands = (deployment(OLD, 1, ready), deployment(NEW, 3), traffic(service))
    found = back(*stands, state=state_of(RolloutStage.PROMOTING, plan="Swap"), minAvailable=3)
    assert (found.share, found.weight, found.other, found.returns) == (share, weight, NEW, True)


def test_a_service_that_points_at_nobody_known_gets_both():
    stands = (deployment(OLD, 1, 0), deployment(NEW, 3), traffic("dddddddd"))
    assert back(*stands, state=state_of(RolloutStage.PROMOTING, plan="Swap"), minAvailable=3).share is Share.BOTH


def test_alone_behind_the_service_it_keeps_the_pods_that_were_promised():
    stands = (deployment(OLD, 1), deployment(NEW, 3), traffic(NEW))
    kept = back(*stands, state=state_of(RolloutStage.BAKING, plan="Swap"), minAvailable=3)
    assert kept.replicas == {OLD: 1, NEW: 3}
    beside = (deployment(OLD, 1), deployment(NEW, 3), traffic(None))
    assert back(*beside, state=state_of(RolloutStage.BAKING, plan="Swap"), minAvailable=3).replicas == {OLD: 1, NEW: 2}


def test_recreated_pods_give_their_room_back_all_at_once():
    stands = (deployment(OLD, 0), deployment(NEW, 4), traffic(NEW))
    found = back(*stands, state=state_of(RolloutStage.BAKING, plan="Recreate"))
    assert found == Layout(replicas={OLD: 0, NEW: 0}, share=Share.OTHER, other=NEW, weight=100, returns=True)


def test_a_stable_pod_that_finds_no_place_gets_one_in_the_end():
    unplaced = {
        **pod("s", OLD, created=timestamp(NOW - timedelta(hours=2))),
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "lastTransitionTime": timestamp(NOW - timedelta(hours=2)),
                }
            ]
        },
    }
    stands = (deployment(OLD, 2, 1), deployment(NEW, 2), traffic(NEW))
    state = state_of(RolloutStage.BAKING, plan="Swap")
    assert back(*stands, unplaced, state=state, minAvailable=3).replicas[NEW] == 1
    assert back(*stands, state=state, minAvailable=3).replicas[NEW] == 2


def test_with_no_pod_of_the_other_ready_nothing_is_waited_for():
    stands = (deployment(OLD, 1), deployment(NEW, 3, 0), traffic(None))
    found = back(*stands, state=state_of(plan="Swap"), minAvailable=3)
    assert found == Layout(replicas={OLD: 1, NEW: 3}, other=NEW, returns=True)


def test_both_sides_as_the_steps_count_them():
    stable = Pods(wanted=9, asked=1, total=2, ready=3, leaving=4)
    candidate = Pods(wanted=9, asked=5, total=6, ready=7, leaving=8)
    assert scale_of(stable, candidate) == Scale(
        stable_asked=1,
        stable_total=2,
        stable_ready=3,
        stable_leaving=4,
        candidate_asked=5,
        candidate_total=6,
        candidate_ready=7,
        candidate_leaving=8,
    )


@pytest.mark.parametrize(
    ("plan", "mode"),
    [
        (None, Capacity.SURGE),
        ("Surge", Capacity.SURGE),
        ("Swap", Capacity.SWAP),
        ("Recreate", Capacity.RECREATE),
        ("?", Capacity.SURGE),
    ],
)
def test_how_room_is_made_once_that_is_decided(plan, mode):
    assert mode_of(state_of(plan=plan)) is mode
