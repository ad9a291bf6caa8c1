"""Each check: its boundaries, its sentence, and what it says when there is nothing to judge."""

from dataclasses import replace
from datetime import timedelta
from math import inf, nan

import pytest

from pilotfish.api.rollout import (
    AnalysisChecks,
    Check,
    CheckMode,
    PrometheusCheck,
    RestartCheck,
    Shadow,
    TailLatencyCheck,
    TimeCheck,
)
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.checks import (
    Scene,
    check_compute_time,
    check_error_rate,
    check_mean_latency,
    check_pod_restarts,
    check_prometheus,
    check_queue_time,
    check_shadow_agreement,
    check_tail_latency,
    measure,
    names_of,
)
from pilotfish.core.health.samples import QueryAnswer
from pilotfish.core.health.verdicts import WORST_FIRST, worst
from pilotfish.core.health.window import Comparison, Summary, Window

BASIS = "over 60 s, 1000 requests"


def seen(success=1000, failures=0, *, ms=10, queue=2, compute=8, batch=4, **more):
    return Window(
        **{
            "success": success,
            "failures": failures,
            "inferences": success,
            "executions": success // batch,
            "request_us": int(success * ms * 1000),
            "queue_us": int(success * queue * 1000),
            "compute_us": int(success * compute * 1000),
            "measured": 1,
            **more,
        }
    )


def scene(candidate=None, stable=None, **more):
    return Scene(
        **{
            "candidate": candidate or seen(),
            "stable": stable or seen(),
            "length": timedelta(seconds=60),
            "min_requests": 100,
            **more,
        }
    )


def told(found):
    return found.verdict, found.message


@pytest.mark.parametrize(
    ("failures", "verdict", "message"),
    [
        (49, Verdict.PASS, f"error rate 4.9 % ≤ 5 % {BASIS}"),
        (50, Verdict.PASS, f"error rate 5 % ≤ 5 % {BASIS}"),
        (51, Verdict.FAIL, f"error rate 5.1 % > 5 % {BASIS}"),
    ],
)
def test_error_rate_at_its_limit(failures, verdict, message):
    found = check_error_rate(Check(max="0.05"), scene(seen(1000 - failures, failures)))
    assert told(found) == (verdict, message)
    assert (found.name, found.mode, found.threshold, found.baseline) == ("errorRate", CheckMode.ENFORCE, "0.05", None)
    assert found.value == f"0.0{failures}".rstrip("0")


@pytest.mark.parametrize(
    ("ms", "verdict", "change"),
    [
        (8, Verdict.PASS, "mean latency 8 ms is 20 % below"),
        (10, Verdict.PASS, "mean latency 10 ms equals"),
        (12, Verdict.PASS, "mean latency 12 ms is 20 % above"),
        (12.001, Verdict.FAIL, "mean latency 12 ms is 20.01 % above"),
        (14, Verdict.FAIL, "mean latency 14 ms is 40 % above"),
    ],
)
def test_growth_at_its_limit(ms, verdict, change):
    found = check_mean_latency(TimeCheck(max_regression="0.2"), scene(seen(ms=ms)))
    assert told(found) == (verdict, f"{change} stable's 10 ms (allowed 20 %) {BASIS}")
    assert (found.baseline, found.threshold) == ("10ms", "12ms")


def test_both_bounds_and_the_worst_decides():
    check = TimeCheck(max="50ms", max_regression="0.2")
    both = check_mean_latency(check, scene(seen(ms=11)))
    assert told(both) == (
        Verdict.PASS,
        f"mean latency 11 ms ≤ 50 ms and is 10 % above stable's 10 ms (allowed 20 %) {BASIS}",
    )
    assert (both.threshold, both.baseline) == ("50ms", "10ms")
    grown = check_mean_latency(check, scene(seen(ms=13)))
    assert told(grown) == (Verdict.FAIL, f"mean latency 13 ms is 30 % above stable's 10 ms (allowed 20 %) {BASIS}")
    assert grown.threshold == "12ms"
    slow = check_mean_latency(check, scene(seen(ms=51), seen(ms=50)))
    assert told(slow) == (Verdict.FAIL, f"mean latency 51 ms > 50 ms {BASIS}")
    assert (slow.threshold, slow.baseline) == ("50ms", "50ms")


