"""Attributions as heat maps: a square for each value, orange where it adds to the answer, blue where it takes away."""

from math import isfinite

from pilotfish.api.report_sections import Explanation, InputAttribution
from pilotfish.optimizer.report.plots import Bar, Plot, bars_plot
from pilotfish.optimizer.report.scales import short

SIDE, EDGE = 256, 2
MOST_FEATURES = 20
MOST_SAMPLES = 8
"""Of them that are drawn; report.json has all."""
LEAST = 0.02
"""Share of the largest value below which a square is left white."""
SHADES = 5


def heat_maps(found: Explanation) -> tuple[Plot, ...]:
    """The importance of each input, then the first samples."""
    overall = [
        _plot(one, name=f"importance-{i}", title=f"{one.input}: all samples") for i, one in enumerate(found.importance)
    ]
    samples = [
        _plot(one, name=f"sample-{s.sample}-{i}", title=f"{one.input} of sample {s.sample}: {s.target}")
        for s in found.samples[:MOST_SAMPLES]
        for i, one in enumerate(s.inputs)
    ]
    return tuple(plot for plot in (*overall, *samples) if plot is not None)


def _plot(one: InputAttribution, *, name: str, title: str) -> Plot | None:
    largest = max((abs(v) for v in one.values if isfinite(v)), default=0.0)
    if largest == 0.0 or len(one.values) != one.rows * one.columns:
        return None
    if one.rows == 1:
        return _features(one, name=name, title=title)
    side = SIDE / max(one.rows, one.columns)
    squares = tuple(
        Bar(
            x=EDGE + side * (place % one.columns),
            y=EDGE + side * (place // one.columns),
            width=side,
            height=side,
            colour=0 if value < 0 else 1,
            shade=max(1, round(SHADES * abs(value) / largest)),
            tip=f"row {place // one.columns}, column {place % one.columns}: {short(value)}",
        )
        for place, value in enumerate(one.values)
        if abs(value) >= LEAST * largest
    )
    return Plot(
        name=name,
        title=title,
        description=f"{one.rows} by {one.columns} values, the largest {short(largest)}.",
        bars=squares,
        width=round(side * one.columns) + 2 * EDGE,
        height=round(side * one.rows) + 2 * EDGE,
        square=True,
    )


def _features(one: InputAttribution, *, name: str, title: str) -> Plot | None:
    """The largest values as bars: their size, in another colour where they take away."""
    order = sorted(range(len(one.values)), key=lambda place: -abs(one.values[place]))[:MOST_FEATURES]
    return bars_plot(
        [(f"{one.input}[{i}]", abs(one.values[i]), short(one.values[i]), 0 if one.values[i] < 0 else 1) for i in order],
        name=name,
        title=title,
        description=f"The {len(order)} values of {len(one.values)} that matter most; in blue: they take away.",
    )
