"""Prometheus' text format, total over any bytes and linear in their length.

The client library's own parser is neither: text that nobody vouches for can make it loop. Must not know what a metric
means.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilotfish.ports import Unmeasured

MOST_LINES = 2000
LONGEST_LINE = 4096

_LINE = re.compile(
    r"""(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
        [ \t]*(?:\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?
        [ \t]+(?P<value>[^ \t]+)
        (?:[ \t]+-?[0-9]+)?[ \t\r]*""",
    re.VERBOSE,
)
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a metric. The value may be NaN or infinite."""

    name: str
    labels: Mapping[str, str]
    value: float


def read_lines(text: str, *, prefix: str) -> Iterator[Line]:
    """The lines of all metrics whose names start with the prefix; others are passed over unread.

    Raises:
        Unmeasured: one of them is no line of a metric, or they are too many or too long.
    """
    lines = [line for line in text.split("\n") if line.startswith(prefix)]
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        raise Unmeasured("its metrics are more than a model has")
    for line in lines:
        yield _read(line)


def _read(line: str) -> Line:
    found = _LINE.fullmatch(line)
    if found is None:
        raise Unmeasured("its metrics are not in Prometheus' format")
    try:
        value = float(found["value"])
    except ValueError:
        raise Unmeasured("its metrics are not in Prometheus' format") from None
    return Line(found["name"], _labels(found["labels"] or ""), value)


def _labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None or found[1] in labels:
            raise Unmeasured("its metrics are not in Prometheus' format")
        labels[found[1]] = _ESCAPE.sub(lambda e: "\n" if e[1] == "n" else e[1], found[2])
        at = found.end()
    return labels