def test_growth_from_nothing():
    check = Check(max_regression="0.5")
    assert check_error_rate(check, scene()).verdict is Verdict.PASS
    found = check_error_rate(check, scene(seen(999, 1)))
    assert told(found) == (Verdict.FAIL, f"error rate 0.1 % is above stable's 0 % (allowed 50 %) {BASIS}")


@pytest.mark.parametrize(("requests", "verdict"), [(99, Verdict.NO_DATA), (100, Verdict.PASS)])
def test_fewer_requests_than_min_requests_are_no_data(requests, verdict):
    found = check_error_rate(Check(max="0.05"), scene(seen(requests)))
    assert found.verdict is verdict
    if verdict is Verdict.NO_DATA:
        assert found.message == "error rate: 99 requests over 60 s, at least 100 are needed"
        assert found.value is None


@pytest.mark.parametrize(("requests", "verdict"), [(99, Verdict.NO_DATA), (100, Verdict.PASS)])
def test_a_stable_revision_with_too_few_requests_is_no_data_for_that_bound(requests, verdict):
    check = TimeCheck(max="50ms", max_regression="0.2")
    found = check_mean_latency(check, scene(stable=seen(requests)))
    assert found.verdict is verdict
    if verdict is Verdict.NO_DATA:
        sentence = f"mean latency 10 ms {BASIS}: stable had 99 requests, at least 100 are needed to compare"
        assert found.message == sentence
    slow = check_mean_latency(check, scene(seen(ms=51), seen(requests)))
    assert slow.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("stable", "why"),
    [
        (None, "there is no stable revision to compare with"),
        (Window(errors=("gone",)), "no pod of the stable revision could be measured"),
        (seen(0, 200), "the stable revision has no such figure to compare with"),
    ],
)
def test_ta17_a_broken_stable_is_missing_data_and_can_be_left_out(stable, why):
    check = TimeCheck(max_regression="0.2")
    around = replace(scene(), stable=stable)
    assert told(check_mean_latency(check, around)) == (Verdict.NO_DATA, f"mean latency 10 ms {BASIS}: {why}")
    waived = replace(around, baseline_required=False)
    assert told(check_mean_latency(check, waived)) == (Verdict.PASS, f"mean latency 10 ms {BASIS}")
    assert check_mean_latency(TimeCheck(max="9ms", max_regression="0.2"), waived).verdict is Verdict.FAIL


def test_pods_that_do_not_answer_are_an_error_that_hides_no_failure():
    check = Check(max="0.05")
    found = check_error_rate(check, scene(seen(errors=("it answers HTTP 500",))))
    assert told(found) == (Verdict.ERROR, "error rate: a pod could not be measured (it answers HTTP 500)")
    assert check_error_rate(check, scene(seen(900, 100, errors=("no",)))).verdict is Verdict.FAIL
    assert check_error_rate(check, scene(seen(1, errors=("no",)))).verdict is Verdict.ERROR
    assert told(check_error_rate(check, scene(Window(silent=1)))) == (
        Verdict.ERROR,
        "error rate: no pod has two samples yet",
    )
    assert told(check_error_rate(check, scene(Window()))) == (Verdict.ERROR, "error rate: there is no pod to measure")


def test_without_a_request_that_succeeded_there_is_no_time():
    around = scene(seen(0, 500))
    assert check_error_rate(Check(max="0.05"), around).verdict is Verdict.FAIL
    found = check_mean_latency(TimeCheck(max="1s"), around)
    assert told(found) == (Verdict.NO_DATA, "mean latency: no request succeeded over 60 s")
    assert check_error_rate(Check(max="0.05"), scene(seen(0), min_requests=0)).verdict is Verdict.NO_DATA


