"""A report in the terminal. Pure: figures in, tables out.

Nothing that a name brings along may reach the terminal as code: draw on a console without markup.
"""

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pilotfish.api.report import CandidateReport, Measurement, Report, Verdict
from pilotfish.api.report_sections import Explanation, Export, Profile, TrainingStage
from pilotfish.api.status import OptimizationStatus
from pilotfish.api.tuning import TuningReport

_COLOURS = {Verdict.ACCEPTED: "green", Verdict.REFUSED: "red", Verdict.FAILED: "yellow"}
_MOST_LAYERS = 10
_MOST_OPERATORS = 10
_MOST_VALUES = 5


def show_report(report: Report) -> Iterator[RenderableType]:
    """Everything, in the order in which one asks for it."""
    yield _pairs(_head(report))
    yield _candidates(report)
    yield from _reasons((c.variant, c.reason) for c in report.candidates)
    yield _errors(report)
    for one in report.candidates:
        if one.layers:
            yield _layers(one)
    for stage in report.training:
        yield _training(stage)
    for profile in report.profile:
        yield _profile(profile)
    if report.explanation is not None:
        yield _explanation(report.explanation)
    if report.tuning is not None:
        yield _tuning(report.tuning)
    if report.exports:
        yield _exports(report.exports)
    yield _stages(report)
    for note in report.notes:
        yield Text(f"note: {safe(note)}")


def show_summary(summary: OptimizationStatus) -> Iterator[RenderableType]:
    """What status holds: names and verdicts, no more."""
    yield _pairs(
        [
            ("winner", summary.winner),
            ("times as fast", summary.speedup),
            ("latency", f"{summary.baseline_latency_ms} ms to {summary.latency_ms} ms" if summary.latency_ms else None),
            ("largest error", summary.max_abs_error),
            ("loss of the metric", summary.metric_drop),
            ("serving settings", summary.tuning),
            ("report", summary.report),
        ]
    )
    table = _table("variant", "verdict", "ms", "relative error")
    for one in summary.candidates:
        table.add_row(safe(one.variant), safe(one.verdict), safe(one.latency_ms or "-"), safe(one.error or "-"))
    yield _titled("Candidates", table)
    yield from _reasons((c.variant, c.reason) for c in summary.candidates)


