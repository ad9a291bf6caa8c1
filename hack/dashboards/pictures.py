"""Draw a dashboard from answers of a real Prometheus, as SVG: `python -m dashboards.pictures RECORD FOLDER`.

RECORD is what tests/e2e/test_prometheus.py, or tests/dashboards/test_asked.py, writes with
PILOTFISH_RECORD_DASHBOARDS: for each query the series since the server started. Not Grafana's own drawing, but its
panels, places, titles and colours, and nobody's invented numbers.
Panels without any answer say so.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dashboards.__main__ import FILES
from dashboards.scales import show

CELL_X, CELL_Y, GAP = 60, 26, 8
MARGIN, LEGEND = 26, 15
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
MARKS = {"blue": "#5794f2", "green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
MOST_LINES, MOST_ROWS = 6, 6
PAUSE = 8.0
"""Seconds without a value that are a gap."""
Series = Mapping[str, Any]
Record = Mapping[str, Sequence[Series]]
Box = tuple[float, float, float, float]


def draw(stem: str, board: Mapping[str, Any], record: Record) -> str:
    """The whole dashboard."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) * CELL_Y + 40
    times = [at for series in record.values() for one in series for at, _ in one["values"]]
    span = (min(times), max(times))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * CELL_X} {height}" font-family="sans-serif">',
        f'<rect width="100%" height="100%" fill="#111217"/>{_text(12, 26, board["title"], size=18, colour="#fff")}',
    ]
    marks = [(_mark_times(stem, mark, record), mark) for mark in board["annotations"].get("list") or ()]
    for panel in board["panels"]:
        parts += _panel(stem, panel, record, span, marks)
    return "\n".join([*parts, "</svg>", ""])


def _panel(stem: str, panel: Mapping[str, Any], record: Record, span: tuple[float, float], marks: Any) -> Iterator[str]:
    at = panel["gridPos"]
    x, y = at["x"] * CELL_X + GAP / 2, at["y"] * CELL_Y + 40
    width, height = at["w"] * CELL_X - GAP, at["h"] * CELL_Y - GAP
    if panel["type"] == "row":
        yield _text(x + 4, y + 15, panel["title"], size=14, colour="#fff")
        return
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="#181b1f" stroke="#2c3235"/>'
    yield _text(x + 8, y + 16, panel["title"], size=12, colour="#ccccdc")
    found = [(t, one) for t in panel["targets"] for one in record[f"{stem}: {panel['title']} {t['refId']}"]]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    inner = (x + 8, y + MARGIN, width - 16, height - MARGIN - 6)
    if not found:
        yield _text(x + width / 2, y + height / 2 + 8, "no data here", size=11, colour="#6e7077", middle=True)
    elif panel["type"] == "stat":
        yield from _number(panel, found, inner, unit)
    elif panel["type"] == "table":
        yield from _table(panel, found, inner)
    else:
        yield from _graph(found, inner, unit, span, marks)


def _number(panel: Mapping[str, Any], found: Any, box: Box, unit: str) -> Iterator[str]:
    target, series = max(found, key=lambda pair: pair[1]["values"][-1][0])
    value = series["values"][-1][1]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    is_word = panel["options"]["textMode"] == "name"
    text = _legend(target, series) if is_word else show(value, unit)
    size = min(26, box[2] / max(1, len(text)) * 1.7)
    fill = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}[colour]
    yield _text(box[0] + box[2] / 2, box[1] + box[3] / 2 + 8, text, size=size, colour=fill, middle=True)


def _table(panel: Mapping[str, Any], found: Any, box: Box) -> Iterator[str]:
    organize = next(t for t in panel["transformations"] if t["id"] == "organize")["options"]
    keys = {f"Value #{t['refId']}": t["refId"] for t in panel["targets"]}
    titles = {ref: organize["renameByName"].get(name, "") for name, ref in keys.items()}
    gone = {*organize["excludeByName"], *(keys[name] for name in organize["excludeByName"] if name in keys)}
    units = _units(panel)
    last = max(at for _, one in found for at, _ in one["values"])
    rows: dict[tuple[str | None, ...], dict[str, str]] = {}
    many = len(panel["targets"]) > 1
    for target, one in sorted(found, key=lambda pair: pair[1]["values"][-1][0]):
        at, value = one["values"][-1]
        labels = {name: text for name, text in one["metric"].items() if name not in gone}
        # What is no more is no row, except in a list of what has been.
        if many and last - at > PAUSE:
            continue
        key = tuple(labels.get(name) for name in ("namespace", "name")) if many else tuple(sorted(labels.values()))
        row = rows.setdefault(key, {})
        row.update(labels)
        title = titles[target["refId"]]
        if many and title and target["refId"] not in gone:
            row[title] = show(value, units.get(title, "short"))
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    step = box[2] / max(1, len(columns))
    lines = [dict(zip(columns, columns, strict=True)), *list(rows.values())[:MOST_ROWS]]
    for number, row in enumerate(lines):
        for index, name in enumerate(columns):
            colour = "#8e8e9a" if number == 0 else "#ccccdc"
            room = int(step / 6)
            yield _text(
                box[0] + index * step, box[1] + 12 + number * 19, row.get(name, "")[:room], size=11, colour=colour
            )


