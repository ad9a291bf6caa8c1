"""The short form of a report: figures as decimal strings for status and the termination message."""

from pilotfish.api.report import (
    CandidateReport,
    CandidateSummary,
    OptimizerReason,
    OptimizerRecord,
    Outcome,
    Report,
    Summary,
    TerminationMessage,
    one_line,
)
from pilotfish.api.tolerance import Metric
from pilotfish.optimizer.environment import PACKAGE
from pilotfish.optimizer.metrics import loss


def figure(value: float, digits: int = 3) -> str:
    """A decimal string of about `digits` digits: 0.0421, 1.23, 164, 1.2e-06."""
    if value != 0 and abs(value) < 1e-3:  # noqa: PLR2004
        return f"{value:.2g}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def make_message(report: Report) -> TerminationMessage:
    """What status shows of a finished run."""
    winner = next(c for c in report.candidates if c.variant == report.winner)
    baseline = report.baseline.measurements[0].latency_ms.median
    latency = winner.measurements[0].latency_ms.median if winner.measurements else None
    summary = Summary(
        winner=report.winner,
        speedup=figure(winner.speedup) if winner.speedup is not None else None,
        baseline_latency_ms=figure(baseline),
        latency_ms=figure(latency) if latency is not None else None,
        max_abs_error=figure(winner.error.max_abs) if winner.error else None,
        metric_drop=_metric_drop(report, winner),
        samples=report.samples,
        tuning=one_line(report.tuning.why, limit=300) if report.tuning else None,
        candidates=tuple(_candidate(c) for c in report.candidates),
    )
    return TerminationMessage(
        outcome=Outcome.SUCCEEDED,
        reason=OptimizerReason.SUCCEEDED,
        message=_sentence(summary),
        source=report.source,
        optimizer=OptimizerRecord(version=report.environment.packages.get(PACKAGE)),
        artifact=report.artifact,
        signature=report.signature,
        summary=summary,
    )


def _metric_drop(report: Report, winner: CandidateReport) -> str | None:
    if report.metric is None or winner.metric is None:
        return None
    metric = next(m for m in Metric if m.value == report.metric.name)
    return figure(loss(metric, before=report.metric.reference, after=winner.metric))


def _candidate(report: CandidateReport) -> CandidateSummary:
    return CandidateSummary(
        variant=report.variant,
        verdict=report.verdict,
        latency_ms=figure(report.measurements[0].latency_ms.median) if report.measurements else None,
        error=figure(report.error.max_rel) if report.error else None,
        reason=one_line(report.reason, limit=200) if report.reason else None,
    )


def _sentence(summary: Summary) -> str:
    others = len(summary.candidates) - 1
    return (
        f"{summary.winner} serves: {summary.speedup} times as fast as the original "
        f"({summary.baseline_latency_ms} ms to {summary.latency_ms} ms), largest error {summary.max_abs_error}, "
        f"chosen among {others + 1} candidate{'s' if others else ''}"
    )