def safe(text: str) -> str:
    """The text on one line without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def number(value: float | None, digits: int = 3) -> str:
    """A figure of a few digits; - where there is none."""
    if value is None:
        return "-"
    whole = abs(value) >= 10 ** (digits - 1) and value == value and abs(value) < 1e9  # noqa: PLR0124, PLR2004 - NaN
    return f"{value:,.0f}" if whole else f"{value:.{digits}g}"


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _head(report: Report) -> list[tuple[str, str | None]]:
    source, environment = report.source, report.environment
    return [
        ("model", report.name),
        ("source", f"{source.digest}, {_size(source.bytes)}{f', {source.format}' if source.format else ''}"),
        ("winner", f"{report.winner}{f': {report.why}' if report.why else ''}"),
        ("artifact", f"{report.artifact.digest}, {_size(report.artifact.bytes)}, {report.artifact.backend.value}"),
        ("samples", f"{report.sample_count} {report.samples.lower()}"),
        ("measured on", f"{environment.cpu}, {environment.threads} of {environment.cpu_count} threads"),
    ]


def _candidates(report: Report) -> Group:
    batches = sorted({m.batch for c in report.candidates for m in c.measurements})
    speeds = [title for b in batches for title in (f"ms at {b}", "p95", "per second")]
    table = _table("", "variant", "runtime", "verdict", "faster", *speeds, "rel. error", "memory", "size")
    base = report.baseline
    table.add_row("", f"original ({safe(base.variant)})", safe(base.runtime), "", "1",
                  *_speeds(base.measurements, batches), "", _size(base.peak_memory_bytes), "")  # fmt: skip
    for one in report.candidates:
        wins = one.variant == report.winner
        table.add_row(
            Text("★" if wins else "", style="green"),
            Text(safe(one.variant), style="bold" if wins else ""),
            safe(one.runtime),
            Text(one.verdict.value, style=_COLOURS[one.verdict]),
            number(one.speedup),
            *_speeds(one.measurements, batches),
            number(one.error.max_rel if one.error else None),
            _size(one.peak_memory_bytes),
            _size(one.bytes),
        )
    return _titled("Candidates", table)


def _speeds(found: Iterable[Measurement], batches: list[int]) -> Iterator[str]:
    by_batch = {m.batch: m for m in found}
    for batch in batches:
        one = by_batch.get(batch)
        yield number(one.latency_ms.median if one else None)
        yield number(one.latency_ms.p95 if one else None)
        yield number(one.throughput if one else None)


def _reasons(found: Iterable[tuple[str, str | None]]) -> Iterator[Text]:
    for variant, reason in found:
        if reason:
            yield Text(f"{safe(variant)}: {safe(reason)}")


def _errors(report: Report) -> Group:
    metric = report.metric
    titles = ["variant", "largest", "relative", "cosine", "top-1", "between batches"]
    table = _table(*titles, *([safe(metric.name)] if metric else []))
    if metric is not None:
        told = number(metric.reference, 4) + (f" (as it came {number(metric.source, 4)})" if metric.source else "")
        table.add_row("original", *[""] * (len(titles) - 1), told)
    for one in report.candidates:
        if one.error is None:
            continue
        error = one.error
        figures = (error.max_abs, error.max_rel, error.cosine, error.top1_agreement, error.batch_parity)
        table.add_row(
            safe(one.variant),
            *(number(figure, 6 if figure is error.cosine else 3) for figure in figures),
            *([number(one.metric, 4)] if metric else []),
        )
    return _titled("Differences to the original", table)


def _layers(one: CandidateReport) -> Group:
    table = _table("layer", "operator", "error", "")
    for layer in sorted(one.layers, key=lambda found: -found.error)[:_MOST_LAYERS]:
        kept = "kept in higher precision" if layer.kept else ""
        table.add_row(safe(layer.layer), safe(layer.op or ""), number(layer.error), kept)
    return _titled(f"Error by layer: {safe(one.variant)}", table)


def _training(stage: TrainingStage) -> Group:
    metric = safe(stage.metric or "metric")
    table = _table("epoch", "loss", "validation loss", metric)
    for epoch in stage.epochs:
        figures = (epoch.loss, epoch.validation_loss, epoch.metric)
        table.add_row(str(epoch.epoch), *(number(figure, 4) for figure in figures))
    caption = ""
    if stage.metric_after is not None:
        before = f"{number(stage.metric_before, 4)} before, " if stage.metric_before is not None else ""
        caption = f"{metric}: {before}{number(stage.metric_after, 4)} after"
    return _titled(f"Training: {safe(stage.stage)}", table, caption)


def _profile(one: Profile) -> RenderableType:
    if one.problem:
        return Text(f"no profile of {safe(one.variant)}: {safe(one.problem)}")
    table = _table("operator", "calls", "ms", "share")
    for found in one.operators[:_MOST_OPERATORS]:
        table.add_row(safe(found.op), number(found.calls), number(found.milliseconds), f"{100 * found.share:.1f} %")
    caption = f"trace: {safe(one.trace.path)}" if one.trace is not None else ""
    return _titled(f"Time by operator: {safe(one.variant)} ({safe(one.role)})", table, caption)


def _explanation(found: Explanation) -> RenderableType:
    if found.problem:
        return Text(f"no explanation: {safe(found.problem)}")
    table = _table("input", "value", "mean size")
    for one in found.importance:
        order = sorted(range(len(one.values)), key=lambda place: -one.values[place])
        for place in order[:_MOST_VALUES]:
            where = str(place) if one.rows == 1 else f"{place // one.columns}, {place % one.columns}"
            table.add_row(safe(one.input), where, number(one.values[place]))
    missed = [abs(s.delta) for s in found.samples if s.delta is not None]
    caption = f"largest completeness error: {number(max(missed))}; " if missed else ""
    problems = [f"sample {s.sample}: {s.problem}" for s in found.samples if s.problem]
    caption += "; ".join([f"{len(found.samples)} samples, in full in report.html", *problems])
    return _titled(f"What answers depend on: {found.method.value} by {safe(found.tool)}", table, safe(caption))


def _tuning(found: TuningReport) -> Group:
    table = _table(
        "", "batch", "delay µs", "instances", "threads", "verdict", "at once", "per second", "p95 ms", "reason"
    )
    for index, point in enumerate(found.points):
        best = max(point.loads, key=lambda load: load.throughput, default=None)
        table.add_row(
            "★" if index == found.winner else "",
            str(point.max_batch_size),
            str(point.max_queue_delay_microseconds),
            str(point.instances),
            str(point.intra_op_threads),
            point.verdict.value,
            str(best.concurrency) if best else "-",
            number(best.throughput if best else None),
            number(best.p95_ms if best else None),
            safe(point.reason),
        )
    return _titled(f"Serving settings for {found.objective}", table, safe(found.why))


def _exports(found: Iterable[Export]) -> Group:
    table = _table("format", "path", "size", "rel. error", "reason")
    for one in found:
        said = "; ".join((*([one.problem] if one.problem else []), *one.notes))
        table.add_row(one.format.value, safe(one.path or "-"), _size(one.bytes), number(one.max_rel), safe(said))
    return _titled("For elsewhere", table)


def _stages(report: Report) -> Group:
    table = _table("stage", "seconds")
    for stage in report.stages:
        table.add_row(safe(stage.stage), f"{stage.seconds:.1f}")
    return _titled("Stages", table)


def _titled(title: str, table: Table, caption: str = "") -> Group:
    below = [Text(caption, style="dim")] if caption else []
    return Group(Text(title, style="bold"), table, *below)


def _table(*columns: str) -> Table:
    """Words to the left, figures to the right."""
    words = {"", "variant", "runtime", "verdict", "layer", "operator", "stage", "format", "path", "reason", "input"}
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), justify="left" if column in words else "right", overflow="fold")
    return table


def _pairs(pairs: Iterable[tuple[str, str | None]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for word, value in pairs:
        if value is not None:
            table.add_row(Text(word, style="dim"), Text(safe(value)))
    return table
