"""Report figures as drawings: numbers in, places on paper out."""

from itertools import pairwise
from math import isfinite

from pilotfish.api.report import Baseline, CandidateReport, Measurement, Report
from pilotfish.api.report_sections import LayerError, Profile, TrainingStage
from pilotfish.optimizer.report.plots import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Bar,
    Mark,
    Plot,
    bars_plot,
    lines_plot,
)
from pilotfish.optimizer.report.scales import Scale, linear, logarithmic, short

MOST_BARS = 20
STRIP = 52
RADIUS = 12


def speed_against_error(report: Report) -> Plot | None:
    """Each candidate by its error and its speed-up; numbered as in the table, those not measured on the lower edge."""
    known = [(i, c) for i, c in enumerate(report.candidates, 1) if c.error is not None]
    if not known:
        return None
    errors = [c.error.max_rel for _, c in known if c.error]
    x = logarithmic([*errors, _floor(errors)], start=LEFT + RADIUS, end=WIDTH - RIGHT - RADIUS)
    y = linear([1.0, *(c.speedup or 0.0 for _, c in known)], start=HEIGHT - BOTTOM, end=TOP)
    return Plot(
        name="speed-error",
        title="Speed against error",
        description="Each candidate: relative error to the right, speed-up over the original upwards.",
        x_label="relative error, logarithmic",
        y_label="times as fast",
        x_ticks=x.ticks(),
        y_ticks=y.ticks(),
        marks=tuple(_candidate(i, c, x, y, winner=report.winner) for i, c in known),
    )


def _candidate(index: int, one: CandidateReport, x: Scale, y: Scale, *, winner: str) -> Mark:
    error = one.error.max_rel if one.error else 0.0
    speed = "not measured" if one.speedup is None else f"{short(one.speedup)} times as fast"
    return Mark(
        x=x.at(error),
        y=y.at(one.speedup or 0.0),
        kind="winner" if one.variant == winner else one.verdict.value.lower(),
        text=str(index),
        tip=f"{one.variant}: {one.verdict.value}, relative error {short(error)}, {speed}",
    )


def _floor(errors: list[float]) -> float:
    """Where an error of zero stands on a logarithmic axis: left of all others."""
    positive = [e for e in errors if e > 0]
    return min(positive, default=1e-6) / (3 if len(positive) < len(errors) else 1)


def latencies(report: Report) -> Plot | None:
    """The distribution of the measured times at the first batch size, one strip for each model, one common axis."""
    found = [(name, m) for name, m in _first_measurements(report) if m.histogram is not None]
    if not found:
        return None
    edges = [e for _, m in found if m.histogram for e in m.histogram.edges[:-1]]
    x = logarithmic(edges, start=LEFT + 90, end=WIDTH - RIGHT)
    height = TOP + STRIP * len(found) + BOTTOM
    bars: list[Bar] = []
    for row, (name, m) in enumerate(found):
        bars += _strip(name, m, x, foot=TOP + STRIP * (row + 1) - 4, colour=row % COLOURS)
    return Plot(
        name="latency",
        title=f"Latency at batch {found[0][1].batch}",
        description="How often a call took how long, for each model; higher bars are more frequent.",
        x_label="milliseconds for a call, logarithmic",
        x_ticks=x.ticks(),
        bars=tuple(bars),
        height=height,
        left=LEFT + 90,
    )


def _strip(name: str, one: Measurement, x: Scale, *, foot: float, colour: int) -> list[Bar]:
    if one.histogram is None:
        return []
    counts, edges = one.histogram.counts, one.histogram.edges
    tallest = max(counts, default=1) or 1
    bars = []
    for count, (low, high) in zip(counts, pairwise(edges), strict=True):
        start, end = x.at(low), x.at(high)
        height = round((STRIP - 14) * count / tallest, 2)
        tip = f"{name}: {count} calls from {short(low)} to {short(high)} ms"
        # The tail's bin is wide and would look heavy: it is drawn as narrow as the others.
        width = max(1.0, min(round(end - start, 2), 40.0))
        bars.append(Bar(x=start, y=foot - height, width=width, height=height, colour=colour, tip=tip))
    label = Bar(x=x.start, y=foot - STRIP / 2, width=0, height=8, name=name)
    return [*bars, label]


