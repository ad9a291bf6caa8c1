"""Drawings as values: what lies where on paper. The template draws them; no markup is made here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from pilotfish.optimizer.report.scales import linear, logarithmic, short

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
COLOURS = 8
ROW, BAR = 24, 16
NAME_WIDTH = 240

Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point; `text` stands in it, `tip` says what it is."""

    x: float
    y: float
    kind: str
    text: str = ""
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series; `colour` is a number, the style sheet knows which."""

    name: str
    colour: int
    points: tuple[tuple[float, float], ...]
    tips: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle; `name` stands left of it and `value` right of it where given."""

    x: float
    y: float
    width: float
    height: float
    colour: int = 0
    name: str = ""
    value: str = ""
    tip: str = ""
    shade: int = 0
    """From 1, faint, to 5; 0: as dark as its colour is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One drawing. `left`, `right`, `top` and `bottom` are the frame's edges."""

    name: str
    title: str
    description: str
    x_label: str = ""
    y_label: str = ""
    x_ticks: Ticks = ()
    y_ticks: Ticks = ()
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP
    square: bool = False
    """Drawn small, without stretching it over the page."""

    @property
    def right(self) -> int:
        """The frame's right edge."""
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        """The frame's lower edge."""
        return self.height - BOTTOM


def lines_plot(
    series: Iterable[tuple[str, Sequence[tuple[float, float]]]],
    *,
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    zero: bool = True,
) -> Plot | None:
    """Several series over one axis; None when no series has two points."""
    finite = ((label, [p for p in points if all(map(isfinite, p))]) for label, points in series)
    found = [(label, points) for label, points in finite if points]
    if not any(len(points) > 1 for _, points in found):
        return None
    xs = sorted({x for _, points in found for x, _ in points})
    make = logarithmic if log_x else linear
    x = make(xs, start=LEFT, end=WIDTH - RIGHT)
    y = linear([v for _, points in found for _, v in points], start=HEIGHT - BOTTOM, end=TOP, zero=zero)
    lines = tuple(
        Line(
            name=label,
            colour=i % COLOURS,
            points=tuple((x.at(a), y.at(b)) for a, b in points),
            tips=tuple(f"{label}: {short(b)} at {x_label} {short(a)}" for a, b in points),
        )
        for i, (label, points) in enumerate(found)
    )
    return Plot(
        name=name,
        title=title,
        description=f"{y_label} by {x_label}: {', '.join(line.name for line in lines)}.",
        x_label=x_label,
        y_label=y_label,
        x_ticks=tuple((x.at(v), short(v)) for v in xs) if log_x else x.ticks(),
        y_ticks=y.ticks(),
        lines=lines,
    )


def bars_plot(rows: Sequence[tuple[str, float, str, int]], *, name: str, title: str, description: str) -> Plot | None:
    """Horizontal bars: (name, value, value as text, colour); None without rows."""
    if not rows:
        return None
    x = linear([value for _, value, _, _ in rows], start=NAME_WIDTH, end=WIDTH - 130)
    bars = tuple(
        Bar(
            x=NAME_WIDTH,
            y=TOP + ROW * i,
            width=max(1.0, x.at(value) - NAME_WIDTH),
            height=BAR,
            colour=colour,
            name=label,
            value=text,
        )
        for i, (label, value, text, colour) in enumerate(rows)
    )
    height = TOP + ROW * len(rows)
    return Plot(name=name, title=title, description=description, bars=bars, height=height, left=NAME_WIDTH)
