"""One pass over one candidate: how it is given up, what it says when it is done, and the pods of one step."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import AbortStatus, AnalysisVerdict, RolloutStage, RolloutStatus, VerificationStatus
from pilotfish.core.plan import Apply
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.layout import Layout, Share
from pilotfish.core.rollout.moving import lost_pods, move, stay, while_nobody_else_serves
from pilotfish.core.rollout.pods import Pods
from pilotfish.core.rollout.room import first_pods, step_pods
from pilotfish.core.rollout.steps import ResolvedStep
from pilotfish.core.rollout.turn import abort, done, give_up, heading, sooner
from support.builders import NOW
from support.two_revisions import NEW, OLD, deployed, deployment, pod, scope_of, state_of, traffic, turn_of

CANARY = {"strategy": "Canary", "steps": [{"weight": 25}, {"weight": 50}]}


def turn(*objects, state=None, ready=None, candidate=None, **more):
    state = state or state_of()
    scope = scope_of(*objects, state=state, rollout=CANARY, **more)
    if candidate is not None:
        scope = scope_of(*objects, deployed(scope, candidate, ready), state=state, rollout=CANARY, **more)
    return turn_of(scope, state)


def test_a_candidate_is_given_up_once_with_its_reason():
    at = turn(deployment(OLD, 4), traffic(OLD), state=state_of().model_copy(update={"promotion": "Step"}))
    failed = Progress(
        stage=Stage.CANARYING, reason=Reason.ANALYSIS_FAILED, message="too slow", applies=(Apply(body={}),), wake=NOW
    )
    found = give_up(at.scope, at.state, failed)
    assert found.progress == replace(failed, stage=Stage.FAILED, applies=())
    told = AbortStatus(revision=NEW, reason=Reason.ANALYSIS_FAILED, message="too slow", at=timestamp(NOW))
    assert found.state == at.state.model_copy(update={"aborted": told, "promotion": None})
    assert found.layout == Layout(replicas={OLD: 4, NEW: 0}, other=NEW, returns=True)
    assert not found.promoted
    later = replace(failed, message="another one")
    assert give_up(at.scope, found.state, later).state == found.state
    of_another = found.state.model_copy(update={"aborted": told.model_copy(update={"revision": OLD})})
    assert give_up(at.scope, of_another, failed).state.aborted == told


def test_an_abort_names_its_reason_and_the_verdict_that_decided():
    at = turn(deployment(OLD, 4), traffic(OLD))
    found = abort(at, Reason.VERIFICATION_FAILED, "wrong", verdict=AnalysisVerdict.FAIL)
    assert (found.progress.stage, found.progress.reason, found.progress.message) == (
        Stage.FAILED,
        Reason.VERIFICATION_FAILED,
        "wrong",
    )
    assert (found.progress.applies, found.progress.record) == ((), at.artifact.record)
    assert found.state.verification == VerificationStatus(
        verdict=AnalysisVerdict.FAIL, message="wrong", at=timestamp(NOW)
    )
    assert found.state.aborted.message == "wrong"
    assert abort(at, Reason.ANALYSIS_FAILED, "slow").state.verification is None


def test_done_counts_the_pods_and_looks_again_for_nothing():
    at = turn(candidate=4, ready=3)
    found = done(at, replace(at.artifact, wake=NOW))
    assert found == replace(
        at.artifact,
        stage=Stage.READY,
        reason=Reason.ALL_PODS_READY,
        message=f"Revision {NEW}: 3/4 pods are ready",
        wake=None,
    )


def test_small_words():
    step = ResolvedStep(index=1, count=4, weight=25, hold=None, hash="h")
    assert heading(step) == "Step 2/4 (25 %)"
    assert sooner(None, NOW + timedelta(1), NOW, None) == NOW
    assert sooner(None) is None


@pytest.mark.parametrize(("minutes", "seconds"), [(0, 1), (0.1, 1), (2, 15), (60, 60), (-5, 1)])
def test_what_takes_long_is_looked_at_ever_more_seldom(minutes, seconds):
    began = timestamp(NOW - timedelta(minutes=minutes))
    at = replace(turn(), state=RolloutStatus(revision=NEW, stage=RolloutStage.PROMOTING, stage_started_at=began))
    assert at.look_again == NOW + timedelta(seconds=seconds)


def test_both_sides_of_a_turn():
    at = turn(deployment(OLD, 3, 2), candidate=1, state=state_of(plan="Swap"))
    assert at.stable == Pods(wanted=4, asked=3, total=3, ready=2, exists=True)
    assert at.candidate == Pods(wanted=4, asked=1, total=1, ready=1, exists=True)
    assert (at.replicas, at.mode) == (4, Capacity.SWAP)
    assert turn(stable=None).stable == Pods(wanted=4)


# The pods of one step


def step(at, *, stable, candidate, share=Share.BOTH, weight=25, **more):
    layout, progress = move(at, stable=stable, candidate=candidate, share=share, weight=weight, **more)
    return layout, progress


def test_the_first_revision_is_simply_started():
    layout, progress = step(turn(stable=None), stable=0, candidate=4)
    assert layout == Layout(replicas={NEW: 4})
    assert progress.stage is Stage.OPTIMIZING
    assert [apply.body["kind"] for apply in progress.applies][-1] == "Deployment"


def test_beside_a_whole_stable_revision_the_candidate_gets_its_pods_and_then_its_share():
    layout, _ = step(turn(deployment(OLD, 4), traffic(OLD)), stable=4, candidate=2)
    assert layout == Layout(replicas={OLD: 4, NEW: 2}, share=Share.STABLE, other=NEW, weight=0)
    layout, _ = step(turn(deployment(OLD, 4), traffic(OLD), candidate=2, ready=1), stable=4, candidate=2)
    assert layout == Layout(replicas={OLD: 4, NEW: 2}, share=Share.BOTH, other=NEW, weight=25)
    layout, _ = step(turn(deployment(OLD, 4), traffic(OLD), candidate=2), stable=4, candidate=2, weight=90)
    assert layout.weight == 50, "no pod takes more than its part"


@pytest.mark.parametrize("share", [Share.STABLE, Share.OTHER])
def test_only_a_common_share_waits_for_ready_pods(share):
    assert step(turn(deployment(OLD, 4), traffic(OLD)), stable=4, candidate=2, share=share)[0].share is share


def test_a_third_revision_behind_the_service_gets_no_share_of_it():
    third = deployment("dddddddd", 1)
    layout, _ = step(turn(deployment(OLD, 4), third, traffic(OLD), candidate=2), stable=4, candidate=2)
    assert layout.share is Share.STABLE


def test_a_swap_goes_one_by_one_and_never_alone_under_what_was_promised():
    swap = state_of(plan="Swap")
    layout, _ = step(turn(deployment(OLD, 4), traffic(OLD), state=swap), stable=2, candidate=2)
    assert layout.replicas == {OLD: 3, NEW: 0}
    layout, _ = step(turn(deployment(OLD, 3), traffic(OLD), state=swap, candidate=1), stable=2, candidate=2)
    assert layout.replicas == {OLD: 3, NEW: 1}, "the Service still points at stable alone"
    layout, _ = step(turn(deployment(OLD, 3), traffic(None), state=swap, candidate=1), stable=2, candidate=2)
    assert layout.replicas == {OLD: 2, NEW: 1}


def test_a_candidate_on_its_way_to_its_pods_has_not_arrived():
    swap = state_of(plan="Swap")
    _, progress = step(turn(deployment(OLD, 3), traffic(None), state=swap, candidate=1), stable=2, candidate=2)
    assert (progress.stage, progress.reason) != (Stage.READY, Reason.ALL_PODS_READY)
    assert progress.message == f"Revision {NEW} starts: 1/1 pods are ready"


def test_pods_as_they_stand():
    assert stay(turn(stable=None), share=Share.STABLE)[0] == Layout(replicas={NEW: 4}, other=NEW)
    at = turn(deployment(OLD, 3), candidate=2)
    assert stay(at, share=Share.STABLE)[0] == Layout(replicas={OLD: 4, NEW: 2}, other=NEW)
    swapped = turn(deployment(OLD, 3), candidate=2, state=state_of(plan="Swap"))
    assert stay(swapped, share=Share.BOTH)[0] == Layout(replicas={OLD: 3, NEW: 2}, share=Share.BOTH, other=NEW)
    lost = turn(candidate=2, state=state_of(plan="Swap"))
    assert stay(lost, share=Share.STABLE)[0].replicas == {OLD: 4, NEW: 2}
    fresh = turn(deployment(OLD, 4))
    assert stay(fresh, share=Share.STABLE)[0].replicas == {OLD: 4, NEW: 1}, "as the first step will ask"


def test_pods_that_do_not_get_ready_in_time_end_it():
    def waits(seconds):
        since = timestamp(NOW - timedelta(seconds=seconds))
        return turn(deployment(OLD, 4), pod("p", NEW, ready="False", since=since), candidate=2, ready=1)

    going = Progress(stage=Stage.STARTING, reason=Reason.STARTING, message="")
    deadline = waits(0).scope.spec.rollout.progress_deadline
    assert deadline == "10m"
    assert lost_pods(waits(599), going, "step 1/2") is None
    late = lost_pods(waits(600), going, "step 1/2")
    assert late.progress.reason is Reason.PROGRESS_DEADLINE_EXCEEDED
    assert late.progress.message == f"Aborted at step 1/2: a pod of revision {NEW} was not ready for 10m"
    assert lost_pods(turn(deployment(OLD, 4), candidate=2), going, "promotion") is None
    failed = replace(going, stage=Stage.FAILED, reason=Reason.IMAGE_PULL_FAILED, message="no such image")
    found = lost_pods(waits(0), failed, "promotion").progress
    assert (found.reason, found.message) == (Reason.IMAGE_PULL_FAILED, "Aborted at promotion: no such image")


def test_the_deadline_of_a_pod_that_waits_is_when_to_look_again():
    since = timestamp(NOW - timedelta(seconds=30))
    waiting = pod("p", NEW, ready="False", since=since)
    _, progress = step(turn(deployment(OLD, 4), waiting, traffic(OLD), candidate=2, ready=1), stable=4, candidate=2)
    assert progress.wake == NOW + timedelta(minutes=10, seconds=-30)
    passed = pod("p", NEW, ready="False", since=timestamp(NOW - timedelta(minutes=10)))
    _, progress = step(turn(deployment(OLD, 4), passed, traffic(OLD), candidate=2, ready=1), stable=4, candidate=2)
    assert progress.wake is None


def test_a_stage_before_it_takes_requests_changes_nothing_of_that():
    at = turn(deployment(OLD, 4), traffic(OLD), candidate=1, state=state_of(RolloutStage.STARTING))
    layout, _ = step(at, stable=4, candidate=1, share=Share.STABLE, weight=0)
    assert layout == Layout(replicas={OLD: 4, NEW: 1}, other=NEW)


@pytest.mark.parametrize(
    ("mode", "weight", "pods"),
    [
        (Capacity.SURGE, 10, (4, 1)),
        (Capacity.SURGE, 25, (4, 1)),
        (Capacity.SURGE, 26, (4, 2)),
        (Capacity.SURGE, 100, (4, 4)),
        (Capacity.SWAP, 50, (2, 2)),
        (Capacity.SWAP, 10, (3, 1)),
        (Capacity.RECREATE, 50, (2, 2)),
    ],
)
def test_behind_a_gateway_a_step_takes_the_pods_that_its_requests_need(mode, weight, pods):
    assert step_pods(scope_of(gateway={"name": "public"}), mode, weight) == pods


def test_how_many_pods_are_verified_first():
    steps = turn().steps
    assert first_pods(scope_of(), Capacity.SURGE, steps) == 1
    assert first_pods(scope_of(), Capacity.SURGE, ()) == 4
    assert first_pods(scope_of(), Capacity.SWAP, ()) == 1
    assert first_pods(scope_of(), Capacity.RECREATE, steps) == 4
    assert first_pods(scope_of(stable=None), Capacity.SWAP, steps) == 4
    assert first_pods(scope_of(replicas=0), Capacity.SWAP, steps) == 0


@pytest.mark.parametrize(
    ("old", "new", "weight"), [((2, 2), (2, 2), 50), ((1, 1), (3, 3), 75), ((1, 0), (3, 3), 100), ((2, 2), (2, 0), 0)]
)
def test_requests_of_a_gateway_move_with_the_pods_that_are_swapped(old, new, weight):
    swap = state_of(RolloutStage.PROMOTING, plan="Swap")
    objects = (deployment(OLD, *old), traffic(None))
    at = turn(*objects, candidate=new[0], ready=new[1], state=swap, gateway={"name": "public"})
    layout, _ = step(at, stable=old[0], candidate=4, weight=0, takes_over=True)
    assert layout.weight == weight


def test_what_an_artifact_still_had_to_apply_is_not_applied_for_one_that_is_given_up():
    at = turn(deployment(OLD, 4), traffic(OLD))
    waiting = replace(at, artifact=replace(at.artifact, applies=(Apply(body={}),)))
    assert abort(waiting, Reason.ANALYSIS_FAILED, "slow").progress.applies == ()


def held(*objects, layout=None, stable=OLD, least=3):
    at = turn(*objects, candidate=2, stable=stable, minAvailable=least)
    return while_nobody_else_serves(at, layout or Layout(replicas={OLD: 4, NEW: 2}))


@pytest.mark.parametrize(("service", "share"), [(None, Share.BOTH), (NEW, Share.OTHER)])
def test_one_that_starts_again_keeps_the_traffic_while_nobody_else_serves(service, share):
    found = held(deployment(OLD, 4, 2), traffic(service))
    assert found == Layout(replicas={OLD: 4, NEW: 2}, share=share, other=NEW)


def test_the_traffic_stays_where_somebody_else_serves_or_nothing_points_elsewhere():
    rest = Layout(replicas={OLD: 4, NEW: 2})
    assert held(deployment(OLD, 4, 3), traffic(None)) == rest, "as many as were promised"
    assert held(deployment(OLD, 4, 0), traffic(OLD)) == rest
    assert held(deployment(OLD, 4, 0), traffic("dddddddd")) == rest
    assert held(deployment(OLD, 4, 0), traffic(None), stable=None) == rest
    back, both = replace(rest, returns=True), replace(rest, share=Share.BOTH)
    for layout in (back, both):
        assert held(deployment(OLD, 4, 0), traffic(None), layout=layout) == layout
    unready = turn(deployment(OLD, 4, 0), traffic(None), candidate=2, ready=0, minAvailable=3)
    assert while_nobody_else_serves(unready, rest) == rest


def test_a_swap_behind_a_gateway_moves_its_pods_without_the_service():
    swap = state_of(plan="Swap")
    at = turn(deployment(OLD, 3), traffic(OLD), state=swap, candidate=1, gateway={"name": "public"})
    assert step(at, stable=2, candidate=2)[0].replicas == {OLD: 2, NEW: 1}
    taking = turn(deployment(OLD, 3), traffic(OLD), state=swap, candidate=1, gateway={"name": "public"})
    assert step(taking, stable=2, candidate=2, takes_over=True)[0].replicas == {OLD: 3, NEW: 1}


def test_the_weight_of_swapped_pods_is_a_whole_number():
    swap = state_of(RolloutStage.PROMOTING, plan="Swap")
    at = turn(deployment(OLD, 2), traffic(None), candidate=1, state=swap, gateway={"name": "public"})
    weight = step(at, stable=2, candidate=4, weight=0, takes_over=True)[0].weight
    assert (weight, type(weight)) == (33, int)
