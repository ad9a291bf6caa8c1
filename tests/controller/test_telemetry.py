"""Lines and numbers: what a person or a dashboard relies on."""

import io
import json
import logging

import pytest
from prometheus_client import generate_latest
from structlog.contextvars import bound_contextvars

from pilotfish.telemetry import gauges, logs, metrics
from pilotfish.telemetry.objects import ObjectStates
from pilotfish.telemetry.state import SHOWN, ObjectState, children_of
from support.states import MIDWAY


@pytest.fixture
def lines():
    root = logging.getLogger()
    before = root.handlers, root.level
    stream = io.StringIO()
    logs.configure(level="INFO", style="json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before


def test_a_line_of_a_pass_says_about_what(lines):
    with bound_contextvars(namespace="team", name="digits", reconcile_id="r1", uid="u", generation=3):
        logs.logger("pilotfish.reconcile").info("applied", object='Job "x"')
    (line,) = lines()
    assert list(line)[:9] == ["ts", "level", "logger", "msg", "namespace", "name", "uid", "generation", "reconcile_id"]
    assert (line["level"], line["logger"], line["msg"], line["object"]) == (
        "info",
        "pilotfish.reconcile",
        "applied",
        'Job "x"',
    )


def test_libraries_speak_the_same_way(lines):
    logging.getLogger("kopf.reactor").warning("watch of %s ended", "jobs")
    logging.getLogger("asyncio").debug("not this")
    (line,) = lines()
    assert (line["level"], line["logger"], line["msg"]) == ("warning", "kopf.reactor", "watch of jobs ended")


def test_an_exception_stays_on_one_line(lines):
    try:
        raise RuntimeError("boom")  # noqa: TRY301 - the traceback is what is tested
    except RuntimeError:
        logs.logger("x").exception("pass failed")
    (line,) = lines()
    assert "RuntimeError: boom" in line["exception"]


def test_gauges_follow_the_objects_and_go_with_them():
    states = [
        ObjectState(
            namespace="team",
            name="digits",
            uid="u",
            spec={},
            status={"phase": "Ready", "conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}]},
        )
    ]
    objects = ObjectStates(lambda: states)
    text = objects.page().decode()
    assert 'pilotfish_phase{name="digits",namespace="team",phase="Ready"} 1.0' in text
    assert 'pilotfish_ready{name="digits",namespace="team"} 1.0' in text
    states.clear()
    assert "digits" not in objects.page().decode()


def test_gauges_read_no_other_children_than_a_state_holds(monkeypatch):
    """The reconciler drops the others; a gauge that asked for one would stay empty without a word."""
    asked = set()

    def asking(state, kind):
        asked.add(kind)
        return children_of(state, kind)

    monkeypatch.setattr(gauges, "children_of", asking)
    for gauge in gauges.GAUGES:
        list(gauge.rows(MIDWAY))
    assert asked == SHOWN


def test_names_and_first_zeros_are_there_before_anything_happens():
    """A dashboard's rate over a counter that appears late misses its first step."""
    text = generate_latest(metrics.REGISTRY).decode()
    for result in ("success", "requeue_after", "requeue", "error", "terminal"):
        assert f'pilotfish_reconcile_total{{result="{result}"}}' in text
    for target in ("pod", "shadow", "prometheus"):
        assert f'pilotfish_scrapes_total{{result="error",target="{target}"}}' in text
        assert f'pilotfish_scrape_duration_seconds_count{{target="{target}"}}' in text
    for name in (
        "pilotfish_reconcile_duration_seconds_bucket",
        "pilotfish_queue_depth",
        "pilotfish_queue_adds_total",
        "pilotfish_queue_retries_total",
        "pilotfish_queue_latency_seconds_bucket",
        "pilotfish_active_workers",
    ):
        assert name in text
    assert "_created" not in text
