"""Shares of traffic as pods."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.api.rollout import Capacity
from pilotfish.core.rollout.split import (
    achievable,
    achievable_by,
    off_by,
    split,
    split_beside,
    split_by,
    split_warning,
    split_warning_by,
)

counts = st.one_of(st.integers(0, 12), st.integers(0, 10**30))
weights = st.integers(0, 100)
surges = st.integers(0, 3)


@pytest.mark.parametrize(
    ("replicas", "weight", "surge", "expected"),
    [
        (4, 0, 1, (4, 0)),
        (4, 100, 1, (0, 4)),
        (4, 50, 0, (2, 2)),
        (4, 50, 1, (2, 2)),
        (4, 25, 0, (3, 1)),
        (4, 20, 0, (3, 1)),
        (4, 20, 1, (4, 1)),  # one more pod meets 20 % exactly
        (4, 10, 0, (3, 1)),  # never none
        (4, 10, 1, (4, 1)),
        (4, 90, 0, (1, 3)),
        (4, 99, 1, (1, 4)),
        (2, 1, 0, (1, 1)),
        (2, 99, 0, (1, 1)),
        (2, 10, 1, (2, 1)),
        (3, 50, 0, (1, 2)),  # a tie: the larger candidate
        (3, 50, 1, (2, 2)),
        (4, 45, 1, (2, 2)),  # 2 of 4 and 2 of 5 miss by 5: fewer pods
        (10, 33, 0, (7, 3)),
        (10, 35, 0, (6, 4)),  # a tie again
        (1, 1, 1, (1, 1)),
        (1, 50, 1, (1, 1)),
        (1, 99, 2, (1, 1)),
        (1, 50, 0, (0, 1)),
        (1, 0, 0, (1, 0)),
        (1, 100, 0, (0, 1)),
        (0, 50, 1, (0, 0)),
        (-3, 50, 1, (0, 0)),
        (4, -5, 0, (4, 0)),
        (4, 105, 0, (0, 4)),
        (4, 50, -1, (2, 2)),
    ],
)
def test_pods_of_a_share(replicas, weight, surge, expected):
    assert split(replicas, weight, surge=surge) == expected


@given(counts, st.integers(-200, 300), st.integers(-1, 3))
def test_never_negative_and_never_more_than_there_is_room_for(replicas, weight, surge):
    stable, candidate = split(replicas, weight, surge=surge)
    assert stable >= 0
    assert candidate >= 0
    assert replicas <= stable + candidate <= replicas + (surge > 0)


@given(counts, st.integers(1, 99), surges)
def test_a_share_leaves_nobody_without_a_pod(replicas, weight, surge):
    stable, candidate = split(replicas, weight, surge=surge)
    assert (candidate > 0) == (replicas > 0)
    assert (stable > 0) == (replicas + (surge > 0) > 1 and replicas > 0)


@given(st.integers(1, 30), st.integers(1, 99), surges)
def test_no_other_split_is_closer(replicas, weight, surge):
    ours = split(replicas, weight, surge=surge)
    totals = [total for total in {replicas, replicas + (surge > 0)} if total > 1]
    errors = [abs(Fraction(100 * c, total) - weight) for total in totals for c in range(1, total)]
    if errors:
        assert off_by(weight, *ours) == float(min(errors))
        closest = [
            c for total in totals for c in range(1, total) if abs(Fraction(100 * c, total) - weight) == min(errors)
        ]
        assert ours[1] == max(closest)


@given(counts, surges, st.lists(weights, min_size=2, max_size=6))
def test_a_larger_weight_never_takes_share_away(replicas, surge, steps):
    if replicas == 0:
        return
    shares = [Fraction(c, s + c) for s, c in (split(replicas, w, surge=surge) for w in sorted(steps))]
    assert shares == sorted(shares)


def test_products_beyond_32_bits_stay_positive():
    assert split(2_000_000_000, 99, surge=0) == (20_000_000, 1_980_000_000)


@pytest.mark.parametrize(
    ("replicas", "surge", "expected"),
    [
        (0, 1, ()),
        (-2, 1, ()),
        (1, 0, ()),
        (1, 1, (50,)),
        (2, 0, (50,)),
        (2, 1, (33, 50, 67)),
        (3, 0, (33, 67)),
        (4, 0, (25, 50, 75)),
        (4, 1, (20, 25, 40, 50, 60, 75, 80)),
        (8, 0, (13, 25, 38, 50, 63, 75, 88)),
        (1000, 0, tuple(range(1, 100))),
        (10**30, 1, tuple(range(1, 100))),
    ],
)
def test_percentages_that_replicas_can_give(replicas, surge, expected):
    assert achievable(replicas, surge) == expected


@given(st.integers(1, 40), surges)
def test_achievable_is_every_share_there_is(replicas, surge):
    totals = {replicas, replicas + (surge > 0)}
    shares = {(200 * c + total) // (2 * total) for total in totals for c in range(1, total)}
    assert achievable(replicas, surge) == tuple(sorted(shares))


@pytest.mark.parametrize(
    ("weight", "stable", "candidate", "points"),
    [
        (50, 1, 1, 0.0),
        (10, 1, 1, 40.0),
        (10, 9, 1, 0.0),
        (40, 2, 1, 6.666666666666667),
        (30, 0, 0, 30.0),
        (30, -1, -1, 30.0),
    ],
)
def test_points_between_asked_and_given(weight, stable, candidate, points):
    assert off_by(weight, stable, candidate) == points


def test_off_by_of_more_pods_than_a_float_holds():
    assert off_by(10, 10**400, 10**400) == 40.0


def test_a_step_more_than_ten_points_off_is_warned_of():
    assert split_warning(1, 10, surge=1) == (
        "A step of 10 % cannot be met with 1 replica: 1 of 2 pods take 50 %; "
        "raise spec.serving.replicas or set spec.serving.gateway"
    )
    assert split_warning(3, 15, surge=0) == (
        "A step of 15 % cannot be met with 3 replicas: 1 of 3 pods take 33 %; "
        "raise spec.serving.replicas or set spec.serving.gateway"
    )


@pytest.mark.parametrize(("weight", "warned"), [(40, False), (39, True), (60, False), (61, True)])
def test_exactly_ten_points_are_no_warning(weight, warned):
    assert (split_warning(2, weight, surge=0) is not None) is warned


def test_a_step_that_cannot_be_split_at_all_says_so():
    assert split_warning(1, 50, surge=0) == (
        "1 replica without room for one more cannot split traffic: a step of 50 % gives the new revision all of it; "
        "raise spec.serving.replicas or set spec.serving.gateway"
    )
    assert split_warning(0, 50, surge=1) is None
    assert split_warning(1, 0, surge=0) is None


# Beside a whole stable revision


@pytest.mark.parametrize(
    ("replicas", "weight", "candidates"),
    [
        (4, 0, 0),
        (4, -5, 0),
        (4, 1, 1),
        (4, 20, 1),
        (4, 25, 1),
        (4, 27, 2),  # 20 % misses by 7, 33 % by 6
        (4, 33, 2),
        (4, 50, 4),
        (4, 99, 4),
        (4, 100, 4),
        (4, 200, 4),
        (1, 10, 1),
        (0, 50, 0),
        (-3, 50, 0),
        (0, 0, 0),
    ],
)
def test_a_whole_stable_revision_keeps_its_pods(replicas, weight, candidates):
    assert split_beside(replicas, weight) == (max(0, replicas), candidates)


@given(st.integers(1, 40), st.integers(1, 99))
def test_no_other_number_beside_it_is_closer(replicas, weight):
    _, chosen = split_beside(replicas, weight)
    missed = {n: abs(Fraction(100 * n, replicas + n) - weight) for n in range(1, replicas + 1)}
    assert missed[chosen] == min(missed.values())
    assert chosen == max(n for n, miss in missed.items() if miss == missed[chosen])


@pytest.mark.parametrize("mode", [Capacity.SWAP, Capacity.RECREATE])
def test_only_with_room_for_more_stable_keeps_its_pods(mode):
    assert split_by(Capacity.SURGE, 4, 50) == (4, 4)
    assert split_by(mode, 4, 50) == (2, 2)
    assert split_by(mode, 4, 25) == (3, 1)


def test_shares_that_a_mode_can_give():
    assert achievable_by(Capacity.SURGE, 4) == (20, 33, 43, 50)
    assert achievable_by(Capacity.SURGE, 1) == (50,)
    assert achievable_by(Capacity.SURGE, 0) == achievable_by(Capacity.SURGE, -1) == ()
    assert achievable_by(Capacity.SWAP, 4) == achievable(4, 0)
    assert len(achievable_by(Capacity.SWAP, 1000)) <= 100
    assert achievable_by(Capacity.SURGE, 200)[-1] == 33, "as many as are looked at: 100 beside 200"


def test_a_share_that_pods_miss_by_more_than_ten_points_is_told():
    assert split_warning_by(Capacity.SURGE, 4, 10) is None, "20 % is exactly ten points off"
    assert split_warning_by(Capacity.SURGE, 4, 9) == (
        "A step of 9 % cannot be met with 4 replicas: 1 of 5 pods take 20 %; raise spec.serving.replicas or set "
        "spec.serving.gateway"
    )
    assert split_warning_by(Capacity.SURGE, 1, 10) == (
        "A step of 10 % cannot be met with 1 replica: 1 of 2 pods take 50 %; raise spec.serving.replicas or set "
        "spec.serving.gateway"
    )
    assert split_warning_by(Capacity.SWAP, 1, 50) == (
        "A step of 50 % cannot be met with 1 replica: 1 of 1 pods take 100 %; raise spec.serving.replicas or set "
        "spec.serving.gateway"
    )
    assert split_warning_by(Capacity.SURGE, 0, 50) is None
