"""TensorBoard logs beside the report: one run for each candidate, for each stage of training and for each profile.

`tensorboard --logdir <artifact>/tensorboard` shows them side by side.
"""

import re
from math import isfinite
from pathlib import Path

from tensorboardX import SummaryWriter

from pilotfish.api.report import CandidateReport, Measurement, Report
from pilotfish.api.report_sections import Profile, TrainingStage

FOLDER = "tensorboard"


def write_tensorboard(report: Report, folder: Path) -> None:
    """Write all runs into `folder/tensorboard`."""
    target = folder / FOLDER
    with SummaryWriter(str(target / "report")) as writer:
        writer.add_text("report", _table(report))
    _write_baseline(report, target)
    for one in report.candidates:
        with SummaryWriter(str(target / _safe(one.variant))) as writer:
            _write_candidate(writer, one)
    for index, stage in enumerate(report.training):
        with SummaryWriter(str(target / f"training-{index}-{_safe(stage.stage)}")) as writer:
            _write_training(writer, stage)
    for profile in report.profile:
        with SummaryWriter(str(target / f"profile-{_safe(profile.role)}")) as writer:
            _write_profile(writer, profile)


def _write_baseline(report: Report, target: Path) -> None:
    with SummaryWriter(str(target / "original")) as writer:
        for one in report.baseline.measurements:
            _write_measurement(writer, one)


def _write_candidate(writer: SummaryWriter, one: CandidateReport) -> None:
    for measurement in one.measurements:
        _write_measurement(writer, measurement)
    figures = {
        "speedup": one.speedup,
        "metric": one.metric,
        "bytes": one.bytes,
        "error/relative": one.error.max_rel if one.error else None,
        "error/largest": one.error.max_abs if one.error else None,
        "error/cosine": one.error.cosine if one.error else None,
    }
    known = {name: float(value) for name, value in figures.items() if value is not None and isfinite(value)}
    for name, value in known.items():
        writer.add_scalar(name, value, 0)
    for rank, layer in enumerate(one.layers):
        writer.add_scalar("error/by_layer_worst_first", layer.error, rank)
    settings = {
        "variant": one.variant,
        "format": one.format.value,
        "precision": one.precision.value,
        "runtime": one.runtime,
        "verdict": one.verdict.value,
    }
    writer.add_hparams(settings, {f"result/{name}": value for name, value in known.items()}, name="hparams")


def _write_measurement(writer: SummaryWriter, one: Measurement) -> None:
    """Figures by batch size; rounds by their number."""
    writer.add_scalar("latency_ms/median", one.latency_ms.median, one.batch)
    writer.add_scalar("latency_ms/p95", one.latency_ms.p95, one.batch)
    if one.latency_ms.p99 is not None:
        writer.add_scalar("latency_ms/p99", one.latency_ms.p99, one.batch)
    writer.add_scalar("samples_per_second", one.throughput, one.batch)
    for index, median in enumerate(one.rounds):
        writer.add_scalar(f"rounds_ms/batch_{one.batch}", median, index)
    for load in one.loads:
        writer.add_scalar(f"samples_per_second_by_callers/batch_{one.batch}", load.throughput, load.concurrency)


def _write_training(writer: SummaryWriter, stage: TrainingStage) -> None:
    for epoch in stage.epochs:
        figures = {
            "loss": epoch.loss,
            "validation_loss": epoch.validation_loss,
            stage.metric or "metric": epoch.metric,
            "learning_rate": epoch.learning_rate,
        }
        for name, value in figures.items():
            if value is not None:
                writer.add_scalar(f"training/{name}", value, epoch.epoch)


def _write_profile(writer: SummaryWriter, profile: Profile) -> None:
    """Operators with the longest first, as a table and by rank; the trace itself lies beside the report."""
    where = (
        f"trace: {_code(profile.trace.path)}" if profile.trace else (profile.problem and _code(profile.problem)) or ""
    )
    rows = [
        f"# {_code(profile.variant)}",
        "",
        f"{profile.runs} runs of batch {profile.batch} by {_code(profile.tool)}; {where}",
        "",
        "| operator | calls | milliseconds | share |",
        "|---|---|---|---|",
        *(f"| {_code(o.op)} | {o.calls:.3g} | {o.milliseconds:.4g} | {o.share:.1%} |" for o in profile.operators),
    ]
    writer.add_text("profile", "\n".join(rows))
    for rank, one in enumerate(profile.operators):
        writer.add_scalar("profile/milliseconds_longest_first", one.milliseconds, rank)


def _table(report: Report) -> str:
    """The candidates as Markdown, which TensorBoard shows; names are code, so that nothing in them is markup."""
    rows = [
        f"# {_code(report.name)}",
        "",
        f"winner {_code(report.winner)}{f': {report.why}' if report.why else ''}",
        "",
        "| variant | verdict | times as fast | relative error | reason |",
        "|---|---|---|---|---|",
    ]
    for one in report.candidates:
        speed = "" if one.speedup is None else f"{one.speedup:.3g}"
        error = "" if one.error is None else f"{one.error.max_rel:.3g}"
        reason = _code(one.reason) if one.reason else ""
        rows.append(f"| {_code(one.variant)} | {one.verdict.value} | {speed} | {error} | {reason} |")
    return "\n".join(rows)


def _code(text: str) -> str:
    return "`" + re.sub(r"[`|<>\s]+", " ", text).strip() + "`"


def _safe(name: str) -> str:
    """A name of one folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:80] or "unnamed"
