"""judge() has an answer to any counters, any answers, any status it might find."""

from datetime import UTC, timedelta
from math import isfinite

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotfish.api.rollout import (
    Analysis,
    AnalysisChecks,
    Check,
    CheckMode,
    OnNoData,
    PrometheusCheck,
    RestartCheck,
    Shadow,
    TailLatencyCheck,
    TimeCheck,
)
from pilotfish.api.rollout_status import AnalysisStatus, AnalysisVerdict, CheckStatus
from pilotfish.core.health.analysis import Decision, judge
from pilotfish.core.health.pods import achieved_share, restarts_since
from pilotfish.core.health.samples import Health, PodSeries, QueryAnswer, Sample, ShadowCounters
from support.counters import CANDIDATE, STABLE, START, after

NUMBERS = st.integers(min_value=-(10**6), max_value=10**24) | st.integers(min_value=0, max_value=300)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TIMES = st.integers(min_value=-10, max_value=130).map(after) | st.datetimes(timezones=st.just(UTC))
SHARES = st.sampled_from(["0", "0.05", "0.5", "1", "1e-4", "1e-999999", "0.999"])
FRACTIONS = SHARES | st.sampled_from(["5", "1e9", "1e999999999"])
DURATIONS = st.sampled_from(["0s", "1ms", "10ms", "1.5s", "2h"])
MODES = st.sampled_from(CheckMode)
SAMPLES = st.builds(
    Sample,
    at=TIMES,
    success=NUMBERS,
    failures=st.dictionaries(st.sampled_from(["REJECTED", "CANCELED", "BACKEND", "OTHER", "", "new"]), NUMBERS),
    inferences=NUMBERS,
    executions=NUMBERS,
    request_us=NUMBERS,
    queue_us=NUMBERS,
    compute_us=NUMBERS,
    buckets=st.lists(st.tuples(FLOATS, NUMBERS), max_size=4).map(tuple)
    | st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda n: ((1.0, n[0]), (50.5, n[1]), (float("inf"), n[2]))),
    quantiles=st.dictionaries(st.sampled_from([0.5, 0.99, 0.999]) | FLOATS, FLOATS, max_size=3),
)
PODS = st.builds(
    PodSeries,
    uid=st.sampled_from("abc"),
    revision=st.sampled_from([CANDIDATE, STABLE, "other"]),
    samples=st.lists(SAMPLES, max_size=5).map(tuple),
    error=st.none() | st.text(max_size=300),
)
ANSWERS = st.builds(QueryAnswer, value=st.none() | FLOATS, error=st.none() | st.just("no"))
NAMES = st.sampled_from(["mine", "yours"])
HEALTH = st.builds(
    Health,
    pods=st.lists(PODS, max_size=4).map(tuple),
    queries=st.dictionaries(NAMES, ANSWERS),
    baselines=st.dictionaries(NAMES, ANSWERS),
    since=st.none() | st.integers(min_value=-100, max_value=100).map(after),
    shadow=st.lists(
        st.builds(ShadowCounters, at=TIMES, compared=NUMBERS, agreed=NUMBERS, failed=NUMBERS), max_size=4
    ).map(tuple),
)


def bounds(kind, limits, **more):
    given_bounds = {"max": st.none() | limits, "max_regression": FRACTIONS, "mode": MODES, **more}
    return st.builds(kind, **given_bounds)


CHECKS = st.builds(
    AnalysisChecks,
    error_rate=st.none() | bounds(Check, FRACTIONS),
    mean_latency=st.none() | bounds(TimeCheck, DURATIONS),
    tail_latency=st.none() | bounds(TailLatencyCheck, DURATIONS, quantile=SHARES),
    queue_time=st.none() | bounds(TimeCheck, DURATIONS),
    compute_time=st.none() | bounds(TimeCheck, DURATIONS),
    pod_restarts=st.builds(RestartCheck, max=st.integers(0, 1000), mode=MODES),
    prometheus=st.lists(
        bounds(PrometheusCheck, FRACTIONS, name=NAMES, query=st.just("q")),
        max_size=2,
        unique_by=lambda check: check.name,
    ).map(tuple),
)
ANALYSES = st.builds(
    Analysis,
    interval=st.sampled_from(["5s", "15s", "1h"]),
    window=st.sampled_from(["10s", "60s", "24h"]),
    min_requests=st.integers(0, 1000),
    on_no_data=st.sampled_from(OnNoData),
    no_data_deadline=st.sampled_from(["1m", "30m"]),
    failure_limit=st.integers(1, 3),
    error_limit=st.integers(0, 3),
    checks=CHECKS,
)
MOMENTS = (
    st.none()
    | st.text(max_size=5)
    | st.sampled_from(
        ["2026-01-01T12:00:00Z", "2026-01-01T12:00:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00"]
    )
)
STATUSES = st.builds(
    AnalysisStatus,
    verdict=st.none() | st.sampled_from(AnalysisVerdict),
    started_at=MOMENTS,
    measured_at=MOMENTS,
    no_data_since=MOMENTS,
    checks=st.lists(
        st.builds(
            CheckStatus,
            name=st.sampled_from(["errorRate", "meanLatency", "podRestarts", "mine", "gone"]),
            verdict=st.sampled_from(AnalysisVerdict),
            mode=st.none() | st.sampled_from(["Enforce", "Observe", "x"]),
            message=st.none() | st.just("a sentence"),
            passed=st.integers(-1, 9),
            failed=st.integers(-1, 9),
            errors=st.integers(-1, 9),
        ),
        max_size=4,
    ).map(tuple),
)


CALLS = st.fixed_dictionaries(
    {
        "analysis": ANALYSES,
        "health": HEALTH,
        "candidate": st.just(CANDIDATE),
        "stable": st.none() | st.just(STABLE),
        "restarts": st.integers(-1, 5),
        "since": st.just(START),
        "now": st.integers(-10, 200).map(after),
        "shadow": st.none() | st.builds(Shadow, min_agreement=SHARES),
        "baking": st.booleans(),
        "baseline_required": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=CALLS, previous=st.none() | STATUSES)
def test_ta19_any_sample_has_a_verdict(call, previous):
    found = judge(previous=previous, **call)
    assert AnalysisStatus.model_validate(found.status.to_wire()) == found.status
    assert found == judge(previous=found.status, **call)
    assert (found.reason is None) == (found.decision is Decision.PROCEED)
    assert found.message
    assert "\n" not in found.message
    for check in found.status.checks:
        texts = [text for text in (check.value, check.baseline, check.threshold) if text is not None]
        assert all(len(text) <= 40 for text in texts)
    assert found.wake > call["now"]


@settings(max_examples=50, deadline=None)
@given(health=HEALTH, seconds=st.integers(0, 120))
def test_ta19_any_sample_has_a_share_or_none(health, seconds):
    share = achieved_share(health, CANDIDATE, STABLE, window=timedelta(seconds=60), now=after(seconds))
    assert share is None or (isfinite(share) and 0 <= share <= 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("2026-01-01T12:00:05Z"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.fixed_dictionaries({}, optional={"restartCount": JSON, "image": JSON}), max_size=3))
def test_ta19_any_container_has_a_number_of_restarts(containers):
    assert restarts_since([{"status": {"containerStatuses": containers}}], START) >= 0
