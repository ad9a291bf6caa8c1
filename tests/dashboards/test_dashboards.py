"""The dashboards as files: what Grafana and a reader of them need."""

import json

import pytest

from support.asked_dashboards import board_files, panels, queries, read_board
from support.helm import of_kind, render
from support.rules import alert_files, metric_names

# Of Triton: what its documentation names and test_asked.py finds on a real one, or cannot.
TRITON = {
    *(f"nv_inference_{what}" for what in ("request_success", "request_failure", "count", "exec_count")),
    *(f"nv_inference_{what}_duration_us" for what in ("request", "queue", "compute_input", "compute_infer", "compute_output")),
    *("nv_inference_pending_request_count", "nv_inference_request_summary_us", "nv_gpu_utilization"),
    *("nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "nv_gpu_power_usage"),
}  # fmt: skip


@pytest.fixture(params=board_files(), ids=lambda path: path.stem)
def board(request):
    return read_board(request.param)


def test_there_is_one_for_the_fleet_one_for_a_model_and_one_for_the_operator():
    assert [path.stem for path in board_files()] == ["fleet", "model", "operator"]


def test_data_comes_from_where_the_reader_says(board):
    assert board["templating"]["list"][0]["type"] == "datasource"
    sources = [panel["datasource"] for panel in panels(board)]
    sources += [target["datasource"] for panel in panels(board) for target in panel["targets"]]
    sources += [variable["datasource"] for variable in board["templating"]["list"][1:]]
    sources += [mark["datasource"] for mark in board["annotations"].get("list") or ()]
    assert {json.dumps(source) for source in sources} == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_every_panel_says_what_it_shows_and_in_which_unit(board):
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == sorted({t["refId"] for t in panel["targets"]})
    assert board["schemaVersion"] >= 41


def test_panels_have_names_and_places_of_their_own(board):
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_every_metric_is_one_that_somebody_has():
    from dashboards.__main__ import ROOT

    documented = (ROOT / "docs" / "metrics.md").read_text()
    for asked in queries():
        for name in metric_names(asked.expr):
            plain = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            assert name in TRITON or f"| `{name}` |" in documented or f"| `{plain}` |" in documented, asked


def test_the_fleet_knows_every_alert():
    (firing,) = (asked.expr for asked in queries() if asked.where == "fleet: Alerts that fire A")
    for file in alert_files():
        assert file.stem in firing


def test_a_model_of_the_fleet_leads_to_its_own_dashboard():
    boards = {path.stem: read_board(path) for path in board_files()}
    (table,) = (panel for panel in panels(boards["fleet"]) if panel["title"] == "Every model")
    urls = [
        p["value"][0]["url"] for o in table["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "links"
    ]
    assert [url.split("?")[0] for url in urls] == [f"/d/{boards['model']['uid']}"]
    told = {part.split("=")[0] for url in urls for part in url.split("?")[1].split("&")}
    assert told == {f"var-{variable['name']}" for variable in boards["model"]["templating"]["list"]}


def test_the_chart_brings_each_as_grafanas_sidecar_finds_it():
    rendered = of_kind(render("--set", "metrics.grafanaDashboard.enabled=true"), "ConfigMap")
    found = [body for body in rendered if body["metadata"]["labels"].get("grafana_dashboard") == "1"]
    files = {name: text for body in found for name, text in body["data"].items()}
    assert files == {path.name: path.read_text() for path in board_files()}