def test_queue_time():
    around = scene(seen(queue=5))
    assert told(check_queue_time(TimeCheck(max="5ms"), around)) == (Verdict.PASS, f"queue time 5 ms ≤ 5 ms {BASIS}")
    found = check_queue_time(TimeCheck(max="4ms", mode=CheckMode.OBSERVE), around)
    assert (found.verdict, found.name, found.mode) == (Verdict.FAIL, "queueTime", CheckMode.OBSERVE)
    slower = scene(seen(queue=5), seen(queue=2))
    assert check_queue_time(TimeCheck(max_regression="0.2"), slower).verdict is Verdict.FAIL
    assert check_queue_time(TimeCheck(max_regression="1.5"), slower).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("executions", "verdict"),
    [(200, Verdict.PASS), (199, Verdict.INCONCLUSIVE), (250, Verdict.PASS), (334, Verdict.INCONCLUSIVE)],
)
def test_compute_times_at_other_batch_sizes_are_not_comparable(executions, verdict):
    check = TimeCheck(max_regression="0.2")
    found = check_compute_time(check, scene(seen(executions=executions)))
    assert (found.verdict, found.name) == (verdict, "computeTime")
    if executions == 334:
        assert found.message == f"compute time 8 ms {BASIS}: mean batch size 2.99 is not comparable with stable's 4"
        assert found.baseline == "8ms"
    # What is absolute counts at any batch size.
    assert check_compute_time(TimeCheck(max="7ms"), scene(seen(executions=executions))).verdict is Verdict.FAIL


def test_a_batch_size_a_quarter_smaller_is_comparable_still():
    check = TimeCheck(max_regression="0.2")
    quarter = seen(900, executions=300)
    assert check_compute_time(check, scene(quarter)).verdict is Verdict.PASS
    unknown = check_compute_time(check, scene(seen(executions=0)))
    assert told(unknown) == (Verdict.INCONCLUSIVE, f"compute time 8 ms {BASIS}: the batch sizes are not known")


def histogram(*upto):
    return tuple(zip((10.0, 20.0, inf), upto, strict=True))


def tail(check, candidate, stable=()):
    return check_tail_latency(check, scene(seen(buckets=candidate), seen(buckets=stable)))


def test_tail_latency_from_the_histogram():
    found = tail(TailLatencyCheck(max="15ms", quantile="0.95"), histogram(900, 1000, 1000))
    assert told(found) == (Verdict.PASS, f"p95 latency 15 ms ≤ 15 ms {BASIS}")
    assert tail(TailLatencyCheck(max="14ms", quantile="0.95"), histogram(900, 1000, 1000)).verdict is Verdict.FAIL
    assert tail(TailLatencyCheck(max="1s", quantile="0.999"), histogram(0, 0, 0)).verdict is Verdict.NO_DATA


OPEN, SHUT = histogram(900, 900, 1000), histogram(900, 1000, 1000)


@pytest.mark.parametrize(
    ("limit", "verdict", "message"),
    [
        ("19ms", Verdict.FAIL, f"p99 latency above 20 ms > 19 ms {BASIS}"),
        ("20ms", Verdict.FAIL, f"p99 latency above 20 ms > 20 ms {BASIS}"),
        ("21ms", Verdict.INCONCLUSIVE, f"p99 latency above 20 ms {BASIS}: the histogram ends below the limit of 21 ms"),
    ],
)
def test_the_open_last_bucket_gives_its_lower_bound_and_says_so(limit, verdict, message):
    found = tail(TailLatencyCheck(max=limit), OPEN)
    assert told(found) == (verdict, message)
    assert found.value == ">20ms"


@pytest.mark.parametrize(
    ("candidate", "stable", "growth", "verdict"),
    [
        (OPEN, SHUT, "0", Verdict.FAIL),
        (OPEN, SHUT, "0.01", Verdict.FAIL),
        (OPEN, SHUT, "0.5", Verdict.INCONCLUSIVE),
        (OPEN, OPEN, "0", Verdict.INCONCLUSIVE),
        (OPEN, OPEN, "0.5", Verdict.INCONCLUSIVE),
        (SHUT, OPEN, "0", Verdict.PASS),
        (SHUT, SHUT, "0", Verdict.PASS),
    ],
)
def test_growth_where_a_histogram_ends(candidate, stable, growth, verdict):
    assert tail(TailLatencyCheck(max_regression=growth), candidate, stable).verdict is verdict


def test_growth_against_a_lower_bound_that_is_passed():
    wide = ((10.0, 0), (20.0, 0), (30.0, 1000), (inf, 1000))
    found = tail(TailLatencyCheck(max_regression="0.1"), wide, OPEN)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.message.endswith("of stable's only the lower bound is known, and the figure is above what it allows")


