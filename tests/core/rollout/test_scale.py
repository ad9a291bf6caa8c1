"""Pods between two revisions: one step by hand, and whole ways on a small scheduler that has G GPUs."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.api.rollout import Capacity
from pilotfish.core.rollout.scale import (
    Scale,
    Target,
    make_target,
    most_weight,
    needed_for,
    next_scale,
    promised_ready,
)


def pods(stable, candidate, *, leaving=(0, 0)):
    """(asked, ready, total) of both sides."""
    return Scale(
        stable_asked=stable[0],
        stable_ready=stable[1],
        stable_total=stable[2],
        candidate_asked=candidate[0],
        candidate_ready=candidate[1],
        candidate_total=candidate[2],
        stable_leaving=leaving[0],
        candidate_leaving=leaving[1],
    )


def healthy(stable, candidate, **more):
    return pods((stable,) * 3, (candidate,) * 3, **more)


FORWARD = Target(stable=0, candidate=4, most_total=4, least_ready=3)
BACK = Target(stable=4, candidate=0, most_total=4, least_ready=3)


class TestForward:
    def test_a_pod_goes_before_one_comes_when_there_is_no_room(self):
        assert next_scale(healthy(4, 0), FORWARD) == (3, 0)

    def test_the_candidate_waits_until_the_place_is_really_free(self):
        assert next_scale(pods((3, 4, 4), (0, 0, 0)), FORWARD) == (3, 0)
        assert next_scale(healthy(3, 0, leaving=(1, 0)), FORWARD) == (3, 0)
        assert next_scale(healthy(3, 0), FORWARD) == (3, 1)

    def test_a_place_of_a_leaving_candidate_pod_is_not_free_either(self):
        assert next_scale(healthy(3, 0, leaving=(0, 1)), FORWARD) == (3, 0)

    def test_a_pod_asked_for_that_does_not_exist_yet_has_its_place(self):
        assert next_scale(pods((3, 3, 3), (1, 0, 0)), FORWARD) == (3, 1)

    def test_the_next_pod_goes_when_the_new_one_is_ready(self):
        assert next_scale(pods((3, 3, 3), (1, 0, 1)), FORWARD) == (3, 1)
        assert next_scale(healthy(3, 1), FORWARD) == (2, 1)

    def test_a_ready_pod_that_was_told_to_go_counts_no_more(self):
        """asked is 2, the third is still ready: it is on its way."""
        assert next_scale(pods((2, 3, 3), (1, 1, 1)), FORWARD) == (2, 1)
        assert next_scale(pods((3, 3, 3), (1, 2, 2)), FORWARD) == (2, 1)

    def test_room_is_used_before_stable_shrinks(self):
        surge = Target(stable=0, candidate=4, most_total=8, least_ready=4)
        assert next_scale(healthy(4, 0), surge) == (4, 4)
        assert next_scale(pods((4, 4, 4), (4, 3, 4)), surge) == (1, 4)
        assert next_scale(healthy(4, 4), surge) == (0, 4)

    def test_one_pod_beside_the_others(self):
        surge = Target(stable=3, candidate=1, most_total=5, least_ready=4)
        assert next_scale(healthy(4, 0), surge) == (4, 1)
        assert next_scale(pods((4, 4, 4), (1, 0, 1)), surge) == (4, 1)
        assert next_scale(healthy(4, 1), surge) == (3, 1)
        assert next_scale(healthy(3, 1), surge) == (3, 1)

    def test_recreate_stops_all_before_the_first_starts(self):
        recreate = Target(stable=0, candidate=2, most_total=2, least_ready=0, apart=True)
        assert next_scale(healthy(2, 0), recreate) == (0, 0)
        assert next_scale(healthy(0, 0, leaving=(1, 0)), recreate) == (0, 0)
        assert next_scale(pods((0, 0, 1), (0, 0, 0)), recreate) == (0, 0)
        assert next_scale(healthy(0, 0), recreate) == (0, 2)

    def test_a_promise_of_more_than_the_target_is_of_the_target(self):
        assert next_scale(healthy(4, 1), replace(FORWARD, candidate=1, least_ready=9)) == (0, 1)

    def test_stable_grows_before_the_candidate(self):
        assert next_scale(healthy(1, 0), Target(stable=3, candidate=3, most_total=4, least_ready=0)) == (3, 1)

    def test_both_shrink_only_as_far_as_both_together_may(self):
        assert next_scale(healthy(4, 2), Target(stable=1, candidate=1, most_total=6, least_ready=2)) == (1, 1)
        assert next_scale(pods((4, 1, 4), (2, 2, 2)), Target(stable=1, candidate=1, most_total=6, least_ready=2)) == (
            1,
            1,
        )

    def test_the_candidate_s_own_share_is_taken_from_what_stable_may_drop(self):
        """The candidate drops to 1, so stable must keep 2 of the 3 promised."""
        target = Target(stable=0, candidate=1, most_total=8, least_ready=3)
        assert next_scale(healthy(4, 3), replace(target, stable=2)) == (2, 1)


def test_what_is_not_said_holds_nothing_up():
    two = Scale(stable_asked=2, stable_ready=2, stable_total=2, candidate_asked=1, candidate_ready=1, candidate_total=1)
    assert next_scale(two, Target(stable=2, candidate=2, most_total=4, least_ready=0)) == (2, 2)
    assert next_scale(two, Target(stable=0, candidate=0, most_total=4, least_ready=0)) == (0, 0)


class TestBrokenStable:
    def test_ta17_pods_that_are_not_ready_go_first_and_break_no_promise(self):
        assert next_scale(pods((4, 3, 4), (0, 0, 0)), FORWARD) == (3, 0)
        assert next_scale(pods((4, 0, 4), (0, 0, 0)), FORWARD) == (3, 0)

    def test_ta17_a_broken_pod_s_place_goes_to_the_candidate_one_at_a_time(self):
        assert next_scale(pods((3, 1, 3), (1, 0, 1)), FORWARD) == (3, 1)
        assert next_scale(pods((3, 1, 3), (1, 1, 1)), FORWARD) == (2, 1)

    def test_ta17_not_while_anything_is_on_its_way_out(self):
        promised = replace(FORWARD, least_ready=4)
        assert next_scale(pods((4, 3, 4), (0, 0, 0)), promised) == (3, 0)
        assert next_scale(pods((3, 2, 3), (0, 0, 0), leaving=(1, 0)), promised) == (3, 0)
        assert next_scale(pods((3, 2, 4), (0, 0, 0)), promised) == (3, 0)
        assert next_scale(pods((3, 2, 3), (0, 0, 0), leaving=(0, 1)), promised) == (3, 0)

    def test_a_free_place_is_used_first(self):
        assert next_scale(pods((3, 2, 3), (0, 0, 0)), replace(FORWARD, least_ready=4)) == (3, 1)

    def test_a_broken_pod_stays_when_the_candidate_has_all_it_wants(self):
        target = Target(stable=0, candidate=1, most_total=4, least_ready=4, stable_needed=3)
        assert next_scale(pods((3, 2, 3), (1, 1, 1)), target) == (3, 1)

    def test_all_ready_and_no_room_is_a_standstill(self):
        assert next_scale(healthy(4, 0), replace(FORWARD, least_ready=4)) == (4, 0)


class TestBack:
    def test_ta06_a_broken_candidate_goes_at_once(self):
        assert next_scale(pods((3, 3, 3), (1, 0, 1)), BACK) == (3, 0)
        assert next_scale(pods((1, 1, 1), (3, 0, 3)), BACK) == (1, 0)
        assert next_scale(pods((1, 1, 1), (3, 1, 3)), BACK) == (1, 1)

    def test_ta06_stable_grows_into_room_whatever_the_candidate_does(self):
        assert next_scale(pods((1, 1, 1), (1, 0, 1)), BACK) == (3, 0)
        assert next_scale(pods((1, 0, 1), (1, 1, 1)), BACK) == (3, 1)

    def test_ta03_a_ready_candidate_leaves_as_stable_takes_over(self):
        assert next_scale(healthy(2, 2), BACK) == (2, 1)
        assert next_scale(healthy(2, 1), BACK) == (3, 1)
        assert next_scale(pods((3, 2, 3), (1, 1, 1)), BACK) == (3, 1)
        assert next_scale(healthy(3, 1), BACK) == (3, 0)

    def test_room_of_a_leaving_pod_is_waited_for(self):
        assert next_scale(healthy(2, 1, leaving=(0, 1)), BACK) == (2, 1)
        assert next_scale(healthy(3, 0, leaving=(1, 0)), BACK) == (3, 0)
        assert next_scale(healthy(3, 0), BACK) == (4, 0)

    def test_recreate_goes_back_without_waiting_for_the_last_pod(self):
        back = Target(stable=2, candidate=0, most_total=2, least_ready=0, apart=True)
        assert next_scale(healthy(0, 2), back) == (0, 0)
        assert next_scale(healthy(0, 0, leaving=(0, 1)), back) == (1, 0)

    def test_a_candidate_that_still_has_weight_keeps_the_pods_for_it(self):
        assert next_scale(healthy(4, 3), replace(BACK, most_total=8, candidate_needed=2)) == (4, 2)
        assert next_scale(healthy(4, 3), replace(BACK, most_total=8)) == (4, 0)

    def test_ta02_stable_without_a_place_gets_one_when_it_waited_too_long(self):
        """Three GPUs for four pods: nothing but a candidate pod can make room."""
        stuck = pods((3, 2, 3), (1, 1, 1))
        assert next_scale(stuck, BACK) == (3, 1)
        assert next_scale(stuck, replace(BACK, overdue=True)) == (3, 0)

    def test_ta02_one_pod_at_a_time_however_late(self):
        late = replace(BACK, overdue=True)
        stuck = pods((2, 1, 2), (2, 2, 2))
        assert next_scale(stuck, late) == (2, 1)
        assert next_scale(pods((2, 1, 2), (1, 1, 1), leaving=(0, 1)), late) == (2, 1)
        assert next_scale(pods((2, 1, 2), (1, 1, 2)), late) == (2, 1)
        assert next_scale(pods((2, 1, 2), (1, 1, 1), leaving=(1, 0)), late) == (2, 1)
        assert next_scale(pods((2, 1, 3), (1, 1, 1)), late) == (2, 1)

    def test_overdue_takes_nothing_where_a_promise_allows_a_step(self):
        assert next_scale(healthy(2, 2), replace(BACK, overdue=True)) == (2, 1)

    def test_overdue_is_nothing_to_a_candidate_that_stays(self):
        assert next_scale(pods((3, 2, 3), (1, 1, 1)), replace(BACK, candidate=1, overdue=True)) == (3, 1)


class TestWeights:
    def test_ta05_stable_keeps_what_its_weight_needs(self):
        target = Target(stable=0, candidate=4, most_total=8, least_ready=4, stable_needed=needed_for(50, 4))
        assert next_scale(healthy(4, 4), target) == (2, 4)
        assert next_scale(healthy(4, 4), replace(target, stable_needed=4)) == (4, 4)
        assert next_scale(healthy(4, 4), replace(target, stable_needed=0)) == (0, 4)

    @pytest.mark.parametrize(
        ("weight", "promised", "needed"),
        [(0, 4, 0), (1, 4, 1), (25, 4, 1), (26, 4, 2), (100, 4, 4), (150, 4, 4), (-1, 4, 0), (50, 0, 0), (50, -2, 0)],
    )
    def test_ta05_pods_that_a_weight_needs(self, weight, promised, needed):
        assert needed_for(weight, promised) == needed

    @pytest.mark.parametrize(
        ("ready", "promised", "weight"),
        [(0, 4, 0), (-1, 4, 0), (1, 4, 25), (1, 3, 33), (3, 4, 75), (4, 4, 100), (5, 4, 100), (1, 0, 100), (0, 0, 0)],
    )
    def test_ta05_a_scaled_down_stable_never_gets_it_all(self, ready, promised, weight):
        assert most_weight(ready, promised) == weight

    @given(st.integers(0, 10**12), st.integers(1, 10**12))
    def test_ta05_the_most_weight_is_one_that_the_pods_can_carry(self, ready, promised):
        weight = most_weight(ready, promised)
        assert needed_for(weight, promised) <= ready
        assert weight == 100 or needed_for(weight + 1, promised) > ready


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "replicas", "promised"),
        [
            (Capacity.SURGE, 4, 4),
            (Capacity.SWAP, 4, 3),
            (Capacity.SWAP, 1, 0),
            (Capacity.SWAP, 0, 0),
            (Capacity.RECREATE, 4, 0),
        ],
    )
    def test_what_a_mode_promises(self, mode, replicas, promised):
        assert promised_ready(mode, replicas) == promised

    def test_surge_has_room_beside(self):
        target = make_target(Capacity.SURGE, stable=0, candidate=4, replicas=4, surge=4, stable_needed=4)
        assert target == Target(stable=0, candidate=4, most_total=8, least_ready=4, stable_needed=4)
        assert make_target(Capacity.SURGE, stable=0, candidate=4, replicas=4, surge=-1).most_total == 4

    def test_swap_moves_inside_the_replicas_and_weight_does_not_stop_it(self):
        target = make_target(
            Capacity.SWAP, stable=0, candidate=4, replicas=4, surge=4, stable_needed=4, candidate_needed=4, overdue=True
        )
        assert target == Target(
            stable=0, candidate=4, most_total=4, least_ready=3, stable_needed=3, candidate_needed=3, overdue=True
        )

    def test_recreate_promises_nothing_and_keeps_the_two_apart(self):
        target = make_target(Capacity.RECREATE, stable=0, candidate=4, replicas=4, surge=4, stable_needed=4)
        assert target == Target(stable=0, candidate=4, most_total=4, least_ready=0, apart=True)


numbers = st.one_of(st.integers(-3, 6), st.integers(0, 10**25))


@given(
    st.builds(Scale, **dict.fromkeys(Scale.__slots__, numbers)),
    st.builds(
        Target,
        **dict.fromkeys(
            ("stable", "candidate", "most_total", "least_ready", "stable_needed", "candidate_needed"), numbers
        ),
        apart=st.booleans(),
        overdue=st.booleans(),
    ),
)
def test_whatever_comes_in_each_side_moves_towards_its_target_and_stays_a_number_of_pods(now, target):
    stable, candidate = next_scale(now, target)
    for asked, wanted, got in (
        (max(0, now.stable_asked), max(0, target.stable), stable),
        (max(0, now.candidate_asked), max(0, target.candidate), candidate),
    ):
        assert min(asked, wanted) <= got <= max(asked, wanted)
    before = max(0, now.stable_asked) + max(0, now.candidate_asked)
    assert stable + candidate <= max(before, target.most_total)


# A small scheduler.


@dataclass
class Side:
    """Pods of one revision as letters: p waits for a place, s starts, r is ready, l leaves."""

    asked: int
    pods: list[str] = field(default_factory=list)
    broken: bool = False

    def count(self, letters):
        return sum(pod in letters for pod in self.pods)

    def reconcile(self):
        """A ReplicaSet: pods without a place go first, then those that are not ready."""
        living = sorted((p for p in self.pods if p != "l"), key="rsp".index)
        kept, surplus = living[: self.asked], living[self.asked :]
        leaving = ["l"] * (self.count("l") + sum(p != "p" for p in surplus))
        self.pods = [*kept, *leaving, *["p"] * (self.asked - len(kept))]

    def change(self, old, new, most):
        for index, pod in enumerate(self.pods):
            if most and pod == old:
                self.pods[index] = new
                most -= 1


@dataclass
class World:
    gpus: int
    stable: Side
    candidate: Side

    @property
    def sides(self):
        return (self.stable, self.candidate)

    @property
    def ready(self):
        return sum(side.count("r") for side in self.sides)

    @property
    def total(self):
        return sum(len(side.pods) for side in self.sides)

    def look(self):
        s, c = self.sides
        return Scale(
            stable_asked=s.asked,
            stable_ready=s.count("r"),
            stable_total=s.count("psr"),
            stable_leaving=s.count("l"),
            candidate_asked=c.asked,
            candidate_ready=c.count("r"),
            candidate_total=c.count("psr"),
            candidate_leaving=c.count("l"),
        )

    def go_on(self, what, side):
        """One neighbour does one thing."""
        if what == "reconcile":
            side.reconcile()
        elif what == "schedule":
            held = sum(s.count("srl") for s in self.sides)
            side.change("p", "s", 1 if held < self.gpus else 0)
        elif what == "start" and not side.broken:
            side.change("s", "r", 1)
        elif what == "end":
            side.change("l", "gone", 1)
            side.pods = [pod for pod in side.pods if pod != "gone"]

    def everybody(self):
        for what in ("reconcile", "end", "schedule", "start"):
            for side in self.sides:
                for _ in range(self.gpus + 1):
                    self.go_on(what, side)


def run(world, target, data, *, chances=25):
    """Drive to a standstill in an order by chance, then in a fair one; the promises hold after every single move."""
    promised = min(target.least_ready, target.stable + target.candidate, world.ready)
    most = max(target.most_total, world.total)
    moves = st.tuples(st.sampled_from(["ask", "reconcile", "schedule", "start", "end"]), st.integers(0, 1))
    for what, side in data.draw(st.lists(moves, max_size=chances)):
        step(world, target) if what == "ask" else world.go_on(what, world.sides[side])
        check(world, promised, most)
    quiet = 0
    for _ in range(200):
        before = world.look()
        world.everybody()
        check(world, promised, most)
        step(world, target)
        quiet = quiet + 1 if world.look() == before else 0
        if quiet > 2:
            return
    pytest.fail(f"no end: {world} to {target}")


def step(world, target):
    world.stable.asked, world.candidate.asked = next_scale(world.look(), target)


def check(world, promised, most):
    assert world.total <= most, world
    assert world.ready >= promised, (world, promised)


def at(world):
    return (world.stable.count("r"), world.candidate.count("r"), world.total)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_forward_always_arrives_where_there_is_room(data):
    replicas = data.draw(st.integers(1, 6))
    surge = data.draw(st.integers(0, 3))
    most = replicas + surge
    gpus = data.draw(st.integers(replicas, most + 2))
    least = data.draw(st.integers(0, min(most, gpus) - 1))
    candidate = data.draw(st.integers(0, replicas))
    target = Target(
        stable=replicas - candidate,
        candidate=candidate,
        most_total=most,
        least_ready=least,
        apart=least == 0 and data.draw(st.booleans()) and candidate == replicas,
    )
    world = World(gpus, Side(replicas, ["r"] * replicas), Side(0))
    run(world, target, data)
    assert at(world) == (target.stable, target.candidate, replicas)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_ta06_going_back_always_arrives_whatever_became_of_the_candidate(data):
    replicas = data.draw(st.integers(1, 6))
    stable = data.draw(st.integers(0, replicas))
    candidate = ["r" if ok else "s" for ok in data.draw(st.lists(st.booleans(), max_size=replicas - stable))]
    target = Target(
        stable=replicas, candidate=0, most_total=replicas, least_ready=data.draw(st.integers(0, replicas - 1))
    )
    world = World(
        data.draw(st.integers(replicas, replicas + 2)),
        Side(stable, ["r"] * stable),
        Side(len(candidate), candidate, broken=data.draw(st.booleans())),
    )
    run(world, target, data)
    assert at(world) == (replicas, 0, replicas)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_ta17_a_broken_stable_is_always_replaced(data):
    replicas = data.draw(st.integers(1, 6))
    broken = data.draw(st.integers(1, replicas))
    target = Target(stable=0, candidate=replicas, most_total=replicas, least_ready=data.draw(st.integers(0, replicas)))
    if broken < replicas and target.least_ready == replicas:
        target = replace(target, least_ready=replicas - 1)  # without a spare place, healthy pods stay for ever
    world = World(replicas, Side(replicas, ["s"] * broken + ["r"] * (replicas - broken), broken=True), Side(0))
    run(world, target, data)
    assert at(world) == (0, replicas, replicas)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_candidate_that_never_gets_ready_costs_no_promised_pod(data):
    replicas = data.draw(st.integers(1, 6))
    surge = data.draw(st.integers(0, 2))
    least = data.draw(st.integers(0, replicas))
    target = Target(stable=0, candidate=replicas, most_total=replicas + surge, least_ready=least)
    world = World(
        data.draw(st.integers(replicas, replicas + 3)), Side(replicas, ["r"] * replicas), Side(0, broken=True)
    )
    run(world, target, data)
    assert world.ready == least
    run(world, replace(target, stable=replicas, candidate=0), data)
    assert at(world) == (replicas, 0, replicas)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_ta02_a_lost_gpu_stops_no_way_back(data):
    """Fewer GPUs than pods were promised: without `overdue` stable would wait for ever."""
    replicas = data.draw(st.integers(2, 6))
    candidate = data.draw(st.integers(1, replicas - 1))
    gpus = replicas - 1
    stable = gpus - candidate
    target = Target(stable=replicas, candidate=0, most_total=replicas, least_ready=replicas - 1)
    world = World(gpus, Side(stable, ["r"] * stable), Side(candidate, ["r"] * candidate))
    run(world, target, data)
    assert world.candidate.asked == candidate
    for _ in range(100):
        late = replace(target, overdue=world.stable.count("p") > 0)
        step(world, late)
        world.everybody()
    assert at(world) == (gpus, 0, replicas)
