"""When it measures, what it remembers, how long it waits for data."""

from datetime import UTC, datetime, timedelta

import pytest

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import (
    AnalysisChecks,
    Check,
    CheckMode,
    OnNoData,
    PrometheusCheck,
    RestartCheck,
    Shadow,
    TimeCheck,
)
from pilotfish.api.rollout_status import AnalysisStatus
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.analysis import Decision
from pilotfish.core.health.samples import Health, PodSeries, QueryAnswer, ShadowCounters
from support.counters import (
    CANDIDATE,
    STABLE,
    START,
    after,
    check_of,
    look_at,
    look_on,
    make_analysis,
    make_health,
    make_pod,
)

GOOD = make_health()
BAD = make_health(make_pod(CANDIDATE, failed_per_step=10), make_pod(STABLE, uid="s"))
QUIET = make_health(make_pod(CANDIDATE, per_step=1), make_pod(STABLE, uid="s"))
BROKEN = make_health(make_pod(CANDIDATE, error="no"), make_pod(STABLE, uid="s"))
SHORT = "2m"


def test_the_first_measurement_comes_with_a_full_window():
    for at in (-1000, 0, 59):
        found = look_at(GOOD, at=at)
        assert (found.status.measured_at, found.status.checks) == (None, ())
        assert found.status.started_at == "2026-01-01T12:00:00Z"
    assert look_at(GOOD, at=0).wake == after(60)
    assert look_at(GOOD, at=-1000).wake == START
    found = look_at(GOOD, at=60)
    assert found.status.measured_at == "2026-01-01T12:01:00Z"
    assert (found.status.requests, found.wake) == (600, after(75))


def test_between_two_measurements_nothing_changes():
    first = look_at(GOOD)
    for at in (60, 61, 74):
        again = look_at(BAD, at=at, previous=first.status)
        assert again == first
    assert look_at(BAD, at=75, previous=first.status).decision is Decision.ABORT


@pytest.mark.parametrize("health", [GOOD, BAD, QUIET, BROKEN])
def test_a_second_look_at_the_same_moment_changes_nothing(health):
    for at in (0, 60, 60.999, 200):
        found = look_at(health, at=at)
        assert look_at(health, at=at, previous=found.status) == found
        assert found.wake > after(at)


def test_a_long_interval_wakes_when_the_window_opens():
    analysis = make_analysis(interval="10m")
    first = look_at(GOOD, analysis=analysis)
    assert first.wake == after(60 + 600 - 60)
    assert look_at(GOOD, at=600, analysis=analysis, previous=first.status).wake == after(660)


def test_what_happened_before_the_looking_began_is_waited_for():
    """An operator that was started again knows no counters: that is neither an error nor missing data."""
    strict = make_analysis(error_limit=0, on_no_data=OnNoData.ABORT)
    first = look_at(GOOD, analysis=strict)
    started = Health(since=after(100))
    found = look_at(started, at=100, analysis=strict, previous=first.status)
    assert (found.status, found.decision, found.wake) == (first.status, Decision.PROCEED, after(160))
    assert look_at(started, at=159, analysis=strict).decision is Decision.WAIT
    assert look_at(started, at=160, analysis=strict).decision is Decision.ABORT
    long_ago = make_health(since=after(-1000))
    assert look_at(long_ago, analysis=strict).decision is Decision.PROCEED


def test_another_moment_is_a_new_run():
    previous = look_on([BAD, QUIET], analysis=make_analysis(failure_limit=9))[-1].status
    found = look_at(GOOD, at=90, since=after(60), previous=previous)
    assert found.status == AnalysisStatus(verdict=Verdict.NOT_RUN, started_at="2026-01-01T12:01:00Z")


@pytest.mark.parametrize("broken", [None, "", "never", "2026-01-01T12:01:00", "2026-13-01T00:00:00Z"])
def test_a_status_with_broken_times_is_measured_anew(broken):
    known = look_at(QUIET).status
    found = look_at(QUIET, at=61, previous=known.model_copy(update={"measured_at": broken, "no_data_since": broken}))
    assert found.status.measured_at == "2026-01-01T12:01:01Z"
    assert found.status.no_data_since == "2026-01-01T12:01:01Z"


