"""The alerts as the chart renders them, judged by a real promtool: each fires when it should, and only then."""

import re

import pytest
import yaml

from support.alert_cases import CASES
from support.apiserver import REPOSITORY
from support.promtool import promtool
from support.rules import RUNBOOKS_URL, alert_files, rendered_rules

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pilotfish", "rules": list(rendered_rules())}]}))
    return file


def test_promtool_finds_no_fault(rules):
    assert f"{len(alert_files())} rules found" in promtool("check", "rules", rules)


def test_the_chart_renders_every_file_and_nothing_else():
    assert [rule["alert"] for rule in rendered_rules()] == [file.stem for file in alert_files()]
    for rule, file in zip(rendered_rules(), alert_files(), strict=True):
        written = yaml.safe_load(file.read_text())
        assert {**rule, "annotations": written["annotations"]} == {**rule, **written}
        assert written["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(written["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("file", alert_files(), ids=lambda file: file.stem)
def test_every_alert_leads_to_its_runbook(file):
    (rule,) = (rule for rule in rendered_rules() if rule["alert"] == file.stem)
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS_URL}/{file.stem}"
    text = (RUNBOOKS / f"{file.stem}.md").read_text()
    assert text.startswith(f"# {file.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS


def test_every_runbook_belongs_to_an_alert():
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"index"} == {file.stem for file in alert_files()}


def test_every_alert_has_a_case_for_both():
    told = {file.stem for file in alert_files()}
    assert {case.alert for case in CASES if case.fires is not None} == told
    assert {case.alert for case in CASES if case.fires is None} == told


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.title}")
def test_it_fires_when_it_should(case, rules, tmp_path):
    expected = [] if case.fires is None else [_alert(case)]
    unit = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [{"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": expected}],
            }
        ],
    }
    file = tmp_path / "unit.yaml"
    file.write_text(yaml.safe_dump(unit, sort_keys=False))
    promtool("test", "rules", file)


def _alert(case):
    """Labels and texts, the latter as Prometheus expands them."""
    (rule,) = (rule for rule in rendered_rules() if rule["alert"] == case.alert)

    def expand(text):
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.fires[found[1]], text)
        return re.sub(r"\{\{ \$value(?: \| \w+)? \}\}", case.value, text)

    assert case.value or "$value" not in str(rule["annotations"]), "say how the value is shown"
    return {
        "exp_labels": {**rule["labels"], **case.fires},
        "exp_annotations": {name: expand(text) for name, text in rule["annotations"].items()},
    }