def throughputs(report: Report) -> Plot | None:
    """Samples per second by batch size."""
    series = [(name, [(m.batch, m.throughput) for m in found]) for name, found in _measured(report)]
    return lines_plot(
        series,
        name="throughput",
        title="Throughput by batch size",
        x_label="batch size",
        y_label="samples per second",
        log_x=True,
    )


def loads(report: Report) -> Plot | None:
    """Samples per second by the number of callers, at the first batch size."""
    series = [
        (name, [(1, found[0].throughput), *((load.concurrency, load.throughput) for load in found[0].loads)])
        for name, found in _measured(report)
        if found and found[0].loads
    ]
    return lines_plot(
        series,
        name="load",
        title="Throughput by callers at once",
        x_label="callers at once",
        y_label="samples per second",
        log_x=True,
    )


def layer_errors(one: CandidateReport, *, index: int) -> Plot | None:
    """The worst layers of one candidate."""
    known = [layer for layer in one.layers if isfinite(layer.error)]
    worst = sorted(known, key=lambda layer: -layer.error)[:MOST_BARS]
    return bars_plot(
        [(_layer_name(layer), layer.error, short(layer.error), int(layer.kept)) for layer in worst],
        name=f"layers-{index}",
        title=f"Error by layer: {one.variant}",
        description="Relative error of each layer's answer, worst first; in another colour: kept in higher precision.",
    )


def operators(one: Profile, *, index: int) -> Plot | None:
    """Where the time goes."""
    found = sorted(one.operators, key=lambda o: -o.share)[:MOST_BARS]
    return bars_plot(
        [(o.op, o.share, f"{100 * o.share:.1f} %, {short(o.milliseconds)} ms", 0) for o in found],
        name=f"profile-{index}",
        title=f"Time by operator: {one.variant} ({one.role})",
        description="Share of the time that each type of operator takes in one run.",
    )


def curves(stage: TrainingStage, *, index: int) -> tuple[Plot, ...]:
    """Loss and metric by epoch."""
    losses = [
        ("training loss", [(e.epoch, e.loss) for e in stage.epochs]),
        ("validation loss", [(e.epoch, e.validation_loss) for e in stage.epochs if e.validation_loss is not None]),
    ]
    metric = [(stage.metric or "metric", [(e.epoch, e.metric) for e in stage.epochs if e.metric is not None])]
    plots = (
        lines_plot(losses, name=f"loss-{index}", title=f"Loss: {stage.stage}", x_label="epoch", y_label="loss"),
        lines_plot(
            metric,
            name=f"metric-{index}",
            title=f"{stage.metric or 'Metric'}: {stage.stage}",
            x_label="epoch",
            y_label=stage.metric or "metric",
            zero=False,
        ),
    )
    return tuple(plot for plot in plots if plot is not None)


def _layer_name(layer: LayerError) -> str:
    return f"{layer.layer} ({layer.op})" if layer.op else layer.layer


def _measured(report: Report) -> list[tuple[str, tuple[Measurement, ...]]]:
    """The original and every measured candidate; one that is the original itself only once."""
    own: list[tuple[str, Baseline | CandidateReport]] = [(c.variant, c) for c in report.candidates if c.measurements]
    same = any(c.measurements == report.baseline.measurements for _, c in own)
    first = [] if same else [(f"original ({report.baseline.variant})", report.baseline)]
    return [(name, one.measurements) for name, one in (*first, *own)]


def _first_measurements(report: Report) -> list[tuple[str, Measurement]]:
    return [(name, found[0]) for name, found in _measured(report) if found]