def test_a_clock_that_was_set_back_is_waited_for_one_interval_at_most():
    known = look_at(QUIET, at=500).status
    found = look_at(BAD, at=485, previous=known)
    assert (found.status, found.wake) == (known, after(500 + 15))
    anew = look_at(QUIET, at=484, previous=known)
    assert (anew.status.measured_at, anew.wake) == ("2026-01-01T12:08:04Z", after(484 + 15))
    assert anew.status.no_data_since == anew.status.measured_at
    assert look_at(make_health(since=after(61))).decision is Decision.PROCEED
    assert look_at(make_health(since=after(60))).decision is Decision.WAIT


def test_no_data_holds_until_its_deadline():
    judged = look_on([QUIET] * 8, analysis=make_analysis(no_data_deadline=SHORT))
    assert all(j.decision is Decision.WAIT and j.reason is Reason.WAITING_FOR_DATA for j in judged)
    assert judged[-1].status.no_data_since == "2026-01-01T12:01:00Z"
    last = look_at(QUIET, at=180, analysis=make_analysis(no_data_deadline=SHORT), previous=judged[-1].status)
    assert (last.decision, last.reason, last.status.verdict) == (Decision.ABORT, Reason.NO_DATA, Verdict.NO_DATA)
    sentence = "error rate: 12 requests over 60 s, at least 100 are needed (for 2 min, noDataDeadline)"
    assert last.message == sentence
    again = look_at(QUIET, at=180, analysis=make_analysis(no_data_deadline=SHORT), previous=last.status)
    assert again == last


def test_a_message_of_waiting_holds_no_figures_that_change():
    judged = look_on([QUIET, BROKEN, QUIET, make_health(make_pod(CANDIDATE, per_step=2), make_pod(STABLE, uid="s"))])
    assert [j.message for j in judged] == [
        "Too little data to judge: errorRate",
        "Could not be measured: errorRate",
        "Too little data to judge: errorRate",
        "Too little data to judge: errorRate",
    ]


def test_data_that_comes_ends_the_wait():
    judged = look_on([QUIET, GOOD, QUIET], analysis=make_analysis(no_data_deadline=SHORT))
    assert [j.status.no_data_since for j in judged] == ["2026-01-01T12:01:00Z", None, "2026-01-01T12:01:30Z"]
    assert judged[1].decision is Decision.PROCEED
    assert look_on([QUIET, BAD], analysis=make_analysis(failure_limit=2))[-1].status.no_data_since is None


def test_errors_in_between_do_not_put_the_deadline_off():
    judged = look_on([QUIET, BROKEN] * 4 + [BROKEN], analysis=make_analysis(no_data_deadline=SHORT))
    assert [j.decision for j in judged] == [Decision.WAIT] * 8 + [Decision.ABORT]
    assert judged[-1].reason is Reason.NO_DATA
    assert judged[-1].message == "error rate: a pod could not be measured (no) (for 2 min, noDataDeadline)"


def test_no_data_aborts_at_once_where_asked():
    found = look_at(QUIET, analysis=make_analysis(on_no_data=OnNoData.ABORT))
    assert (found.decision, found.reason) == (Decision.ABORT, Reason.NO_DATA)
    assert found.message == "error rate: 12 requests over 60 s, at least 100 are needed (onNoData Abort)"


def test_no_data_is_good_where_asked():
    found = look_on([QUIET] * 20, analysis=make_analysis(on_no_data=OnNoData.PASS, no_data_deadline="1m"))[-1]
    assert (found.decision, found.status.verdict, found.status.no_data_since) == (Decision.PROCEED, Verdict.PASS, None)
    assert (check_of(found).verdict, check_of(found).passed) == (Verdict.NO_DATA, 20)


