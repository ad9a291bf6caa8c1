"""Counters of pods as a test needs them: a steady stream of requests, sampled every five seconds."""

from datetime import UTC, datetime, timedelta

from pilotfish.api.rollout import Analysis, AnalysisChecks, Check
from pilotfish.core.health.analysis import judge
from pilotfish.core.health.samples import Health, PodSeries, Sample

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVERY = timedelta(seconds=5)
CANDIDATE, STABLE = "newrevis", "oldrevis"


def after(seconds):
    return START + timedelta(seconds=seconds)


def make_sample(
    seconds, *, success=0, failed=0, canceled=0, ms=10, queue_ms=1, compute_ms=8, batch=1, per_request=1, **more
):
    """Totals at that many seconds after START. `batch`: inferences in an execution, `per_request`: in a request."""
    inferences = success * per_request
    return Sample(
        at=after(seconds),
        success=success,
        failures={"BACKEND": failed, "CANCELED": canceled},
        inferences=inferences,
        executions=-(-inferences // batch),
        request_us=int(success * ms * 1000),
        queue_us=int(success * queue_ms * 1000),
        compute_us=int(success * compute_ms * 1000),
        **more,
    )


def make_pod(revision, *, uid="pod", start=0, until=600, per_step=50, failed_per_step=0, base=0, error=None, **more):
    """A pod that counts so much every five seconds from `start` on; `base` is what it had counted before."""
    samples = tuple(
        make_sample(second, success=base + step * per_step, failed=step * failed_per_step, **more)
        for step, second in enumerate(range(start, until + 1, 5))
    )
    return PodSeries(uid=uid, revision=revision, samples=samples, error=error)


def make_health(*pods, **more):
    """Those pods; a good candidate and a good stable when none are given."""
    return Health(pods=pods or (make_pod(CANDIDATE, uid="c"), make_pod(STABLE, uid="s")), **more)


def make_analysis(checks=None, **more):
    return Analysis(checks=AnalysisChecks(error_rate=Check(max="0.05")) if checks is None else checks, **more)


def look_at(health=None, *, at=60, analysis=None, previous=None, **more):
    """judge() with what most tests have in common."""
    given = {"candidate": CANDIDATE, "stable": STABLE, "restarts": 0, "since": START, **more}
    return judge(
        analysis=analysis or make_analysis(),
        previous=previous,
        health=make_health() if health is None else health,
        now=after(at),
        **given,
    )


def look_on(healths, *, analysis=None, **more):
    """One judgement per measurement, 15 seconds apart, each with the status of the one before."""
    status, judgements = None, []
    for n, health in enumerate(healths):
        judgements.append(look_at(health, at=60 + 15 * n, analysis=analysis, previous=status, **more))
        status = judgements[-1].status
    return judgements


def check_of(judgement, name="errorRate"):
    return next(check for check in judgement.status.checks if check.name == name)
