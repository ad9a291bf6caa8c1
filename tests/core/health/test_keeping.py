"""Which samples stay: a window is always covered, room is bounded, no restart is lost."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.health.keeping import MOST_SAMPLES, PER_WINDOW, began_anew, recent, with_newest
from pilotfish.core.health.samples import Sample, ShadowCounters
from support.builders import NOW

WINDOW = timedelta(seconds=PER_WINDOW)  # spacing: one second


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def make_sample(seconds, success=0, **more):
    return Sample(at=at(seconds), success=success, **more)


def grown(counts):
    series = ()
    for seconds, success in counts:
        series = with_newest(series, make_sample(seconds, success), window=WINDOW)
    return [(int((s.at - NOW).total_seconds() * 10) / 10, s.success) for s in series]


def test_samples_of_a_window_and_the_one_before_it_are_kept():
    series = tuple(make_sample(n) for n in range(6))
    assert recent(series, since=at(3), now=at(9)) == series[2:]
    assert recent(series, since=at(0), now=at(9)) == series
    assert recent(series, since=at(9), now=at(9)) == series[-1:]
    assert recent((), since=at(0), now=at(9)) == ()


def test_what_lies_in_the_future_is_dropped():
    series = tuple(make_sample(n) for n in range(6))
    assert recent(series, since=at(0), now=at(4)) == series[:5]


def test_a_sample_too_close_to_both_neighbours_is_dropped_and_the_newest_never():
    assert grown([(0, 1), (0.5, 2), (0.9, 3)]) == [(0, 1), (0.9, 3)]
    assert grown([(0, 1), (0.5, 2), (1.0, 3)]) == [(0, 1), (0.5, 2), (1.0, 3)], "exactly as far as wanted"
    assert grown([(0, 1), (0.9, 2)]) == [(0, 1), (0.9, 2)]


def test_a_restart_is_never_dropped():
    assert grown([(0, 5), (0.2, 9), (0.4, 1)]) == [(0, 5), (0.2, 9), (0.4, 1)]
    assert grown([(0, 5), (0.2, 1), (0.4, 9)]) == [(0, 5), (0.2, 1), (0.4, 9)]


def test_failures_tell_of_a_restart_as_well():
    series = (make_sample(0, failures={"BACKEND": 3}), make_sample(0.2, failures={"BACKEND": 1}))
    assert len(with_newest(series, make_sample(0.4, failures={"BACKEND": 4}), window=WINDOW)) == 3


def test_failures_that_grow_tell_of_none():
    series = (make_sample(0, 5, failures={"BACKEND": 1}), make_sample(0.2, 5, failures={"BACKEND": 3}))
    newest = make_sample(0.4, 5, failures={"BACKEND": 4})
    assert with_newest(series, newest, window=WINDOW) == (series[0], newest)


@given(st.lists(st.tuples(st.floats(0.01, 3), st.integers(-1, 5)), max_size=200))
def test_no_count_is_lost(steps):
    """The sum over restarts is the same from what was kept as from everything."""
    moment, count, whole, kept = 0.0, 0, (), ()
    for pause, growth in steps:
        moment += pause
        count = 0 if growth < 0 else count + growth
        whole += (make_sample(moment, count),)
        kept = with_newest(kept, whole[-1], window=WINDOW)
    assert counted(kept) == counted(whole)
    assert kept[-1:] == whole[-1:]


def counted(series):
    return sum(b.success - a.success if b.success >= a.success else b.success for a, b in pairwise(series))


def test_the_longest_window_is_bounded():
    series = ()
    for n in range(2000):
        series = with_newest(series, make_sample(n * 2, n), window=timedelta(hours=24))
    assert len(series) < 2 * PER_WINDOW
    assert series[0].at == at(0)
    for n in range(2000):
        series = with_newest(series, make_sample(4000 + n, n % 2), window=timedelta(hours=24))
    assert len(series) == MOST_SAMPLES, "a server that starts again all the time"


def test_shadow_counters_are_kept_alike():
    series = tuple(ShadowCounters(at=at(n / 10), compared=n) for n in range(2))
    assert len(with_newest(series, ShadowCounters(at=at(0.5), compared=9), window=WINDOW)) == 2


def test_a_shadow_began_anew_when_any_count_falls():
    def count(compared, agreed, failed):
        return ShadowCounters(at=NOW, compared=compared, agreed=agreed, failed=failed)

    assert not began_anew(count(0, 0, 0), ())
    assert not began_anew(count(5, 4, 1), (count(9, 9, 9), count(5, 4, 1)))
    for less in (count(4, 4, 1), count(5, 3, 1), count(5, 4, 0)):
        assert began_anew(less, (count(5, 4, 1),))
