"""Differences of counters over a stretch of time."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from math import inf, nan

import pytest

from pilotfish.core.health.samples import Health, PodSeries, Sample, ShadowCounters
from pilotfish.core.health.window import Window, compared_answers, look
from support.counters import CANDIDATE, START, after, make_health, make_pod, make_sample

MINUTE = timedelta(seconds=60)


def look_at(*samples, at=60, since=0, length=MINUTE, error=None):
    pod = PodSeries(uid="a", revision=CANDIDATE, samples=samples, error=error)
    return look(Health(pods=(pod,)), CANDIDATE, since=after(since), length=length, now=after(at))


def test_the_difference_counts_not_the_total():
    seen = look_at(make_sample(0, success=1000, failed=7), make_sample(60, success=1500, failed=9, canceled=40))
    assert (seen.success, seen.failures, seen.requests, seen.measured) == (500, 2, 502, 1)


def test_a_canceled_request_is_no_failure_and_no_request():
    seen = look_at(make_sample(0), make_sample(60, canceled=500))
    assert (seen.requests, seen.error_rate) == (0, None)


@pytest.mark.parametrize("reason", ["REJECTED", "BACKEND", "OTHER", "of a later server"])
def test_every_other_reason_counts(reason):
    seen = look_at(Sample(at=START), Sample(at=after(60), success=9, failures={reason: 1}))
    assert seen.error_rate.value == Fraction(1, 10)


@pytest.mark.parametrize("fallen", ["success", "inferences", "executions", "request_us", "queue_us", "compute_us"])
def test_a_counter_that_falls_means_a_restart_and_all_count_from_zero(fallen):
    before = Sample(at=START, success=10, inferences=10, executions=10, request_us=10, queue_us=10, compute_us=10)
    later = replace(
        before, at=after(30), success=12, inferences=12, executions=12, request_us=12, queue_us=12, compute_us=12
    )
    assert look_at(before, later).success == 2
    assert look_at(before, replace(later, **{fallen: 9})).success == (9 if fallen == "success" else 12)


def test_a_failure_that_falls_means_a_restart():
    seen = look_at(make_sample(0, success=5, failed=5), make_sample(60, success=6, failed=4))
    assert (seen.success, seen.failures) == (6, 4)
    gone = look_at(Sample(at=START, success=5, failures={"OTHER": 1}), Sample(at=after(60), success=6))
    assert (gone.success, gone.failures) == (6, 0)


def test_a_histogram_that_falls_means_a_restart():
    seen = look_at(
        make_sample(0, success=5, buckets=((10.0, 5), (inf, 5))),
        make_sample(60, success=6, buckets=((10.0, 4), (inf, 6))),
    )
    assert (seen.success, seen.buckets) == (6, ((10.0, 4), (inf, 6)))


def test_several_restarts_in_one_window():
    seen = look_at(*(make_sample(10 * n, success=success) for n, success in enumerate((100, 110, 3, 9, 4))))
    assert seen.success == 10 + 3 + 6 + 4


def test_ta15_nothing_before_since_counts():
    samples = [make_sample(second, success=second) for second in range(0, 101, 10)]
    assert look_at(*samples, at=100, since=70).success == 30
    assert look_at(*samples, at=100, since=71).success == 20


def test_the_last_sample_before_the_window_covers_its_beginning():
    samples = [make_sample(second, success=second) for second in range(0, 201, 50)]
    assert look_at(*samples, at=200).success == 100
    assert look_at(*samples, at=200, length=timedelta(seconds=50)).success == 50
    assert look_at(*samples, at=205, length=timedelta(seconds=50)).success == 50
    # It may be as old as another window, not older.
    assert look_at(make_sample(0), make_sample(100, success=7), at=100, length=timedelta(seconds=50)).measured == 1
    assert look_at(make_sample(0), make_sample(101, success=7), at=101, length=timedelta(seconds=50)).measured == 0


def test_samples_of_the_future_do_not_count():
    assert look_at(make_sample(0), make_sample(60, success=5), make_sample(61, success=50)).success == 5


def test_the_order_of_the_samples_does_not_matter():
    assert look_at(make_sample(60, success=5), make_sample(0), make_sample(30, success=3)).success == 5


def test_pods_that_could_not_be_looked_at():
    alone = look_at(make_sample(60, success=5))
    assert (alone.measured, alone.silent, alone.errors) == (0, 1, ())
    failing = look_at(make_sample(0), make_sample(60, success=5), error="  it says\nnothing ")
    assert (failing.success, failing.silent, failing.errors) == (5, 0, ("it says nothing",))
    assert look_at(error="no").silent == 0
    twice = make_health(*(make_pod(CANDIDATE, uid=uid, error=why) for uid, why in (("a", "x"), ("b", "x"), ("c", "a"))))
    assert look(twice, CANDIDATE, since=START, length=MINUTE, now=after(60)).errors == ("a", "x")


def test_pods_of_a_revision_are_merged_and_others_left_out():
    health = make_health(
        make_pod(CANDIDATE, uid="a", ms=10), make_pod(CANDIDATE, uid="b", ms=20, per_step=150), make_pod("other")
    )
    seen = look(health, CANDIDATE, since=START, length=MINUTE, now=after(60))
    assert (seen.measured, seen.success, seen.mean_latency.value) == (2, 2400, Fraction(35, 2))


def test_means_are_those_of_requests_that_succeeded():
    seen = look_at(
        make_sample(0),
        make_sample(60, success=200, failed=100, ms=12, queue_ms=3, compute_ms=8, batch=4, per_request=2),
    )
    assert (seen.mean_latency.value, seen.queue_time.value, seen.compute_time.value) == (12, 3, 8)
    assert (seen.batch_size, seen.executions) == (4, 100)


def test_the_time_of_an_execution_is_told_to_each_request_of_the_batch():
    # Ten executions of 8 ms with four requests each: Triton adds up 40 times 8 ms.
    seen = look_at(
        Sample(at=START), Sample(at=after(60), success=40, inferences=40, executions=10, compute_us=40 * 8000)
    )
    assert seen.compute_time.value == 8


def test_without_requests_there_are_no_means():
    seen = look_at(make_sample(0), make_sample(60))
    assert (seen.error_rate, seen.mean_latency, seen.queue_time, seen.compute_time, seen.batch_size) == (None,) * 5


HISTOGRAM = ((10.0, 50), (20.0, 90), (50.0, 90), (inf, 100))


@pytest.mark.parametrize(
    ("share", "value", "at_least"),
    [
        ("0", 0, False),
        ("0.25", 5, False),
        ("0.5", 10, False),
        ("0.7", 15, False),
        ("0.9", 20, False),
        ("0.91", 50, True),
        ("1", 50, True),
        ("7", 50, True),
        ("-1", 0, False),
    ],
)
def test_quantiles_are_linear_inside_a_bucket_and_open_at_the_end(share, value, at_least):
    figure = Window(buckets=HISTOGRAM).quantile(Fraction(share))
    assert (figure.value, figure.at_least) == (value, at_least)


def test_no_quantile_without_requests():
    assert Window().quantile(Fraction(1, 2)) is None
    assert Window(buckets=((1.0, 0), (inf, 0))).quantile(Fraction(1, 2)) is None
    only_open = Window(buckets=((inf, 5),)).quantile(Fraction(1, 2))
    assert (only_open.value, only_open.at_least) == (0, True)


def test_a_share_above_all_is_all_of_them():
    shut = Window(buckets=((10.0, 50), (20.0, 100), (inf, 100)))
    assert [shut.quantile(Fraction(share)).value for share in (1, 2)] == [20, 20]
    assert not shut.quantile(Fraction(2)).at_least


def test_the_smallest_quantile_lies_in_the_first_bucket_that_holds_a_request():
    late = Window(buckets=((10.0, 0), (20.0, 10), (inf, 10)))
    assert late.quantile(Fraction(0)).value == 10
    assert late.quantile(Fraction(1, 10)).value == 11


def buckets(*upto, bounds=(10.0, 20.0, inf)):
    return tuple(zip(bounds, upto, strict=True))


def test_histograms_are_differences_merged_over_pods():
    a = PodSeries(
        uid="a",
        revision=CANDIDATE,
        samples=(
            make_sample(0, success=9, buckets=buckets(1, 2, 9)),
            make_sample(30, success=19, buckets=buckets(2, 4, 19)),
            make_sample(60, success=29, buckets=buckets(5, 9, 29)),
        ),
    )
    b = PodSeries(
        uid="b",
        revision=CANDIDATE,
        samples=(make_sample(0, buckets=buckets(0, 0, 0)), make_sample(60, success=1, buckets=buckets(1, 1, 1))),
    )
    seen = look(Health(pods=(a, b)), CANDIDATE, since=START, length=MINUTE, now=after(60))
    assert seen.buckets == buckets(5, 8, 21)
    slow = (make_sample(0, buckets=buckets(3, 3, 3)), make_sample(60, success=1, buckets=buckets(3, 3, 4)))
    assert look_at(*slow).buckets == buckets(0, 0, 1)


@pytest.mark.parametrize(
    "broken",
    [
        (),
        ((10.0, 1), (20.0, 1)),
        ((20.0, 1), (10.0, 1), (inf, 1)),
        ((10.0, 1), (10.0, 1), (inf, 1)),
        ((0.0, 1), (inf, 1)),
        ((nan, 1), (inf, 1)),
        ((10.0, 1), (inf, 1)),
    ],
)
def test_a_histogram_that_is_none_is_left_out(broken):
    good = buckets(1, 1, 1)
    before, later = make_sample(0, buckets=good), make_sample(60, success=9, buckets=broken)
    seen = look_at(replace(before, buckets=((10.0, 0), (20.0, 0), (inf, 0))), later)
    assert (seen.success, seen.buckets) == (9, ())


@pytest.mark.parametrize(
    "bounds",
    [
        (10.0, 20.0),
        (20.0, 10.0, inf),
        (10.0, 10.0, inf),
        (0.0, inf),
        (0.0, 10.0, inf),
        (-1.0, inf),
        (nan, inf),
        (10.0, nan, inf),
    ],
)
def test_bounds_that_make_no_histogram_do_so_in_every_sample(bounds):
    samples = [make_sample(0, buckets=tuple((b, 0) for b in bounds)), make_sample(60, buckets=[(b, 1) for b in bounds])]
    assert look_at(*samples).buckets == ()


@pytest.mark.parametrize("bounds", [(0.5, inf), (1.0, 1.5, inf), (inf,)])
def test_bounds_may_be_small_and_few(bounds):
    samples = [make_sample(0, buckets=tuple((b, 0) for b in bounds)), make_sample(60, buckets=[(b, 1) for b in bounds])]
    assert look_at(*samples).buckets == tuple((b, 1) for b in bounds)


def test_counts_below_zero_count_as_none():
    samples = [make_sample(0, buckets=buckets(-5, 0, 1)), make_sample(60, buckets=buckets(-5, -3, 3))]
    assert look_at(*samples).buckets == buckets(0, 0, 2)
    shadow = (counters(0, -1, -1, -1), counters(30, 3, 2, 1))
    found = compared_answers(shadow, since=START, now=after(60))
    assert (found.compared, found.agreed) == (4, 2)
    assert compared_answers((counters(0, 0, 0), counters(30, 0, 0)), since=START, now=after(60)).compared == 0


def test_pods_with_different_histograms_have_none_together():
    pods = [
        PodSeries(
            uid=str(n),
            revision=CANDIDATE,
            samples=(
                make_sample(0, buckets=((b, 0), (inf, 0))),
                make_sample(60, success=1, buckets=((b, 1), (inf, 1))),
            ),
        )
        for n, b in enumerate((1.0, 2.0))
    ]
    assert look(Health(pods=tuple(pods)), CANDIDATE, since=START, length=MINUTE, now=after(60)).buckets == ()


def tail(*quantiles, share="0.99", least=100, at=60, since=0, per_step=50):
    pods = tuple(
        make_pod(CANDIDATE, uid=str(n), quantiles=q, until=at, per_step=per_step) for n, q in enumerate(quantiles)
    )
    seen = look(Health(pods=pods), CANDIDATE, since=after(since), length=MINUTE, now=after(at))
    return seen, seen.tail(Fraction(share), least=least)


def test_without_a_histogram_the_worst_pod_decides_by_its_summary():
    _, figure = tail({0.5: 3.0, 0.99: 12.5}, {0.5: 4.0, 0.99: 11.0})
    assert (figure.value, figure.at_least) == (Fraction(25, 2), False)


def test_a_pod_with_too_few_requests_for_its_part_does_not_decide():
    busy = make_pod(CANDIDATE, uid="a", quantiles={0.99: 5.0})
    idle = make_pod(CANDIDATE, uid="b", quantiles={0.99: 900.0}, per_step=4)
    seen = look(Health(pods=(busy, idle)), CANDIDATE, since=START, length=MINUTE, now=after(60))
    assert seen.tail(Fraction("0.99"), least=96).value == 900
    assert seen.tail(Fraction("0.99"), least=97).value == 5
    unused = make_pod(CANDIDATE, uid="b", quantiles={0.99: 900.0}, per_step=0)
    seen = look(Health(pods=(busy, unused)), CANDIDATE, since=START, length=MINUTE, now=after(60))
    assert seen.tail(Fraction("0.99"), least=0).value == 5


def test_the_nearest_quantile_that_is_not_lower():
    known = {0.5: 1.0, 0.9: 2.0, 0.99: 3.0}
    assert [tail(known, share=share)[1] for share in ("0.999",)] == [None]
    assert [tail(known, share=share)[1].value for share in ("0.1", "0.5", "0.51", "0.9", "0.97", "0.99")] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert tail({0.5: nan, 0.99: inf, 1.5: 1.0, -1.0: 2.0}, share="0")[1] is None
    smallest_and_largest = {0.0: 0.0, 1.0: 0.5}
    assert [tail(smallest_and_largest, share=share)[1].value for share in ("0", "1")] == [0, Fraction(1, 2)]


def test_ta15_a_summary_that_reaches_back_before_since_does_not_count():
    early, figure = tail({0.99: 5.0}, at=60, since=5)
    assert (early.early, figure) == (True, None)
    settled, figure = tail({0.99: 5.0}, at=65, since=5)
    assert (settled.early, figure.value) == (False, 5)
    assert not tail({}, at=60, since=5)[0].early


def counters(seconds, compared, agreed, failed=0):
    return ShadowCounters(at=after(seconds), compared=compared, agreed=agreed, failed=failed)


def test_answers_compared_since_then():
    series = (counters(0, 10, 1), counters(30, 60, 50), counters(60, 110, 100, 5), counters(90, 999, 999))
    found = compared_answers(series, since=after(30), now=after(60))
    assert (found.compared, found.agreed, found.length) == (55, 50, timedelta(seconds=30))
    assert compared_answers(series, since=after(31), now=after(60)) is None
    again = compared_answers((counters(0, 10, 1), counters(30, 5, 5, 1)), since=START, now=after(60))
    assert (again.compared, again.agreed) == (6, 5)
    unequal = compared_answers((counters(0, 10, 7, 1), counters(30, 15, 7, 1)), since=START, now=after(60))
    assert (unequal.compared, unequal.agreed) == (5, 0)


def test_all_samples_of_a_shadow_add_up():
    series = (counters(0, 10, 10), counters(20, 30, 25, 2), counters(40, 70, 60, 3))
    found = compared_answers(series, since=START, now=after(60))
    assert (found.compared, found.agreed, found.length) == (63, 50, timedelta(seconds=40))
    again = compared_answers((*series, counters(50, 5, 4, 1)), since=START, now=after(60))
    assert (again.compared, again.agreed) == (63 + 6, 50 + 4), "a restart counts from zero"


def test_two_samples_are_enough_to_be_heard():
    found = look_at(make_sample(0), make_sample(60))
    assert (found.measured, found.silent) == (1, 0)


def test_the_newest_summary_counts_with_all_requests_of_its_pod():
    samples = (
        make_sample(0, quantiles={}),
        make_sample(30, success=10, quantiles={0.99: 7.0}),
        make_sample(60, success=90, failed=10, quantiles={0.99: 5.0}),
    )
    (summary,) = look_at(*samples).summaries
    assert (summary.requests, summary.quantiles) == (100, {0.99: 5.0})
    before = (*samples[:2], replace(samples[2], quantiles={}))
    assert not look_at(*before, since=5).early
    assert look_at(make_sample(10), replace(samples[1], quantiles={}), samples[2], since=5).early


def test_a_histogram_never_falls():
    samples = [
        make_sample(0, buckets=buckets(0, 0, 0)),
        make_sample(60, success=9, buckets=buckets(7, 5, 9)),
    ]
    assert look_at(*samples).buckets == buckets(7, 7, 9)


def test_the_words_of_an_error_are_cut():
    found = look_at(error="x" * 300)
    assert [len(why) for why in found.errors] == [200]
