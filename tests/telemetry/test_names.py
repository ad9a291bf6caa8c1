"""Alerts ask for what exists: names and labels of the operator's own registry, and of a real Triton."""

import asyncio
import re

import numpy as np
import pytest
import requests
import tritonclient.http as triton_http

from pilotfish.telemetry.gauges import GAUGES
from pilotfish.telemetry.metrics import REGISTRY
from support.alert_cases import CASES
from support.apiserver import REPOSITORY
from support.helm import of_kind, render
from support.infer import http, infer
from support.polling import until
from support.repository import linear_onnx, make_config, write_model
from support.rules import metric_names, rendered_rules
from support.scrape import read_scrape
from support.triton import TritonServer

TARGET = {"job", "instance", "namespace", "pod"}
"""Labels that Prometheus gives to what it scrapes, and the chart's PodMonitor to what Triton pods tell."""
OF_PODS = ("nv_", "pilotfish_model_")
"""Beginnings of the names of what Triton pods tell."""
OF_TRITON = {*TARGET, "pilotfish_dev_revision"}
_SERIES = re.compile(r"^(\w+)\{(.*)\}$")


def names_in_rules():
    return set().union(*(metric_names(rule["expr"]) for rule in rendered_rules()))


def own_labels():
    """Labels of each metric of the operator."""
    gauges = {gauge.name: {"namespace", "name", *gauge.labels} for gauge in GAUGES}
    process = {sample.name: set(sample.labels) | TARGET for metric in REGISTRY.collect() for sample in metric.samples}
    made = {
        name: set(c._labelnames) | TARGET
        for c, names in REGISTRY._collector_to_names.items()
        for name in names
        if hasattr(c, "_labelnames")
    }
    return {**gauges, **process, **made}


def labels_in_cases():
    """Series of the alerts' tests, by name."""
    for case in CASES:
        for series in case.series:
            name, selector = _SERIES.match(series).groups()
            yield series, name, set(re.findall(r"(\w+)=", selector))


def test_names_are_found_in_a_query():
    assert metric_names(
        'sum by (pilotfish_x) (rate(nv_a{pilotfish_y="b"}[5m])) / process_c > on (d) "pilotfish_z"'
    ) == {
        "nv_a",
        "process_c",
    }


def test_the_operator_has_every_metric_of_its_own_that_an_alert_asks_for():
    names = {name for name in names_in_rules() if not name.startswith(OF_PODS)}
    assert len(names) >= 10
    assert names <= set(own_labels())


def test_alerts_are_tested_with_labels_that_the_operator_gives():
    known = own_labels()
    wrong = [
        series for series, name, labels in labels_in_cases() if not name.startswith(OF_PODS) and labels - known[name]
    ]
    assert wrong == []


def test_the_model_in_a_pod_has_every_metric_of_its_own_that_an_alert_asks_for():
    """Triton's Python backend makes them; tests/tritonserver/test_predict.py reads them from a real server."""
    code = (REPOSITORY / "operator" / "pilotfish" / "optimizer" / "predict" / "predict_gauges.py").read_text()
    made = {f"pilotfish_model_{name}" for name in re.findall(r'^    "(\w+)": \("', code, re.MULTILINE)}
    asked = {name for name in names_in_rules() if name.startswith("pilotfish_model_")}
    assert asked
    assert asked <= made


def test_the_chart_lets_prometheus_keep_the_labels_that_alerts_rely_on():
    monitors = of_kind(render("--set", "metrics.podMonitor.enabled=true"), "PodMonitor")
    operator, triton = sorted((monitor["spec"] for monitor in monitors), key=lambda spec: "podTargetLabels" in spec)
    assert [endpoint["honorLabels"] for endpoint in operator["podMetricsEndpoints"]] == [True]
    given = {label.replace(".", "_").replace("/", "_") for label in triton["podTargetLabels"]}
    assert given >= OF_TRITON - TARGET


@pytest.mark.triton
async def test_triton_has_every_metric_and_label_that_an_alert_asks_for(tmp_path):
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    names = {name for name in names_in_rules() if name.startswith("nv_")}
    with TritonServer(repository=repository, scratch=tmp_path / "server") as server:
        infer(http(server.wait_ready("linear")), triton_http, "linear", {"x": np.zeros((1, 4), np.float32)})

        async def page():
            scrape = read_scrape((await asyncio.to_thread(requests.get, server.metrics_url, timeout=10)).text)
            return scrape if scrape.one("nv_inference_request_success", model="linear") else None

        scrape = await until("Triton has counted", page)
    assert len(names) >= 4
    assert names <= scrape.names
    given = {name: {key for key, _ in labels} for name, labels in scrape.samples}
    wrong = [series for series, name, labels in labels_in_cases() if name in given and labels - given[name] - OF_TRITON]
    assert wrong == []
    assert set(scrape.of("nv_inference_request_failure", model="linear")) >= {"BACKEND 1", "CANCELED 1"}