def _units(panel: Mapping[str, Any]) -> dict[str, str]:
    """Of a table's columns."""
    told = ((o["matcher"]["options"], p) for o in panel["fieldConfig"]["overrides"] for p in o["properties"])
    return {column: part["value"] for column, part in told if part["id"] == "unit"}


def _graph(found: Any, box: Box, unit: str, span: tuple[float, float], marks: Any) -> Iterator[str]:
    named = [(_legend(target, one), one["values"]) for target, one in found][:MOST_LINES]
    most = max((v for _, values in named for _, v in values if v != float("inf")), default=0.0) or 1.0
    x, y, width, height = box[0] + 46, box[1], box[2] - 46, box[3] - LEGEND * ((len(named) + 1) // 2) - 8
    for part in (0.0, 0.5, 1.0):
        line = y + height * (1 - part)
        yield f'<line x1="{x}" x2="{x + width}" y1="{line:.1f}" y2="{line:.1f}" stroke="#2c3235"/>'
        yield _text(x - 4, line + 4, show(most * part, unit), size=9, colour="#8e8e9a", end=True)
    scale = width / max(1.0, span[1] - span[0])
    for times, mark in marks:
        for at in times:
            place = x + (at - span[0]) * scale
            at_x = f'x1="{place:.1f}" x2="{place:.1f}"'
            colour = MARKS[mark["iconColor"]]
            yield f'<line {at_x} y1="{y}" y2="{y + height:.1f}" stroke="{colour}" stroke-dasharray="3 3"/>'
    for index, (legend, values) in enumerate(named):
        colour = COLOURS[index % len(COLOURS)]
        points = [(x + (at - span[0]) * scale, y + height * (1 - min(v, most) / most), at) for at, v in values]
        yield f'<path d="{_path(points)}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        left, low = box[0] + (index % 2) * box[2] / 2, y + height + 16 + (index // 2) * LEGEND
        yield f'<rect x="{left:.1f}" y="{low - 5:.1f}" width="10" height="3" fill="{colour}"/>'
        yield _text(left + 14, low, legend[: int(box[2] / 12)], size=9, colour="#ccccdc")


def _path(points: Sequence[tuple[float, float, float]]) -> str:
    """A gap in time is a gap in the line."""
    words, last = [], None
    for x, y, at in points:
        words.append(f"{'M' if last is None or at - last > PAUSE else 'L'}{x:.0f} {y:.0f}")
        last = at
    return "".join(words)


def _mark_times(stem: str, mark: Mapping[str, Any], record: Record) -> list[float]:
    """When it happened: the value where that is the time, else the first moment of each time that it is there."""
    found: set[float] = set()
    for one in record[f"{stem}: annotation {mark['name']}"]:
        if mark["useValueForTime"]:
            found |= {value / 1000 for _, value in one["values"]}
        else:
            last = 0.0
            for at, _ in one["values"]:
                found |= {at} if at - last > PAUSE else set()
                last = at
    return sorted(found)


def _legend(target: Mapping[str, Any], series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series["metric"].get(found[1], ""), target["legendFormat"])


def _text(x: float, y: float, text: str, *, size: float, colour: str, middle: bool = False, end: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ' text-anchor="end"' if end else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:.0f}" fill="{colour}"{anchor}>{escape(text)}</text>'


def main(record: Path, folder: Path) -> None:
    """One picture for each dashboard."""
    answers = json.loads(record.read_text())
    for path in sorted((FILES / "dashboards").glob("*.json")):
        picture = folder / f"dashboard-{path.stem}.svg"
        picture.write_text(draw(path.stem, json.loads(path.read_text()), answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