def test_a_baseline_without_requests_holds_and_aborts_at_its_deadline():
    analysis = make_analysis(AnalysisChecks(mean_latency=TimeCheck(max_regression="0.2")), no_data_deadline="1m")
    alone = make_health(make_pod(CANDIDATE))
    judged = look_on([alone] * 5, analysis=analysis)
    assert [j.decision for j in judged] == [Decision.WAIT] * 4 + [Decision.ABORT]
    assert look_at(alone, analysis=analysis, baseline_required=False).decision is Decision.PROCEED
    assert look_at(alone, analysis=analysis, stable=None).decision is Decision.WAIT


@pytest.mark.parametrize("on_no_data", OnNoData)
def test_in_bake_time_missing_data_neither_aborts_nor_holds(on_no_data):
    checks = AnalysisChecks(error_rate=Check(max="0.05"), mean_latency=TimeCheck(max_regression="0.2"))
    analysis = make_analysis(checks, on_no_data=on_no_data, no_data_deadline="1m")
    for health in (QUIET, make_health(make_pod(CANDIDATE))):
        judged = look_on([health] * 30, analysis=analysis, baking=True)
        assert all(j.decision is Decision.PROCEED for j in judged)
        assert judged[-1].status.no_data_since is None
    assert look_at(GOOD, at=0, analysis=analysis, baking=True).decision is Decision.PROCEED
    assert look_at(make_health(make_pod(CANDIDATE)), analysis=analysis, baking=True).status.verdict is Verdict.PASS
    errors = look_on([BROKEN] * 2, analysis=analysis, baking=True)
    assert errors[-1].decision is Decision.WAIT


def test_a_restart_is_a_failed_measurement():
    found = look_at(GOOD, restarts=1)
    assert (found.decision, found.reason) == (Decision.ABORT, Reason.ANALYSIS_FAILED)
    assert found.message == "pod restarts 1 > 0 since the step began"
    assert look_at(GOOD, restarts=1, analysis=make_analysis(failure_limit=2)).decision is Decision.WAIT
    allowed = make_analysis(AnalysisChecks(pod_restarts=RestartCheck(max=1)))
    assert look_at(GOOD, restarts=1, analysis=allowed).decision is Decision.PROCEED


def test_a_check_that_is_new_in_the_spec_is_waited_for():
    known = look_at(GOOD).status
    more = make_analysis(AnalysisChecks(error_rate=Check(max="0.05"), queue_time=TimeCheck(max="1s")))
    found = look_at(GOOD, at=61, analysis=more, previous=known)
    assert (found.decision, found.message) == (Decision.WAIT, "Not measured yet: queueTime")
    assert look_at(GOOD, at=75, analysis=more, previous=known).decision is Decision.PROCEED


def test_a_check_whose_mode_changes_counts_anew():
    observed = make_analysis(AnalysisChecks(error_rate=Check(max="0.05", mode=CheckMode.OBSERVE)))
    known = look_on([BAD] * 3, analysis=observed)[-1].status
    enforced = make_analysis(failure_limit=2)
    assert look_at(BAD, at=91, analysis=enforced, previous=known).message == "Not measured yet: errorRate"
    found = look_at(BAD, at=105, analysis=enforced, previous=known)
    assert (check_of(found).failed, found.decision) == (1, Decision.WAIT)


def test_a_limit_that_was_lowered_names_the_check():
    known = look_on([BAD, GOOD], analysis=make_analysis(failure_limit=5))[-1].status
    found = look_at(GOOD, at=76, previous=known)
    assert (found.decision, found.message) == (Decision.ABORT, "errorRate was outside its bounds")


def test_the_shadow_is_a_check_like_any_other():
    counters = [(0, 0, 0), (60, 200, 150)]
    shadow = tuple(ShadowCounters(at=after(at), compared=c, agreed=a) for at, c, a in counters)
    found = look_at(make_health(shadow=shadow), shadow=Shadow())
    assert (found.decision, check_of(found, "shadowAgreement").verdict) == (Decision.ABORT, Verdict.FAIL)
    assert look_at(GOOD, shadow=Shadow()).decision is Decision.WAIT
    assert look_at(make_health(shadow=shadow)).decision is Decision.PROCEED


