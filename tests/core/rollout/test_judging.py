"""The analysis as the steps ask for it: against whom, since when, and what a bake makes of missing data."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import AnalysisStatus, AnalysisVerdict, TrafficStatus
from pilotfish.core.health.samples import Health, PodSeries, Sample
from pilotfish.core.rollout.judging import judge_candidate
from support.builders import NOW
from support.two_revisions import NEW, OLD, deployment, scope_of, state_of

SINCE = NOW - timedelta(minutes=2)
ABSOLUTE = {"errorRate": {"max": "0.05"}}
AGAINST_STABLE = {"meanLatency": {"maxRegression": "0.2"}}


def series(revision, *, failures=0, ms=10, requests=600):
    def sample(seconds, share):
        done = int(requests * share)
        return Sample(
            at=NOW - timedelta(seconds=seconds),
            success=done,
            failures={"BACKEND": int(failures * share)},
            inferences=done,
            executions=done,
            request_us=done * ms * 1000,
        )

    return PodSeries(
        uid=f"uid-{revision}", revision=revision, samples=tuple(sample(s, 1 - s / 120) for s in (60, 30, 0))
    )


def look(*pods, checks=ABSOLUTE, baking=False, strategy="Canary", stable_ready=4, state=None, **analysis):
    rollout = {"strategy": strategy, "analysis": {"checks": checks, **analysis}}
    state = state or state_of()
    scope = scope_of(deployment(OLD, 4, stable_ready), deployment(NEW, 1), rollout=rollout, state=state)
    scope = replace(scope, revision=NEW, observed=replace(scope.observed, health=Health(pods=pods)))
    return judge_candidate(scope, state, since=SINCE, baking=baking)


def test_good_numbers_let_it_go_on_and_tell_the_share():
    found = look(series(NEW, requests=300), series(OLD, requests=900))
    assert found.may_proceed
    assert (found.abort, found.state.analysis.verdict) == (None, AnalysisVerdict.PASS)
    assert found.state.traffic == TrafficStatus(achieved="25.0")
    assert found.wake > NOW


def test_bad_numbers_send_it_back():
    found = look(series(NEW, failures=100), series(OLD))
    assert (found.may_proceed, found.abort) == (False, Reason.ANALYSIS_FAILED)
    assert found.message.startswith("error rate 14 % > 5 %")


def test_a_measurement_of_before_is_not_measured_again():
    measured = AnalysisStatus(
        verdict=AnalysisVerdict.PASS, started_at=timestamp(SINCE), measured_at=timestamp(NOW - timedelta(seconds=1))
    )
    known = state_of().model_copy(update={"analysis": measured, "traffic": TrafficStatus(achieved="3.0", desired=9)})
    found = look(series(NEW), series(OLD), state=known)
    assert (found.state.analysis.measured_at, found.state.traffic) == (measured.measured_at, known.traffic)


def test_without_requests_no_share_is_told():
    found = look(series(NEW, requests=0), series(OLD, requests=0))
    assert found.state.traffic.achieved is None
    assert not found.may_proceed


@pytest.mark.parametrize("strategy", ["BlueGreen", "Replace"])
def test_only_a_canary_is_judged_without_being_asked(strategy):
    state = state_of()
    silent = replace(scope_of(rollout={"strategy": strategy}, state=state), revision=NEW)
    found = judge_candidate(silent, state, since=SINCE)
    assert (found.state, found.may_proceed, found.abort, found.wake) == (state, True, None, None)
    canary = replace(scope_of(rollout={"strategy": "Canary"}, state=state), revision=NEW)
    assert judge_candidate(canary, state, since=SINCE).state.analysis is not None


def test_a_stable_revision_that_serves_is_what_it_is_compared_with():
    missing = look(series(NEW), checks=AGAINST_STABLE)
    assert (missing.may_proceed, missing.state.analysis.verdict) == (False, AnalysisVerdict.NO_DATA)
    slower = look(series(NEW, ms=13), series(OLD), checks=AGAINST_STABLE)
    assert slower.abort is Reason.ANALYSIS_FAILED


def test_a_broken_stable_revision_keeps_no_cure_away():
    found = look(series(NEW), checks=AGAINST_STABLE, stable_ready=0)
    assert (found.may_proceed, found.state.analysis.verdict) == (True, AnalysisVerdict.PASS)


def test_while_it_bakes_missing_data_send_nobody_back():
    stepping = look(checks=ABSOLUTE, onNoData="Abort")
    assert not stepping.may_proceed
    quiet = (series(NEW, requests=0),)
    assert look(*quiet, onNoData="Abort").abort is Reason.NO_DATA
    assert look(*quiet, onNoData="Abort", baking=True).abort is None
    assert look(series(NEW), checks=AGAINST_STABLE, baking=True).state.analysis.verdict is AnalysisVerdict.PASS
