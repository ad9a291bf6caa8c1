"""The last stages of a candidate: on its way to all of the traffic, and a while with all of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import AnalysisVerdict, CapacityStatus, RolloutStage, VerificationStatus
from pilotfish.core.progress import Stage
from pilotfish.core.rollout.layout import Layout, Share
from pilotfish.core.rollout.machine import advance_rollout
from pilotfish.core.rollout.state import lasting
from support.builders import NOW
from support.two_revisions import NEW, OLD, deployed, deployment, pod, scope_of, state_of, traffic, turn_of

BLUE_GREEN = {"strategy": "BlueGreen"}
BAKED = {**BLUE_GREEN, "bake": "5m"}
JUDGED = {**BAKED, "analysis": {"checks": {}}}
CANARY = {"strategy": "Canary", "steps": [{"weight": 20}, {"weight": 50}]}


def at(stage, *, candidate=4, ready=None, service=None, rollout=BLUE_GREEN, began=0, stable=4, pods=(), **state):
    """What a pass makes of the candidate at that stage, which began so many seconds ago."""
    empty = scope_of(rollout=rollout)
    stored = state_of(stage).model_copy(update={"stage_started_at": timestamp(NOW - timedelta(seconds=began)), **state})
    objects = (deployment(OLD, stable), deployed(empty, candidate, ready), traffic(service), *pods)
    turn = turn_of(scope_of(*objects, state=stored, rollout=rollout), stored)
    return advance_rollout(turn.scope, turn.artifact)


def surge(plan="Surge"):
    return {"capacity": CapacityStatus(plan=plan)}


def test_promotion_waits_for_all_pods_beside_the_stable_ones():
    found = at(RolloutStage.PROMOTING, candidate=4, ready=3, service=OLD)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, share=Share.STABLE, other=NEW)
    assert (found.progress.stage, found.progress.reason) == (Stage.PROMOTING, Reason.PROMOTING)
    assert found.progress.message == f"Revision {NEW} starts: 3/4 pods are ready"
    assert found.progress.wake == NOW + timedelta(seconds=1)
    assert not found.promoted


def test_then_all_of_the_traffic_goes_there():
    found = at(RolloutStage.PROMOTING, service=OLD)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, share=Share.OTHER, other=NEW, weight=100)
    assert (found.progress.stage, found.progress.reason) == (Stage.PROMOTING, Reason.PROMOTING)
    assert found.progress.message == f"All of the traffic goes to revision {NEW}"
    assert not found.promoted


def test_and_once_it_is_there_it_is_the_stable_one():
    found = at(RolloutStage.PROMOTING, service=NEW, promotion="Step", last_action_id="7", **surge())
    assert found.promoted
    assert (found.progress.stage, found.progress.reason) == (Stage.READY, Reason.ALL_PODS_READY)
    assert found.progress.message == f"Revision {NEW}: 4/4 pods are ready"
    assert found.state == lasting(found.state)
    assert found.layout.share is Share.OTHER


def test_a_canary_keeps_its_last_share_until_all_pods_are_there():
    found = at(RolloutStage.PROMOTING, candidate=4, ready=2, rollout=CANARY)
    assert (found.layout.share, found.layout.weight) == (Share.BOTH, 50)
    early = at(RolloutStage.PROMOTING, candidate=4, ready=1, rollout=CANARY)
    assert (early.layout.share, early.layout.weight) == (Share.BOTH, 25)


@pytest.mark.parametrize(("rollout", "share"), [(BLUE_GREEN, Share.BOTH), (CANARY, Share.BOTH)])
def test_swapped_pods_serve_as_they_come(rollout, share):
    found = at(RolloutStage.PROMOTING, candidate=2, stable=2, rollout=rollout, **surge("Swap"))
    assert found.layout.share is share
    assert found.layout.replicas[NEW] == 2


@pytest.mark.parametrize(("bake", "stage"), [("5m", RolloutStage.BAKING), ("0s", None)])
def test_it_bakes_where_that_is_asked_for(bake, stage):
    found = at(RolloutStage.PROMOTING, service=NEW, rollout={**BLUE_GREEN, "bake": bake})
    assert found.promoted is (stage is None)
    assert found.state.stage is stage
    if stage is not None:
        assert found.state.stage_started_at == timestamp(NOW)
    assert at(RolloutStage.PROMOTING, service=NEW, rollout=BAKED, promotion="Full").promoted


def test_while_it_bakes_the_old_revision_is_kept():
    found = at(RolloutStage.BAKING, service=NEW, rollout=BAKED, began=299)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, share=Share.OTHER, other=NEW, weight=100)
    assert (found.progress.stage, found.progress.reason) == (Stage.BAKING, Reason.BAKING)
    assert found.progress.message == (f"Revision {NEW} has all of the traffic; revision {OLD} is kept for 5m")
    assert found.progress.wake == NOW + timedelta(seconds=1)
    assert not found.promoted
    assert found.state.stage is RolloutStage.BAKING


def test_it_bakes_exactly_so_long():
    found = at(RolloutStage.BAKING, service=NEW, rollout=BAKED, began=300, last_action_id="7")
    assert found.promoted
    assert found.progress.message == f"Revision {NEW}: 4/4 pods are ready"
    assert (found.state, found.progress.stage) == (lasting(found.state), Stage.READY)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, share=Share.OTHER, other=NEW, weight=100)


@pytest.mark.parametrize("promotion", ["Step", "Full"])
def test_promoted_it_has_baked_enough(promotion):
    assert at(RolloutStage.BAKING, service=NEW, rollout=BAKED, promotion=promotion).promoted


def test_bad_numbers_while_it_bakes_send_it_back():
    ended = {"terminated": {"finishedAt": timestamp(NOW)}}
    container = {"name": "triton", "restartCount": 1, "state": {"running": {}}, "lastState": ended}
    restarting = {**pod("p", NEW), "status": {"containerStatuses": [container]}}
    found = at(RolloutStage.BAKING, service=NEW, rollout=JUDGED, began=60, pods=(restarting,))
    assert (found.progress.stage, found.progress.reason) == (Stage.FAILED, Reason.ANALYSIS_FAILED)
    assert found.progress.message.startswith("Aborted while it baked: pod restarts 1 > 0")
    assert found.state.aborted.message == found.progress.message
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, other=NEW, returns=True)


def test_the_next_measurement_while_it_bakes_is_when_to_look_again():
    found = at(RolloutStage.BAKING, service=NEW, rollout=JUDGED, began=0)
    assert found.progress.wake < NOW + timedelta(minutes=5)
    assert found.state.analysis.started_at == timestamp(NOW)


@pytest.mark.parametrize("stage", [RolloutStage.PROMOTING, RolloutStage.BAKING, RolloutStage.STEPPING])
def test_a_candidate_whose_pods_are_gone_begins_again(stage):
    empty = scope_of(rollout=BLUE_GREEN)
    stored = state_of(stage).model_copy(update={"verification": VerificationStatus(verdict=AnalysisVerdict.PASS)})
    turn = turn_of(scope_of(deployment(OLD, 4), traffic(OLD), state=stored, rollout=BLUE_GREEN), stored)
    found = advance_rollout(turn.scope, turn.artifact)
    assert (found.state.stage, found.state.verification) == (RolloutStage.STARTING, None)
    assert found.state.stage_started_at == timestamp(NOW)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 4}, other=NEW)
    assert empty.stable == OLD


def test_without_its_artifact_everything_rests():
    turn = turn_of(scope_of(deployment(OLD, 4), traffic(OLD), rollout=BLUE_GREEN), state_of())
    bare = replace(turn.artifact, record=None)
    found = advance_rollout(turn.scope, bare)
    assert (found.progress, found.layout, found.state) == (bare, Layout(replicas={OLD: 4}), turn.scope.rollout)
    other = advance_rollout(replace(turn.scope, revision="dddddddd"), bare)
    assert other.state == lasting(turn.scope.rollout)
    failed = advance_rollout(turn.scope, replace(bare, stage=Stage.FAILED, reason=Reason.SOURCE_UNREACHABLE))
    assert failed.progress.stage is Stage.FAILED
    assert failed.state.aborted.reason == Reason.SOURCE_UNREACHABLE


def test_pods_that_are_lost_while_it_is_promoted_send_it_back():
    unready = pod("p", NEW, ready="False", since=timestamp(NOW - timedelta(minutes=10)))
    found = at(RolloutStage.PROMOTING, ready=3, service=None, pods=(unready,))
    assert (found.progress.stage, found.progress.reason) == (Stage.FAILED, Reason.PROGRESS_DEADLINE_EXCEEDED)
    assert found.progress.message == f"Aborted at promotion: a pod of revision {NEW} was not ready for 10m"


def test_a_swap_begins_with_the_place_of_one_pod():
    found = at(
        RolloutStage.STARTING, candidate=0, service=OLD, **surge("Swap"), rollout={**BLUE_GREEN, "capacity": "Swap"}
    )
    assert found.layout.replicas[NEW] <= 1
    assert found.layout.replicas[OLD] >= 3
