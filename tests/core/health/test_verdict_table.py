"""The table of verdicts, cell by cell: what each case means for the rollout."""

from math import nan

import pytest

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import AnalysisChecks, Check, CheckMode, OnNoData, PrometheusCheck, TimeCheck
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.analysis import Decision
from pilotfish.core.health.samples import Health, QueryAnswer
from support.counters import (
    CANDIDATE,
    STABLE,
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
BROKEN = make_health(make_pod(CANDIDATE, error="it answers HTTP 500"), make_pod(STABLE, uid="s"))
COMPUTE = make_analysis(AnalysisChecks(compute_time=TimeCheck(max_regression="0.2")))
OTHER_BATCHES = make_health(make_pod(CANDIDATE, batch=1), make_pod(STABLE, uid="s", batch=4))
QUERY = make_analysis(AnalysisChecks(prometheus=(PrometheusCheck(name="mine", query="q", max="0.9"),)))


def answered(**answer):
    return make_health(queries={"mine": QueryAnswer(**answer)})


def test_a2_a_bound_that_is_kept_is_pass():
    found = look_at(GOOD)
    assert (found.decision, found.reason, found.status.verdict) == (Decision.PROCEED, None, Verdict.PASS)
    assert (check_of(found).passed, check_of(found).failed, check_of(found).errors) == (1, 0, 0)


def test_a2_a_bound_that_is_broken_is_fail():
    found = look_at(BAD)
    assert (found.decision, found.reason, found.status.verdict) == (
        Decision.ABORT,
        Reason.ANALYSIS_FAILED,
        Verdict.FAIL,
    )
    assert found.message == "error rate 17 % > 5 % over 60 s, 720 requests"


def test_a2_neither_good_nor_bad_is_inconclusive_and_waits():
    found = look_at(OTHER_BATCHES, analysis=COMPUTE)
    assert check_of(found, "computeTime").verdict is Verdict.INCONCLUSIVE
    assert (found.decision, found.reason) == (Decision.WAIT, Reason.ANALYSIS_INCONCLUSIVE)


@pytest.mark.parametrize("bounds", [{"max": "0.9"}, {"max_regression": "0.1"}, {"max": "0.9", "max_regression": "0.1"}])
def test_a2_nan_is_no_data_whatever_the_bounds(bounds):
    analysis = make_analysis(AnalysisChecks(prometheus=(PrometheusCheck(name="mine", query="q", **bounds),)))
    found = look_at(answered(value=nan), analysis=analysis)
    assert (check_of(found, "mine").verdict, found.decision) == (Verdict.NO_DATA, Decision.WAIT)


def test_a2_an_empty_vector_is_no_data():
    found = look_at(answered(), analysis=QUERY)
    assert (check_of(found, "mine").verdict, found.decision) == (Verdict.NO_DATA, Decision.WAIT)
    assert found.reason is Reason.WAITING_FOR_DATA


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_a2_a_provider_that_is_down_has_a_budget_of_its_own(limit):
    judged = look_on([BROKEN] * (limit + 1), analysis=make_analysis(error_limit=limit))
    assert [j.decision for j in judged] == [Decision.WAIT] * limit + [Decision.ABORT]
    last = judged[-1]
    assert (last.reason, check_of(last).errors, check_of(last).failed) == (Reason.ANALYSIS_ERROR, limit + 1, 0)
    assert last.message.startswith("error rate: a pod could not be measured (it answers HTTP 500) (")


def test_a2_errors_count_in_a_row_only():
    judged = look_on([BROKEN, BROKEN, GOOD, BROKEN, BROKEN], analysis=make_analysis(error_limit=2))
    assert [check_of(j).errors for j in judged] == [1, 2, 0, 1, 2]
    assert all(j.decision is not Decision.ABORT for j in judged)
    assert check_of(look_on([BROKEN, QUIET])[-1]).errors == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a2_as_many_failures_as_the_limit_abort(limit):
    judged = look_on([BAD] * limit, analysis=make_analysis(failure_limit=limit))
    assert [j.decision for j in judged] == [Decision.WAIT] * (limit - 1) + [Decision.ABORT]
    assert all(j.reason is Reason.HOLDING for j in judged[:-1])
    times = "" if limit == 1 else f" ({limit} failed measurements, failureLimit {limit})"
    assert judged[-1].message == f"error rate 17 % > 5 % over 60 s, 720 requests{times}"


def test_a2_failures_need_not_come_in_a_row():
    judged = look_on([BAD, GOOD, BROKEN, BAD], analysis=make_analysis(failure_limit=2))
    assert [check_of(j).failed for j in judged] == [1, 1, 1, 2]
    assert [j.decision for j in judged] == [Decision.WAIT, Decision.PROCEED, Decision.WAIT, Decision.ABORT]


def test_a2_errors_and_failures_within_their_limits_never_promote():
    judged = look_on([BROKEN, BAD, BROKEN, BAD], analysis=make_analysis(failure_limit=9, error_limit=9))
    assert all(j.decision is Decision.WAIT for j in judged)
    assert check_of(judged[-1]).passed == 0


def test_a2_failed_and_inconclusive_is_failed():
    checks = AnalysisChecks(compute_time=TimeCheck(max_regression="0.2"), error_rate=Check(max="0.05"))
    health = make_health(make_pod(CANDIDATE, batch=1, failed_per_step=10), make_pod(STABLE, uid="s", batch=4))
    found = look_at(health, analysis=make_analysis(checks))
    assert check_of(found, "computeTime").verdict is Verdict.INCONCLUSIVE
    assert (found.status.verdict, found.decision) == (Verdict.FAIL, Decision.ABORT)


ANSWERS = {
    Verdict.FAIL: QueryAnswer(value=1.0),
    Verdict.ERROR: QueryAnswer(error="no"),
    Verdict.NO_DATA: QueryAnswer(),
    Verdict.PASS: QueryAnswer(value=0.1),
}


@pytest.mark.parametrize("one", ANSWERS)
@pytest.mark.parametrize("other", ANSWERS)
def test_a2_the_worst_of_two_checks_wins(one, other):
    checks = AnalysisChecks(
        prometheus=tuple(PrometheusCheck(name=name, query="q", max="0.9") for name in ("one", "other"))
    )
    health = make_health(queries={"one": ANSWERS[one], "other": ANSWERS[other]})
    found = look_at(health, analysis=make_analysis(checks, failure_limit=2))
    order = list(ANSWERS)
    assert found.status.verdict is order[min(order.index(one), order.index(other))]
    assert (found.decision is Decision.PROCEED) == ({one, other} == {Verdict.PASS})


def test_a2_ended_before_the_first_sample_is_not_run_and_never_promotes():
    found = look_at(GOOD, at=59)
    assert (found.status.verdict, found.decision, found.reason) == (Verdict.NOT_RUN, Decision.WAIT, Reason.HOLDING)
    assert found.message == "The first measurement looks back over 60 s"


def test_a2_observe_is_reported_and_nothing_more():
    checks = AnalysisChecks(error_rate=Check(max="0.05", mode=CheckMode.OBSERVE), mean_latency=TimeCheck(max="1s"))
    found = look_on([BAD] * 5, analysis=make_analysis(checks))[-1]
    assert (found.decision, found.status.verdict) == (Decision.PROCEED, Verdict.PASS)
    assert (check_of(found).verdict, check_of(found).failed, check_of(found).mode) == (Verdict.FAIL, 5, "Observe")
    silent = AnalysisChecks(
        error_rate=Check(max="0.05", mode=CheckMode.OBSERVE), mean_latency=TimeCheck(max="1s", mode=CheckMode.OBSERVE)
    )
    for health in (QUIET, BROKEN):
        judged = look_on([health] * 6, analysis=make_analysis(silent, error_limit=0, on_no_data=OnNoData.ABORT))
        assert judged[-1].decision is Decision.PROCEED


def test_a2_background_covers_the_bake_time_too():
    assert look_at(BAD, baking=True).decision is Decision.ABORT
    assert look_on([BROKEN] * 5, baking=True)[-1].reason is Reason.ANALYSIS_ERROR
    assert look_at(GOOD, baking=True, restarts=1).reason is Reason.ANALYSIS_FAILED


def test_ta14_inconclusive_never_promotes():
    for on_no_data in OnNoData:
        analysis = COMPUTE.model_copy(update={"on_no_data": on_no_data, "no_data_deadline": "5m"})
        judged = look_on([OTHER_BATCHES] * 20, analysis=analysis)
        assert all(j.decision is Decision.WAIT for j in judged)
        assert check_of(judged[-1], "computeTime").passed == 0
        last = look_at(OTHER_BATCHES, at=60 + 15 * 20, analysis=analysis, previous=judged[-1].status)
        assert (last.decision, last.reason) == (Decision.ABORT, Reason.ANALYSIS_INCONCLUSIVE)


def test_ta14_inconclusive_in_bake_time_never_promotes():
    wide = make_health(make_pod(CANDIDATE, batch=1), make_pod(STABLE, uid="s", batch=4))
    found = look_at(wide, analysis=COMPUTE, baking=True)
    assert found.decision is Decision.WAIT


def test_ta14_the_failure_of_one_of_several_checks_is_not_ignored():
    checks = AnalysisChecks(
        mean_latency=TimeCheck(max="1s"), error_rate=Check(max="0.05"), queue_time=TimeCheck(max="1s")
    )
    found = look_at(BAD, analysis=make_analysis(checks))
    assert [c.verdict for c in found.status.checks].count(Verdict.FAIL) == 1
    assert found.decision is Decision.ABORT


def test_ta14_the_analysis_belongs_to_its_step():
    first = look_on([BAD, BAD], analysis=make_analysis(failure_limit=3))[-1]
    assert check_of(first).failed == 2
    again = look_at(BAD, at=90, since=after(30), previous=first.status, analysis=make_analysis(failure_limit=3))
    assert (check_of(again).failed, again.decision) == (1, Decision.WAIT)


def test_ta15_analysis_counts_from_since_only():
    """Bad requests while the share was not reached yet are not the step's."""
    early = make_pod(CANDIDATE, failed_per_step=50, until=60)
    later = make_pod(CANDIDATE, start=65, base=13 * 50, until=300)
    bent = early.__class__(
        uid="c",
        revision=CANDIDATE,
        samples=(
            *early.samples,
            *(
                sample.__class__(**{**_fields(sample), "failures": {"BACKEND": 12 * 50, "CANCELED": 0}})
                for sample in later.samples
            ),
        ),
    )
    health = make_health(bent, make_pod(STABLE, uid="s"))
    assert look_at(health, at=60).decision is Decision.ABORT
    assert look_at(health, at=119, since=after(60)).status.verdict is Verdict.NOT_RUN
    assert look_at(health, at=120, since=after(60)).decision is Decision.PROCEED


def _fields(sample):
    return {name: getattr(sample, name) for name in sample.__dataclass_fields__}


def test_ta15_infrastructure_that_fails_is_an_error_and_no_success():
    for health in (Health(), make_health(make_pod(STABLE, uid="s")), make_health(make_pod(CANDIDATE, until=0))):
        found = look_at(health)
        assert (check_of(found).verdict, found.decision) == (Verdict.ERROR, Decision.WAIT)
        assert found.reason is Reason.WAITING_FOR_DATA
