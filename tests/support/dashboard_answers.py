"""Which queries of dashboards and rules a real Prometheus leaves without an answer, and which are known to be.

`missing`: metrics that cannot be there, by the beginning of their names, with the reason. An entry that has an answer
after all is told as well, so that the list does not grow old.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from support.asked_dashboards import needs, queries
from support.prometheus import Prometheus
from support.rules import rendered_rules

RECORD = "PILOTFISH_RECORD_DASHBOARDS"
"""Names a file that takes every answer: `python -m dashboards.pictures` draws docs/pictures from it."""
WINDOWS = {"__rate_interval": "5s", "__interval": "2s", "__range": "5m"}
Missing = Mapping[str, str]


def record_answers(prometheus: Prometheus, variables: Mapping[str, str]) -> None:
    """Write every answer to the file that RECORD names, if it names one."""
    if path := os.environ.get(RECORD):
        told = {a.where: prometheus.history(a.filled({**WINDOWS, **variables}), step=2) for a in queries()}
        Path(path).write_text(json.dumps(told))


def unanswered_queries(prometheus: Prometheus, variables: Mapping[str, str], missing: Missing) -> list[str]:
    """Queries of panels and annotations without a single number since the server started."""
    told = []
    for asked in queries():
        expr = asked.filled({**WINDOWS, **variables})
        told += _judge(prometheus, asked.where, expr, missing)
    return told


def unanswered_rules(prometheus: Prometheus, missing: Missing) -> list[str]:
    """Alerts that cannot be evaluated, and their metrics and labels that nobody has."""
    told = [f"{rule['name']}: {rule.get('lastError')}" for rule in prometheus.rules() if rule["health"] != "ok"]
    for rule in rendered_rules():
        for expr in sorted(needs(rule)):
            told += _judge(prometheus, rule["alert"], expr, missing)
    return told


def _judge(prometheus: Prometheus, where: str, expr: str, missing: Missing) -> list[str]:
    reasons = [name for name in missing if name in expr]
    has_answer = bool(prometheus.history(expr))
    if reasons and has_answer:
        return [f"{where}: has an answer: take {reasons} off the list: {expr}"]
    return [] if reasons or has_answer else [f"{where}: no answer: {expr}"]
