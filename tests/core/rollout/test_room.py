"""The plan for a candidate's place as a pass keeps it, and pods that find none."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.progress import Stage
from pilotfish.core.rollout.layout import Layout
from pilotfish.core.rollout.machine import advance_rollout
from pilotfish.core.rollout.room import count_placed, keep_plan, load_seconds, room_due, room_overdue
from support.builders import NOW, POLICY
from support.two_revisions import NEW, OLD, deployed, deployment, pod, scope_of, state_of, traffic, turn_of

GPUS = {"gpus": {"count": 1}}
DEADLINE = POLICY.schedule_deadline


def ago(seconds):
    return timestamp(NOW - timedelta(seconds=seconds))


def waiting(name, revision=NEW, *, seconds, message="0/1 nodes are available: 1 Insufficient nvidia.com/gpu."):
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": ago(seconds),
    }
    container = {"name": "triton", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        **pod(name, revision),
        "spec": {"containers": [container]},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def placed(name, revision=NEW):
    return {**pod(name, revision), "spec": {"nodeName": "node"}}


def at(*objects, plan=None, stage=RolloutStage.STARTING, **serving):
    state = state_of(stage, plan=plan)
    scope = replace(scope_of(*objects, state=state, **{**GPUS, **serving}), revision=NEW)
    return scope, state


def test_beside_a_stable_revision_there_is_a_plan_and_the_first_needs_none():
    scope, state = at(deployment(OLD, 4))
    kept, blocked = keep_plan(scope, state)
    assert (kept.capacity.plan, blocked) == ("Surge", None)
    assert keep_plan(scope, kept) == (kept, None), "told once"
    first, state = at(stable=None)
    assert keep_plan(first, state) == (state, None)


def test_without_a_place_in_time_pods_are_swapped_and_that_stays_told():
    late = int(DEADLINE.total_seconds())
    scope, state = at(deployment(OLD, 4), deployment(NEW, 1, 0), waiting("p", seconds=late), minAvailable=3)
    swapped, blocked = keep_plan(scope, state)
    assert (swapped.capacity.plan, blocked) == ("Swap", None)
    early, state = at(deployment(OLD, 4), deployment(NEW, 1, 0), waiting("p", seconds=late - 1), minAvailable=3)
    assert keep_plan(early, state)[0].capacity.plan == "Surge"
    begun, state = at(deployment(OLD, 3), deployment(NEW, 1), plan="Swap", minAvailable=3)
    assert keep_plan(begun, state) == (state, None), "measured anew it would speak of what was stopped"


def test_scaled_during_a_swap_it_tells_what_is_needed_now_and_times_that_no_pod_tells_stay():
    begun, state = at(deployment(OLD, 3), deployment(NEW, 1), plan="Swap", minAvailable=3)
    promised = state.capacity.model_copy(update={"gpus_needed": 2, "rollback_eta": "40s"})
    told, _ = keep_plan(begun, state.model_copy(update={"capacity": promised}))
    assert (told.capacity.gpus_needed, told.capacity.rollback_eta) == (4, "40s")
    assert told.capacity.message.endswith("3 of 4 keep serving")
    assert keep_plan(begun, told) == (told, None), "told once"


def test_what_no_plan_allows_is_told_with_its_cure():
    late = int(DEADLINE.total_seconds())
    scope, state = at(deployment(OLD, 4), deployment(NEW, 1, 0), waiting("p", seconds=late), minAvailable=4)
    _, blocked = keep_plan(scope, state)
    assert blocked.reason is Reason.INSUFFICIENT_GPU
    assert "minAvailable" in blocked.message


def test_a_swapped_pod_that_finds_no_place_in_time():
    late = int(DEADLINE.total_seconds())
    stands = (deployment(OLD, 3), deployment(NEW, 1, 0))
    scope, _ = at(*stands, waiting("p", seconds=late))
    found = room_overdue(scope, Capacity.SWAP)
    assert found.reason is Reason.INSUFFICIENT_GPU
    assert room_overdue(scope, Capacity.RECREATE) == found
    assert room_overdue(scope, Capacity.SURGE) is None, "nothing was given up for it"
    early, _ = at(*stands, waiting("p", seconds=late - 1))
    assert room_overdue(early, Capacity.SWAP) is None
    assert room_due(early) == NOW + timedelta(seconds=1)
    assert room_due(scope) is None, "that moment has passed"
    assert room_due(at(*stands)[0]) is None


def test_where_nothing_tells_why_a_place_is_missing():
    scope, _ = at(deployment(OLD, 3), waiting("p", seconds=int(DEADLINE.total_seconds())))
    found = room_overdue(scope, Capacity.SWAP)
    assert (found.reason, found.message) == (Reason.UNSCHEDULABLE, "the new revision's pods find no place in time")


def test_then_the_room_goes_back():
    stored = state_of(RolloutStage.STARTING, plan="Swap")
    serving = {"rollout": {"strategy": "BlueGreen"}, "minAvailable": 3, **GPUS}
    objects = (
        deployment(OLD, 3),
        deployed(scope_of(**serving), 1, 0),
        waiting("p", seconds=int(DEADLINE.total_seconds())),
        traffic(OLD),
    )
    turn = turn_of(scope_of(*objects, state=stored, **serving), stored)
    found = advance_rollout(turn.scope, turn.artifact)
    assert (found.progress.stage, found.progress.reason) == (Stage.FAILED, Reason.INSUFFICIENT_GPU)
    assert found.progress.message.startswith(f"The room goes back to revision {OLD}: ")
    assert found.state.aborted.reason == Reason.INSUFFICIENT_GPU
    assert found.layout == Layout(replicas={OLD: 4, NEW: 0}, other=NEW, returns=True)


@pytest.mark.parametrize("stage", [RolloutStage.STARTING, RolloutStage.VERIFYING, RolloutStage.BAKING])
def test_pods_that_never_start_end_it_at_any_stage(stage):
    stored = state_of(stage, plan="Surge").model_copy(update={"stage_started_at": ago(10)})
    serving = {"rollout": {"strategy": "BlueGreen", "bake": "5m"}}
    stuck = deployed(scope_of(**serving), 4, 0)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}
    stuck = {**stuck, "status": {**stuck["status"], "conditions": [late]}}
    objects = (deployment(OLD, 4), stuck, traffic(OLD))
    turn = turn_of(scope_of(*objects, state=stored, **serving), stored)
    found = advance_rollout(turn.scope, turn.artifact)
    assert (found.progress.stage, found.progress.reason) == (Stage.FAILED, Reason.PROGRESS_DEADLINE_EXCEEDED)
    assert found.state.aborted.reason == found.progress.reason
    assert found.state.stage is stage
    assert found.layout.returns


def test_pods_that_have_a_node_are_placed():
    bare = {key: value for key, value in pod("c", NEW).items() if key != "spec"}
    scope, _ = at(placed("a"), placed("b", OLD), waiting("w", seconds=1), bare)
    assert count_placed(scope) == 1


def ready_pod(name, *, created=None, scheduled=None, ready=None, status="True"):
    conditions = [{"type": "Ready", "status": status, **({"lastTransitionTime": ready} if ready else {})}]
    if scheduled:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled})
    body = pod(name, NEW, created=created)
    return {**body, "status": {"conditions": conditions}}


def test_loading_takes_from_a_pods_place_to_when_it_was_ready():
    slow = ready_pod("a", created=ago(500), scheduled=ago(100), ready=ago(40))
    assert load_seconds((slow,)) == 60
    unplaced = ready_pod("b", created=ago(50), ready=ago(40))
    assert load_seconds((unplaced,)) == 10
    assert load_seconds((unplaced, slow)) == load_seconds((slow, unplaced)) == 60, "the longest counts"
    backwards = ready_pod("c", scheduled=ago(10), ready=ago(40))
    assert load_seconds((backwards,)) == 0
    for silent in (
        ready_pod("d", scheduled=ago(100), ready=ago(40), status="False"),
        ready_pod("e", scheduled=ago(100)),
        ready_pod("f", ready=ago(40)),
        pod("g", NEW),
    ):
        assert load_seconds((silent,)) is None
        assert load_seconds((silent, slow)) == 60
    assert load_seconds(()) is None
