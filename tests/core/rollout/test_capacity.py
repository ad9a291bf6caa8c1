"""Where the room for a candidate comes from."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity, Strategy
from pilotfish.core.rollout.capacity import CapacityAsk, plan_capacity, schedule_overdue, unscheduled_since
from pilotfish.core.rollout.fitting import pods_that_fit
from pilotfish.core.rollout.room import load_seconds
from pilotfish.core.room import NodeRoom, Room

GPU = "nvidia.com/gpu"
TWO = CapacityAsk(replicas=2, min_available=1, surge_pods=2, gpus=1, stable_ready=2, load_seconds=38.0)
ONE = replace(TWO, replicas=1, surge_pods=1, stable_ready=1)


def free(*gpus, quota=None, **more):
    nodes = tuple(NodeRoom(name=f"n{i}", gpus=count, **more) for i, count in enumerate(gpus))
    return Room(resource=GPU, nodes=nodes, quota=quota or {})


FULL = free(0, 0)


def mode(ask, room, **more):
    return plan_capacity(ask, room, **more).mode


class TestAuto:
    def test_surge_where_the_pods_fit(self):
        plan = plan_capacity(TWO, free(1, 1))
        assert plan.mode is Capacity.SURGE
        assert plan.blocked is None
        assert plan.status.to_wire() == {
            "plan": "Surge",
            "message": "2 pods start beside the old revision; no old pod stops before new ones are ready",
            "gpusNeeded": 2,
            "gpusFree": 2,
            "expectedDowntime": "0s",
            "rollbackETA": "0s",
        }

    def test_swap_where_they_do_not(self):
        plan = plan_capacity(TWO, free(1, 0))
        assert plan.mode is Capacity.SWAP
        assert plan.blocked is None
        assert plan.status.to_wire() == {
            "plan": "Swap",
            "message": "There is no room for 2 pods more: one old pod after the other gives its GPU to a new one; "
            "1 of 2 keep serving",
            "gpusNeeded": 2,
            "gpusFree": 1,
            "expectedDowntime": "0s",
            "rollbackETA": "1m20s",
        }

    def test_recreate_only_where_nothing_was_promised(self):
        plan = plan_capacity(replace(ONE, min_available=0), FULL)
        assert plan.mode is Capacity.RECREATE
        assert plan.blocked is None
        assert plan.status.to_wire() == {
            "plan": "Recreate",
            "message": "The old pod stops before the new one starts; nothing serves for about 40 s",
            "gpusNeeded": 1,
            "gpusFree": 0,
            "expectedDowntime": "40s",
            "rollbackETA": "40s",
        }

    def test_otherwise_it_waits_and_says_what_to_change(self):
        plan = plan_capacity(ONE, FULL)
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.reason is Reason.INSUFFICIENT_GPU
        assert plan.blocked.recovers
        assert plan.blocked.message == plan.status.message
        assert plan.blocked.message == (
            "1 nvidia.com/gpu is needed beside the old revision and 0 are free; free GPUs or add a node, or "
            "set spec.serving.minAvailable to 0 or spec.rollout.capacity to Recreate to allow a gap of about 40 s"
        )

    def test_pods_that_were_all_promised_are_not_swapped(self):
        plan = plan_capacity(replace(TWO, min_available=2, load_seconds=None), free(1, 0))
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.message == (
            "2 nvidia.com/gpu are needed beside the old revision and 1 is free; free GPUs or add a node, or "
            "set spec.serving.minAvailable to 1 to swap pods one by one, or spec.rollout.capacity to Recreate to allow a gap"
        )

    @pytest.mark.parametrize(
        ("replicas", "least", "expected"),
        [(2, 0, Capacity.SWAP), (2, 1, Capacity.SWAP), (3, 2, Capacity.SWAP), (1, 0, Capacity.RECREATE)],
    )
    def test_a_swap_leaves_as_many_as_were_promised(self, replicas, least, expected):
        plan = plan_capacity(replace(TWO, replicas=replicas, min_available=least), FULL)
        assert (plan.mode, plan.blocked) == (expected, None)

    @pytest.mark.parametrize(("replicas", "least"), [(2, 2), (3, 3), (1, 1), (1, 5)])
    def test_no_swap_leaves_fewer(self, replicas, least):
        plan = plan_capacity(replace(TWO, replicas=replicas, min_available=least), FULL)
        assert plan.mode is Capacity.SURGE
        assert plan.blocked is not None

    def test_nobody_may_look_so_it_is_tried(self):
        plan = plan_capacity(ONE, None)
        assert (plan.mode, plan.blocked) == (Capacity.SURGE, None)
        assert plan.status.gpus_free is None
        assert plan.status.gpus_needed == 1

    def test_ta02_a_pod_that_waited_too_long_ends_the_try(self):
        assert mode(replace(TWO, waiting=True), None) is Capacity.SWAP
        assert mode(replace(ONE, waiting=True, min_available=0), None) is Capacity.RECREATE
        plan = plan_capacity(replace(ONE, waiting=True), None)
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.reason is Reason.INSUFFICIENT_GPU
        assert plan.blocked.message.startswith(
            "A pod of the new revision asks for 1 nvidia.com/gpu and has waited too long for a node; free GPUs or add a node, or "
        )

    def test_ta02_the_scheduler_knows_better_than_the_sum(self):
        assert mode(replace(TWO, waiting=True), free(8)) is Capacity.SWAP

    def test_a_stable_without_a_ready_pod_may_always_be_replaced(self):
        plan = plan_capacity(replace(TWO, stable_ready=0, min_available=2), FULL)
        assert (plan.mode, plan.blocked) == (Capacity.RECREATE, None)
        assert plan.status.message == (
            "No old pod is ready: all old pods stop before the new ones start; nothing serves for about 40 s"
        )
        assert mode(replace(TWO, stable_ready=0), free(2)) is Capacity.SURGE

    def test_pods_that_have_a_node_need_no_more_room(self):
        assert mode(replace(TWO, placed=1), free(1)) is Capacity.SURGE
        assert mode(replace(TWO, placed=1), free(0)) is Capacity.SWAP
        assert mode(replace(TWO, placed=2, waiting=True), free(0)) is Capacity.SURGE
        assert mode(replace(TWO, placed=3), None) is Capacity.SURGE

    def test_no_replicas_need_no_room(self):
        nothing = replace(TWO, replicas=0, surge_pods=0)
        plan = plan_capacity(nothing, FULL)
        assert (plan.mode, plan.blocked) == (Capacity.SURGE, None)
        assert plan.status.message == "The new revision needs no room beside the old one"
        assert plan_capacity(replace(nothing, capacity=Capacity.SWAP), FULL) == plan


class TestTold:
    def test_surge_is_not_given_up(self):
        asked = replace(TWO, capacity=Capacity.SURGE)
        assert plan_capacity(asked, free(2)).blocked is None
        plan = plan_capacity(asked, FULL)
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.message == (
            "2 nvidia.com/gpu are needed beside the old revision and 0 are free; free GPUs or add a node, or "
            "set spec.rollout.capacity to Auto"
        )
        assert mode(replace(asked, stable_ready=0), FULL) is Capacity.SURGE

    def test_swap_is_done_although_there_is_room(self):
        plan = plan_capacity(replace(TWO, capacity=Capacity.SWAP, gpus=2), free(8))
        assert (plan.mode, plan.blocked) == (Capacity.SWAP, None)
        assert plan.status.message == "One old pod after the other gives its GPUs to a new one; 1 of 2 keep serving"

    def test_swap_breaks_no_promise(self):
        plan = plan_capacity(replace(TWO, capacity=Capacity.SWAP, min_available=2), free(8))
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.reason is Reason.INSUFFICIENT_GPU
        assert plan.blocked.message == (
            "A swap leaves 1 of 2 pods and spec.serving.minAvailable promises 2; set spec.serving.minAvailable to 1 to swap "
            "pods one by one, or spec.rollout.capacity to Recreate to allow a gap of about 40 s"
        )

    def test_swap_of_one_is_a_gap_and_says_so(self):
        plan = plan_capacity(replace(ONE, capacity=Capacity.SWAP, min_available=0), free(8))
        assert (plan.mode, plan.blocked) == (Capacity.RECREATE, None)
        assert plan.status.message == (
            "A swap of 1 pod is a gap: the old pod stops before the new one starts; nothing serves for about 40 s"
        )

    def test_swap_of_the_only_promised_pod_waits(self):
        plan = plan_capacity(replace(ONE, capacity=Capacity.SWAP, gpus=0), free(8))
        assert plan.mode is Capacity.SURGE
        assert plan.blocked.reason is Reason.UNSCHEDULABLE
        assert plan.blocked.message == (
            "A swap leaves 0 of 1 pod and spec.serving.minAvailable promises 1; "
            "set spec.serving.minAvailable to 0 or spec.rollout.capacity to Recreate to allow a gap of about 40 s"
        )

    def test_swap_without_a_ready_pod_has_nothing_to_keep(self):
        plan = plan_capacity(replace(TWO, capacity=Capacity.SWAP, stable_ready=0, min_available=2), FULL)
        assert (plan.mode, plan.blocked) == (Capacity.RECREATE, None)

    def test_recreate_needs_no_reason(self):
        plan = plan_capacity(replace(TWO, capacity=Capacity.RECREATE, min_available=2, load_seconds=None), free(8))
        assert (plan.mode, plan.blocked) == (Capacity.RECREATE, None)
        assert plan.status.message == (
            "All old pods stop before the new ones start; nothing serves until the new revision is verified"
        )
        assert plan.status.expected_downtime is None
        assert plan.status.rollback_eta is None

    def test_replace_is_recreate(self):
        assert mode(replace(TWO, strategy=Strategy.REPLACE, min_available=2), free(8)) is Capacity.RECREATE


class TestBegun:
    def test_what_began_does_not_go_back_to_surge(self):
        assert mode(TWO, free(8), begun=Capacity.SWAP) is Capacity.SWAP
        assert mode(TWO, free(8), begun=Capacity.RECREATE) is Capacity.RECREATE
        assert mode(replace(TWO, capacity=Capacity.SURGE), free(8), begun=Capacity.SWAP) is Capacity.SWAP
        assert mode(replace(TWO, capacity=Capacity.SWAP), free(8), begun=Capacity.RECREATE) is Capacity.RECREATE

    def test_a_swap_may_become_what_was_told(self):
        assert mode(replace(TWO, capacity=Capacity.RECREATE), FULL, begun=Capacity.SWAP) is Capacity.RECREATE

    def test_a_surge_may_become_a_swap(self):
        assert mode(TWO, FULL, begun=Capacity.SURGE) is Capacity.SWAP

    def test_the_last_pods_of_a_swap_are_no_reason_to_stop_everything(self):
        plan = plan_capacity(replace(TWO, stable_ready=0), FULL, begun=Capacity.SWAP)
        assert (plan.mode, plan.blocked) == (Capacity.SWAP, None)

    def test_a_promise_made_meanwhile_stops_the_swap_where_it_is(self):
        plan = plan_capacity(replace(TWO, min_available=2), free(8), begun=Capacity.SWAP)
        assert plan.mode is Capacity.SWAP
        assert plan.blocked is not None

    def test_a_swap_that_shrank_to_one(self):
        assert mode(replace(ONE, min_available=0), FULL, begun=Capacity.SWAP) is Capacity.RECREATE
        assert mode(replace(ONE, stable_ready=0), FULL, begun=Capacity.SWAP) is Capacity.RECREATE
        assert plan_capacity(ONE, FULL, begun=Capacity.SWAP).blocked is not None


class TestFitting:
    @pytest.mark.parametrize(
        ("gpus", "each", "fits"),
        [
            ((), 1, 0),
            ((2,), 1, 2),
            ((1, 1), 1, 2),
            ((1, 1), 2, 0),
            ((3, 3), 2, 2),
            ((5, 1), 2, 2),
            ((-1, 2), 1, 2),
            ((9,), 1, 4),
        ],
    )
    def test_a_pod_is_not_split_across_nodes(self, gpus, each, fits):
        assert pods_that_fit(free(*gpus), gpus=each, cpu=1, memory=1, most=4) == fits

    @pytest.mark.parametrize(
        ("cpu", "memory", "fits"), [(0.3, 1.0, 3), (0.29, 1.0, 2), (1.0, 0.5, 1), (1.0, 0.0, 0), (-1.0, 1.0, 0)]
    )
    def test_cores_and_memory_count(self, cpu, memory, fits):
        room = Room(resource=GPU, nodes=(NodeRoom(name="n", gpus=9, cpu=cpu, memory=memory),))
        assert pods_that_fit(room, gpus=1, cpu=0.1, memory=0.3, most=9) == fits

    def test_two_free_gpus_on_two_nodes_are_no_place_for_a_pod_of_two(self):
        plan = plan_capacity(replace(ONE, gpus=2, load_seconds=None), free(1, 1))
        assert plan.blocked.message.startswith(
            "2 nvidia.com/gpu are needed beside the old revision and 2 are free, but not 2 on one node for each pod; "
        )

    def test_a_node_with_gpus_but_without_memory(self):
        plan = plan_capacity(replace(ONE, cpu=0.5, memory=2 * 2**30), free(1, cpu=4.0, memory=2**30))
        assert plan.blocked.reason is Reason.UNSCHEDULABLE
        assert plan.blocked.message.startswith(
            "No node has room for 1 pod more of 0.5 cores, 2048Mi of memory, 1 nvidia.com/gpu; free room or add a node, or "
        )

    def test_without_gpus_nobody_speaks_of_gpus(self):
        small = replace(ONE, gpus=0, cpu=2, memory=2**30)
        assert mode(small, free(0, cpu=2.0, memory=2**30)) is Capacity.SURGE
        plan = plan_capacity(small, free(0, cpu=1.9, memory=2**30))
        assert plan.blocked.reason is Reason.UNSCHEDULABLE
        assert plan.blocked.message.startswith(
            "No node has room for 1 pod more of 2 cores, 1024Mi of memory; free room"
        )
        assert (plan.status.gpus_needed, plan.status.gpus_free) == (None, None)
        late = plan_capacity(replace(small, waiting=True), None)
        assert late.blocked.reason is Reason.UNSCHEDULABLE
        assert late.blocked.message.startswith("A pod of the new revision has waited too long for a node; free room")
        swapped = plan_capacity(replace(small, replicas=2, waiting=True), None)
        assert swapped.status.message.endswith("gives its place to a new one; 1 of 2 keep serving")

    @pytest.mark.parametrize(
        ("quota", "said"),
        [
            ({f"requests.{GPU}": 1}, "2 pods more need 2 requests.nvidia.com/gpu and a ResourceQuota leaves 1"),
            ({f"requests.{GPU}": -3}, "2 pods more need 2 requests.nvidia.com/gpu and a ResourceQuota leaves 0"),
            ({"requests.cpu": 0.9}, "2 pods more need 1 requests.cpu and a ResourceQuota leaves 0.9"),
            ({"limits.cpu": 0.5}, "2 pods more need 1 limits.cpu and a ResourceQuota leaves 0.5"),
            ({"cpu": 0}, "2 pods more need 1 cpu and a ResourceQuota leaves 0"),
            ({"limits.memory": 2**30}, "2 pods more need 4096Mi limits.memory and a ResourceQuota leaves 1024Mi"),
            ({"requests.memory": 1}, "2 pods more need 4096Mi requests.memory and a ResourceQuota leaves 1Mi"),
            ({"memory": 0}, "2 pods more need 4096Mi memory and a ResourceQuota leaves 0Mi"),
            ({"pods": 1}, "2 pods more need 2 pods and a ResourceQuota leaves 1"),
            ({"count/pods": 0}, "2 pods more need 2 count/pods and a ResourceQuota leaves 0"),
        ],
    )
    def test_a_quota_is_a_limit_too(self, quota, said):
        asked = replace(TWO, capacity=Capacity.SURGE, cpu=0.5, memory=2 * 2**30)
        plan = plan_capacity(asked, free(8, quota=quota))
        assert plan.blocked.reason is Reason.QUOTA_EXCEEDED
        assert plan.blocked.message == f"{said}; raise the quota, or set spec.rollout.capacity to Auto"

    def test_a_quota_that_is_just_enough_or_of_something_else(self):
        asked = replace(TWO, cpu=0.1)
        quota = {f"requests.{GPU}": 2, "requests.cpu": 0.2, "pods": 2, "requests.memory": 0, "services": 0}
        assert mode(asked, free(8, quota=quota)) is Capacity.SURGE
        assert plan_capacity(replace(asked, gpus=0), free(8, quota={f"requests.{GPU}": 0})).mode is Capacity.SURGE

    def test_a_quota_has_counted_pods_that_wait_for_a_node(self):
        spent = free(8, quota={f"requests.{GPU}": 0})
        assert mode(TWO, spent) is Capacity.SWAP
        assert mode(replace(TWO, created=1), spent) is Capacity.SWAP
        assert mode(replace(TWO, created=2), spent) is Capacity.SURGE
        one_more = plan_capacity(replace(TWO, created=1, capacity=Capacity.SURGE), spent)
        assert one_more.blocked.message.startswith("1 pod more needs 1 requests.nvidia.com/gpu and")

    def test_free_is_what_a_quota_allows(self):
        assert plan_capacity(TWO, free(8, quota={f"requests.{GPU}": 3})).status.gpus_free == 3
        assert plan_capacity(TWO, free(8, quota={f"requests.{GPU}": -1})).status.gpus_free == 0
        assert plan_capacity(TWO, free(2, -1, 1)).status.gpus_free == 3


@pytest.mark.parametrize(
    ("seconds", "wire", "words"),
    [
        (0.0, "0s", "0 s"),
        (0.1, "5s", "5 s"),
        (5.0, "5s", "5 s"),
        (38.0, "40s", "40 s"),
        (60.0, "1m", "60 s"),
        (61.0, "1m5s", "65 s"),
        (120.0, "2m", "2 min"),
        (120.1, "2m30s", "2 min 30 s"),
        (180.0, "3m", "3 min"),
        (3601.0, "60m30s", "60 min 30 s"),
    ],
)
def test_times_are_rounded_up_so_that_sentences_stay(seconds, wire, words):
    plan = plan_capacity(replace(TWO, capacity=Capacity.RECREATE, load_seconds=seconds), None)
    assert plan.status.expected_downtime == wire
    assert plan.status.message.endswith(f"for about {words}")
    assert parse_duration(wire).total_seconds() >= seconds


def test_a_gap_lasts_longer_than_loading_and_going_back_does_not():
    plan = plan_capacity(replace(ONE, min_available=0, load_seconds=4.0, around_seconds=10.0), FULL)
    assert (plan.status.expected_downtime, plan.status.rollback_eta) == ("15s", "5s")
    assert plan.status.message.endswith("nothing serves for about 15 s")
    waits = plan_capacity(replace(ONE, load_seconds=4.0, around_seconds=10.0), FULL)
    assert waits.blocked.message.endswith("to allow a gap of about 15 s")


class TestLoading:
    def test_counts_from_the_place_that_a_pod_got_not_from_its_creation(self):
        assert load_seconds((make_ready_pod(created=0, placed=26, ready=31),)) == 5
        assert load_seconds((make_ready_pod(created=0, placed=None, ready=31),)) == 31

    def test_the_slowest_counts_and_who_is_not_ready_does_not(self):
        pods = (make_ready_pod(created=0, placed=1, ready=4), make_ready_pod(created=0, placed=0, ready=7))
        unready = make_ready_pod(created=0, placed=0, ready=50, status="False")
        assert load_seconds((*pods, unready)) == 7
        assert load_seconds((unready,)) is None


def make_ready_pod(*, created, placed, ready, status="True"):
    def at(seconds):
        return timestamp(NOW + timedelta(seconds=seconds))

    scheduled = [] if placed is None else [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed)}]
    conditions = [*scheduled, {"type": "Ready", "status": status, "lastTransitionTime": at(ready)}]
    return {"metadata": {"creationTimestamp": at(created)}, "status": {"conditions": conditions}}


asks = st.builds(
    CapacityAsk,
    strategy=st.sampled_from(Strategy),
    capacity=st.sampled_from(Capacity),
    replicas=st.integers(0, 5),
    min_available=st.integers(0, 6),
    surge_pods=st.integers(0, 5),
    gpus=st.integers(0, 3),
    cpu=st.floats(0, 4),
    memory=st.floats(0, 2**33),
    stable_ready=st.integers(0, 5),
    waiting=st.booleans(),
    load_seconds=st.none() | st.floats(0, 10_000),
    around_seconds=st.floats(0, 60),
    placed=st.integers(0, 6),
    created=st.integers(0, 6),
)
rooms = st.none() | st.builds(
    Room,
    resource=st.just(GPU),
    nodes=st.lists(
        st.builds(NodeRoom, name=st.just("n"), gpus=st.integers(-1, 4), cpu=st.floats(-1, 8)), max_size=3
    ).map(tuple),
    quota=st.dictionaries(st.sampled_from([f"requests.{GPU}", "pods", "limits.cpu"]), st.floats(-2, 9)),
)


@given(asks, rooms, st.none() | st.sampled_from([Capacity.SURGE, Capacity.SWAP, Capacity.RECREATE]))
def test_whatever_comes_in_no_promise_is_broken_without_being_told(ask, room, begun):
    plan = plan_capacity(ask, room, begun=begun)
    assert plan.mode is not Capacity.AUTO
    assert plan.status.plan == plan.mode.value
    assert plan.status.message[0].isupper() or plan.status.message[0].isdigit()
    assert plan_capacity(ask, room, begun=begun) == plan
    told = ask.strategy is Strategy.REPLACE or Capacity.RECREATE in {ask.capacity, begun}
    if plan.mode is Capacity.RECREATE and not told:
        assert ask.min_available == 0 or ask.stable_ready == 0
    if plan.mode is Capacity.SWAP and plan.blocked is None:
        assert ask.replicas - 1 >= max(1, ask.min_available)
    if begun in {Capacity.SWAP, Capacity.RECREATE} and ask.replicas:
        assert plan.mode is not Capacity.SURGE
    if plan.blocked is not None:
        assert plan.mode in {Capacity.SURGE, begun}
        assert plan.blocked.recovers


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def make_pod(since, *, scheduled="False", **metadata):
    condition = {"type": "PodScheduled", "status": scheduled, "lastTransitionTime": since}
    return {"metadata": {"name": "p", **metadata}, "status": {"conditions": [condition]}}


class TestScheduleOverdue:
    @pytest.mark.parametrize(
        ("since", "overdue"),
        [("2026-11-22T11:59:00Z", True), ("2026-11-22T11:59:01Z", False), ("2026-11-22T11:00:00Z", True)],
    )
    def test_ta02_at_the_deadline_and_not_before(self, since, overdue):
        assert schedule_overdue([make_pod(since)], NOW, MINUTE) is overdue

    def test_the_longest_wait_counts(self):
        pods = [make_pod("2026-11-22T11:59:50Z"), make_pod("2026-11-22T11:58:00Z"), make_pod("2026-11-22T11:59:30Z")]
        assert unscheduled_since(pods) == NOW - 2 * MINUTE
        assert schedule_overdue(pods, NOW, MINUTE)

    @pytest.mark.parametrize(
        "pod",
        [
            make_pod("2026-11-22T11:00:00Z", scheduled="True"),
            make_pod("2026-11-22T11:00:00Z", scheduled="Unknown"),
            make_pod("2026-11-22T11:00:00Z", deletionTimestamp="2026-11-22T11:30:00Z"),
            make_pod(None),
            {"metadata": {"name": "p"}},
            {"metadata": {"name": "p"}, "status": {"conditions": []}},
        ],
        ids=["placed", "unknown", "leaving", "timeless", "new", "unseen"],
    )
    def test_who_does_not_wait(self, pod):
        assert unscheduled_since([pod]) is None
        assert schedule_overdue([pod], NOW, MINUTE) is False

    def test_without_a_time_of_its_own_the_pod_s_age_counts(self):
        pod = make_pod(None, creationTimestamp="2026-11-22T11:59:00Z")
        assert schedule_overdue([pod], NOW, MINUTE)
