"""Gauges about objects: each figure of a status under its name, and nothing of what is gone or somebody else's."""

import math
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilotfish.telemetry.gauges import GAUGES
from pilotfish.telemetry.objects import ObjectStates
from support.scrape import read_scrape
from support.states import MIDWAY, STATUS


def scrape_of(*states):
    return read_scrape(ObjectStates(lambda: states).page().decode())


@pytest.fixture(scope="module")
def midway():
    return scrape_of(MIDWAY)


def test_every_gauge_has_a_sample_in_the_middle_of_a_canary(midway):
    assert midway.names | {"pilotfish_optimization_progress_ratio"} == {gauge.name for gauge in GAUGES}


@pytest.mark.parametrize(
    ("metric", "samples"),
    [
        ("info", {"ONNX digits team Canarying old Canary onnx-old": 1}),
        ("condition", {"digits team WaitingForData False Ready": 1, "digits team Serving True Available": 1}),
        ("ready", {"digits team": 0}),
        ("available", {"digits team": 1}),
        ("rollout_step", {"digits team": 2}),
        ("rollout_steps", {"digits team": 3}),
        ("rollout_hold_seconds", {"digits team": 600}),
        ("rollout_started_timestamp_seconds", {"digits team": 1795341900}),
        ("rollout_progressed_timestamp_seconds", {"digits team": 1795342080}),
        ("canary_weight", {"digits team desired": 25, "digits team assigned": 33, "digits team achieved": 31.2}),
        ("analysis_requests", {"digits team": 812}),
        ("optimization_progress_ratio", {"digits team benchmark": 0.55}),
        ("source_check_failed", {"digits team SourceForbidden": 1}),
    ],
)
def test_figures_of_the_status(midway, metric, samples):
    assert midway.of(f"pilotfish_{metric}") == samples


def test_pods_and_artifacts_count_by_role_and_strangers_do_not(midway):
    who = {"namespace": "team", "name": "digits"}
    assert midway.of("pilotfish_replicas", **who) == {
        "stable desired": 3,
        "stable ready": 2,
        "canary desired": 1,
        "canary ready": 1,
        "old desired": 1,
        "old ready": 0,
    }
    assert midway.of("pilotfish_artifact_speedup_ratio", **who) == {"stable": 2.1, "canary": 2.9}
    assert midway.of("pilotfish_artifact_max_abs_error", **who) == {"stable": 1.2e-06, "canary": 3e-03}


def test_times_of_checks_are_in_seconds(midway):
    assert midway.of("pilotfish_analysis_value", namespace="team", name="digits") == {
        "tailLatency canary": 5,
        "tailLatency stable": 0.0123,
        "tailLatency bound": 0.05,
        "errorRate canary": 0.0714,
    }


def test_after_the_rollout_nothing_of_it_is_left():
    rest = {key: value for key, value in STATUS.items() if key not in {"candidateRevision", "step"}}
    scrape = scrape_of(replace(MIDWAY, status=rest))
    assert scrape.of("pilotfish_rollout_step") == {"digits team": 0}
    for gone in ("analysis_verdict", "analysis_value", "rollout_hold_seconds", "rollout_started_timestamp_seconds"):
        assert scrape.of(f"pilotfish_{gone}") == {}
    assert set(scrape.of("pilotfish_replicas", state="desired", namespace="team", name="digits")) == {"stable", "old"}


def test_a_step_until_promoted_has_no_end():
    state = replace(
        MIDWAY, spec={"rollout": {"strategy": "Canary", "steps": [{"weight": 5}, {"weight": 25, "hold": "Forever"}]}}
    )
    assert scrape_of(state).one("pilotfish_rollout_hold_seconds") == math.inf


def test_a_child_that_holds_nonsense_costs_nobody_else_a_sample():
    broken = {**MIDWAY.objects[0], "spec": "nonsense"}
    states = (replace(MIDWAY, name="broken", objects=(broken,)), MIDWAY)
    scrape = scrape_of(*states)
    assert scrape.of("pilotfish_replicas", name="broken") == {}
    assert scrape.one("pilotfish_ready", name="broken") == 0
    assert len(scrape.of("pilotfish_replicas", name="digits")) == 6


def test_an_object_at_rest_is_read_once():
    looked = []

    class Status(dict):
        def get(self, key, default=None):
            looked.append(key)
            return super().get(key, default)

    state = replace(MIDWAY, status=Status(STATUS))
    states = [state]
    collector = ObjectStates(lambda: states)
    first = collector.page()
    seen = len(looked)
    assert collector.page() == first
    assert len(looked) == seen
    states[0] = replace(state)
    assert collector.page() == first
    assert len(looked) > seen, "a new pass is read anew"


def test_a_name_with_everything_that_hurts_stays_one_sample():
    """Names are checked by the API server; reasons and variants come from elsewhere."""
    status = {"conditions": [{"type": "Ready", "status": "False", "reason": 'a"b\\c\nd'}]}
    scrape = scrape_of(replace(MIDWAY, status=status, objects=()))
    assert scrape.one("pilotfish_condition", reason='a"b\\c\nd') == 1


def test_the_page_reads_as_prometheus_text_with_and_without_objects():
    for states in ((), (MIDWAY,), (MIDWAY, replace(MIDWAY, name="other"))):
        families = list(text_string_to_metric_families(ObjectStates(lambda states=states: states).page().decode()))
        assert [(family.name, family.documentation, family.type) for family in families] == [
            (gauge.name, gauge.help, "gauge") for gauge in GAUGES
        ]
        phases = next(family.samples for family in families if family.name == "pilotfish_phase")
        assert [sample.labels["name"] for sample in phases] == [state.name for state in states]
