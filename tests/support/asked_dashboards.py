"""Every query of the dashboards and rules, as Grafana and Prometheus would ask it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.helm import CHART
from support.rules import metric_names

FOLDER = CHART / "files" / "dashboards"
_VARIABLE = re.compile(r"\$\{?([a-z_]+)\}?")
_SELECTOR = re.compile(r"\b((?:pilotfish|nv|process)_[a-z0-9_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and where it stands."""

    where: str
    expr: str

    def filled(self, variables: Mapping[str, str]) -> str:
        """With Grafana's variables in place. Raises KeyError for one that nobody gives a value."""
        return _VARIABLE.sub(lambda found: variables[found[1]], self.expr)


def board_files() -> list[Path]:
    """One file per dashboard."""
    return sorted(FOLDER.glob("*.json"))


def read_board(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Without the rows' headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Asked]:
    """Of every panel and every annotation of every dashboard."""
    for path in board_files():
        board = read_board(path)
        for panel in panels(board):
            for target in panel["targets"]:
                yield Asked(f"{path.stem}: {panel['title']} {target['refId']}", target["expr"])
        for mark in board["annotations"].get("list") or ():
            yield Asked(f"{path.stem}: annotation {mark['name']}", mark["expr"])


def needs(rule: Mapping[str, Any]) -> set[str]:
    """Queries that have an answer where every metric of an alert is there, with every label that it looks at."""
    expr = rule["expr"]
    found: dict[str, set[str]] = {name: set() for name in metric_names(expr)}
    for name, matchers in _SELECTOR.findall(expr):
        found[name] |= set(_MATCHER.findall(matchers))
    return {_with_labels(name, sorted(labels)) for name, labels in found.items()}


def _with_labels(metric: str, labels: list[str]) -> str:
    matchers = (f'{label}!=""' for label in labels)
    return f"{metric}{{{', '.join(matchers)}}}"