def test_without_an_enforced_check_a_measurement_is_enough():
    nothing = make_analysis(AnalysisChecks(pod_restarts=RestartCheck(mode=CheckMode.OBSERVE)))
    assert look_at(GOOD, at=59, analysis=nothing).decision is Decision.WAIT
    found = look_at(Health(), analysis=nothing, restarts=5)
    assert (found.decision, found.status.verdict) == (Decision.PROCEED, Verdict.PASS)


def test_times_are_those_of_the_object_in_utc():
    since = datetime(2026, 1, 1, 12, 0, 0, 900_000, tzinfo=UTC)
    found = look_at(GOOD, at=65, since=since)
    assert (found.status.started_at, found.status.measured_at) == ("2026-01-01T12:00:00Z", "2026-01-01T12:01:05Z")


def test_stable_and_candidate_are_seen_in_the_same_window():
    """A stable revision that was slow an hour ago is no excuse now."""
    slow = make_pod(STABLE, uid="s", ms=100, start=-3600, until=-3500)
    now = make_pod(STABLE, uid="s", ms=10)
    both = PodSeries(uid="s", revision=STABLE, samples=(*slow.samples, *now.samples))
    health = make_health(make_pod(CANDIDATE, ms=20), both)
    analysis = make_analysis(AnalysisChecks(mean_latency=TimeCheck(max_regression="0.2")))
    found = look_at(health, analysis=analysis)
    assert (check_of(found, "meanLatency").baseline, found.decision) == ("10ms", Decision.ABORT)
    assert found.wake - after(60) == timedelta(seconds=15)


def test_a_status_keeps_the_figures_of_the_last_measurement():
    analysis = make_analysis(AnalysisChecks(mean_latency=TimeCheck(max="5ms", max_regression="0.2")))
    found = check_of(look_at(GOOD, analysis=analysis), "meanLatency")
    assert (found.value, found.baseline, found.threshold, found.mode) == ("10ms", "10ms", "5ms", "Enforce")
    assert found.message == "mean latency 10 ms > 5 ms over 60 s, 600 requests"


def test_good_numbers_say_so():
    found = look_at(GOOD)
    assert (found.decision, found.reason, found.message) == (
        Decision.PROCEED,
        None,
        "Every check is within its bounds",
    )


def test_all_checks_that_are_waited_for_are_named():
    checks = AnalysisChecks(error_rate=Check(max="0.05"), mean_latency=TimeCheck(max="1s"))
    found = look_at(QUIET, analysis=make_analysis(checks))
    assert (found.decision, found.message) == (Decision.WAIT, "Too little data to judge: errorRate, meanLatency")


def test_errors_in_a_row_are_counted_in_the_message():
    found = look_on([BROKEN] * 2, analysis=make_analysis(error_limit=1))[-1]
    assert (found.decision, found.reason) == (Decision.ABORT, Reason.ANALYSIS_ERROR)
    assert found.message == ("error rate: a pod could not be measured (no) (2 measurements in a row, errorLimit 1)")
    assert look_on([BROKEN], analysis=make_analysis(error_limit=0))[-1].message.endswith(
        "(1 measurement in a row, errorLimit 0)"
    )


def test_answers_to_queries_about_both_revisions_are_compared():
    check = PrometheusCheck(name="memory", query="q", max_regression="0.1")
    analysis = make_analysis(AnalysisChecks(prometheus=(check,)))
    answers = {"queries": {"memory": QueryAnswer(value=2.0)}, "baselines": {"memory": QueryAnswer(value=1.0)}}
    found = look_at(make_health(**answers), analysis=analysis)
    assert (found.decision, check_of(found, "memory").baseline) == (Decision.ABORT, "1")


def test_without_a_stable_revision_there_is_no_baseline():
    analysis = make_analysis(AnalysisChecks(mean_latency=TimeCheck(max_regression="0.2")))
    found = check_of(look_at(GOOD, analysis=analysis, stable=None), "meanLatency")
    assert found.message.endswith("there is no stable revision to compare with")