def test_tail_latency_from_summaries():
    told_by_pods = (Summary(requests=1000, quantiles={0.99: 12.0}),)
    around = scene(seen(summaries=told_by_pods), seen(summaries=told_by_pods))
    found = check_tail_latency(TailLatencyCheck(max="10ms", max_regression="0.1"), around)
    assert told(found) == (Verdict.FAIL, f"p99 latency 12 ms > 10 ms {BASIS}")
    assert check_tail_latency(TailLatencyCheck(max_regression="0"), around).verdict is Verdict.PASS


def test_ta15_a_summary_from_before_the_step_is_inconclusive():
    check = TailLatencyCheck(max="10ms")
    found = check_tail_latency(check, scene(seen(early=True)))
    assert told(found) == (
        Verdict.INCONCLUSIVE,
        "p99 latency: the summaries of the pods still hold requests from before the step began",
    )
    assert check_tail_latency(check, scene(seen(99, early=True))).verdict is Verdict.NO_DATA
    assert check_tail_latency(check, scene(seen(100, early=True))).verdict is Verdict.INCONCLUSIVE
    assert check_tail_latency(check, scene(seen(early=True, errors=("no",)))).verdict is Verdict.ERROR
    assert told(check_tail_latency(check, scene())) == (
        Verdict.NO_DATA,
        "p99 latency: the pods tell no such quantile over 60 s",
    )


@pytest.mark.parametrize(
    ("restarts", "most", "verdict"),
    [(0, 0, Verdict.PASS), (1, 0, Verdict.FAIL), (2, 2, Verdict.PASS), (3, 2, Verdict.FAIL)],
)
def test_pod_restarts(restarts, most, verdict):
    found = check_pod_restarts(RestartCheck(max=most), scene(Window(), restarts=restarts))
    sign = ">" if verdict is Verdict.FAIL else "≤"
    assert told(found) == (verdict, f"pod restarts {restarts} {sign} {most} since the step began")


def asked(answer, baseline=None, **bounds):
    check = PrometheusCheck(**{"name": "gpu-memory", "query": "q", "max": "0.9", **bounds})
    queries = {} if answer is None else {"gpu-memory": answer}
    return check_prometheus(
        check, scene(queries=queries, baselines={} if baseline is None else {"gpu-memory": baseline})
    )


@pytest.mark.parametrize(
    ("answer", "verdict", "message"),
    [
        (QueryAnswer(value=0.9), Verdict.PASS, "gpu-memory 0.9 ≤ 0.9"),
        (QueryAnswer(value=0.91), Verdict.FAIL, "gpu-memory 0.91 > 0.9"),
        (QueryAnswer(value=-3), Verdict.PASS, "gpu-memory -3 ≤ 0.9"),
        (QueryAnswer(value=nan), Verdict.NO_DATA, "gpu-memory: the query gave no number"),
        (QueryAnswer(value=-inf), Verdict.NO_DATA, "gpu-memory: the query gave no number"),
        (QueryAnswer(), Verdict.NO_DATA, "gpu-memory: the query gave no number"),
        (QueryAnswer(value=inf), Verdict.FAIL, "gpu-memory: the query gave +Inf, which is above every limit"),
        (QueryAnswer(error="no\nanswer"), Verdict.ERROR, "gpu-memory: no answer"),
        (QueryAnswer(value=0.1, error="half"), Verdict.ERROR, "gpu-memory: half"),
        (None, Verdict.ERROR, "gpu-memory: Prometheus was not asked"),
    ],
)
def test_prometheus(answer, verdict, message):
    assert told(asked(answer)) == (verdict, message)


def test_what_is_above_every_number_is_written_so():
    found = asked(QueryAnswer(value=inf))
    assert (found.value, found.threshold) == ("+Inf", None)
    assert len(asked(QueryAnswer(error="x" * 300)).message) == len("gpu-memory: ") + 200


def test_prometheus_without_an_answer_about_the_stable_revision():
    found = asked(QueryAnswer(value=0.5), None, max=None, max_regression="0.1")
    assert told(found) == (
        Verdict.NO_DATA,
        "gpu-memory 0.5: the query gave no number for the stable revision",
    )


