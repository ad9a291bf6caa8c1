"""The chart's alerts as they are rendered, and the names of metrics in a query."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from support.helm import CHART, of_kind, render

RULES = CHART / "files" / "rules"
RUNBOOKS_URL = "https://docs.example/runbooks"
WITH_RULES = ("--set", f"metrics.prometheusRule.enabled=true,metrics.prometheusRule.runbookUrl={RUNBOOKS_URL}")
_NOT_NAMES = re.compile(r"""\{[^}]*\}|"[^"]*"|\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)""")
_NAME = re.compile(r"\b(?:pilotfish|nv|process)_[a-z0-9_]+\b")


def alert_files() -> list[Path]:
    """One file per alert."""
    return sorted(RULES.glob("*.yaml"))


@cache
def rendered_rules() -> tuple[dict[str, Any], ...]:
    """The rules of every PrometheusRule of the chart."""
    bodies = of_kind(render(*WITH_RULES), "PrometheusRule")
    return tuple(rule for body in bodies for group in body["spec"]["groups"] for rule in group["rules"])


def metric_names(query: str) -> set[str]:
    """Names of metrics, without what stands in selectors, strings and lists of labels."""
    return set(_NAME.findall(_NOT_NAMES.sub(" ", query)))