def test_prometheus_against_the_stable_revision():
    growth = {"max": None, "max_regression": "0.1"}
    same = QueryAnswer(value=0.5)
    assert told(asked(same, same, **growth)) == (Verdict.PASS, "gpu-memory 0.5 equals stable's 0.5 (allowed 10 %)")
    assert asked(QueryAnswer(value=0.56), same, **growth).verdict is Verdict.FAIL
    for missing in (None, QueryAnswer(), QueryAnswer(value=nan), QueryAnswer(value=0.5, error="no")):
        assert asked(same, missing, **growth).verdict is Verdict.NO_DATA
    assert asked(QueryAnswer(value=0.95), None, max="0.9", max_regression="0.1").verdict is Verdict.FAIL
    below = asked(same, QueryAnswer(value=-1.0), **growth)
    assert told(below) == (Verdict.INCONCLUSIVE, "gpu-memory 0.5: stable's -1 is below 0")
    check = PrometheusCheck(name="x", query="q", max_regression="0.1")
    waived = scene(queries={"x": same}, baseline_required=False)
    assert check_prometheus(check, waived).verdict is Verdict.PASS


def agreement(compared, agreed, **more):
    around = scene(compared=Comparison(compared=compared, agreed=agreed, length=timedelta(seconds=90)), **more)
    return check_shadow_agreement(Shadow(min_agreement="0.99"), around)


def test_agreement_of_the_shadow():
    assert told(agreement(1000, 990)) == (
        Verdict.PASS,
        "agreement with the stable revision 99 % ≥ 99 % over 90 s, 1000 answers compared",
    )
    failed = agreement(1000, 989)
    assert told(failed) == (
        Verdict.FAIL,
        "agreement with the stable revision 98.9 % < 99 % over 90 s, 1000 answers compared",
    )
    assert (failed.name, failed.value, failed.threshold) == ("shadowAgreement", "0.989", "0.99")


def test_too_few_answers_compared_are_no_data():
    assert agreement(100, 100).verdict is Verdict.PASS
    assert told(agreement(99, 0)) == (
        Verdict.NO_DATA,
        "agreement with the stable revision: 99 answers compared over 90 s, at least 100 are needed",
    )
    assert agreement(0, 0, min_requests=0).verdict is Verdict.NO_DATA
    assert agreement(1, 1, min_requests=0).verdict is Verdict.PASS
    assert told(check_shadow_agreement(Shadow(), scene())) == (
        Verdict.NO_DATA,
        "agreement with the stable revision: no answers have been compared yet",
    )


EVERYTHING = AnalysisChecks(
    error_rate=Check(max="0.05"),
    mean_latency=TimeCheck(max="1s", mode=CheckMode.OBSERVE),
    tail_latency=TailLatencyCheck(max="1s"),
    queue_time=TimeCheck(max="1s"),
    compute_time=TimeCheck(max="1s"),
    prometheus=(PrometheusCheck(name="mine", query="q", max="1", mode=CheckMode.OBSERVE),),
)


@pytest.mark.parametrize("checks", [EVERYTHING, AnalysisChecks()])
@pytest.mark.parametrize("shadow", [None, Shadow()])
def test_every_check_is_measured_under_its_name(checks, shadow):
    found = measure(checks, shadow, scene())
    assert tuple((one.name, one.mode) for one in found) == names_of(checks, shadow)
    assert len(found) == (7 if checks is EVERYTHING else 1) + (shadow is not None)


def test_the_worst_verdict_wins():
    assert [v.value for v in WORST_FIRST] == ["Fail", "Error", "NoData", "Inconclusive", "NotRun", "Pass"]
    assert set(WORST_FIRST) == set(Verdict)
    assert worst([]) is Verdict.NOT_RUN
    for place, verdict in enumerate(WORST_FIRST):
        assert worst(reversed(WORST_FIRST[place:])) is verdict


def test_quantiles_read_as_people_say_them():
    around = scene(seen(buckets=SHUT))
    for share, name in (("0.5", "p50"), ("0.99", "p99"), ("0.999", "p99.9"), ("1", "p100")):
        assert check_tail_latency(TailLatencyCheck(max="1s", quantile=share), around).message.startswith(name + " ")
