"""What the place of the repository reads: workflows, hooks, templates, the licence, decisions."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from support.actionlint import find_actionlint
from support.doc_blocks import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
ADRS = sorted((ROOT / "docs" / "adr").glob("0*.md"))


def test_workflows_are_valid():
    shellcheck = ROOT / ".venv" / "bin" / "shellcheck"
    command = [str(find_actionlint()), "-shellcheck", str(shellcheck), "-pyflakes", "", *map(str, WORKFLOWS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_sees_mistakes(tmp_path: Path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ nothing.there }}'}]}}\n")
    done = subprocess.run([str(find_actionlint()), str(wrong)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing" in done.stdout


def test_ci_runs_what_a_person_runs():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").exists()


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_have_few_rights_and_an_end(file: Path):
    body = yaml.safe_load(file.read_text())
    assert body["permissions"] == {"contents": "read"}
    for name, job in body["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False, name


def test_released_images_are_those_of_the_chart():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yaml").read_text())["jobs"]
    for entry in jobs["images"]["strategy"]["matrix"]["include"]:
        text = (ROOT / "images" / entry["folder"] / "Dockerfile").read_text()
        assert re.search(rf"^FROM \S+ AS {entry['image']}$", text, flags=re.MULTILINE)
    values = yaml.safe_load((ROOT / "charts" / "pilotfish" / "values.yaml").read_text())
    used = {
        values["image"]["repository"],
        *(it["repository"] for it in values["images"].values() if isinstance(it, dict) and "repository" in it),
    }
    ours = {name.removeprefix("pilotfish/") for name in used if name.startswith("pilotfish/")}
    assert {entry["image"] for entry in jobs["images"]["strategy"]["matrix"]["include"]} == ours


def test_versions_agree_as_the_release_demands():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "pilotfish" / "Chart.yaml").read_text())
    assert version == chart["version"] == chart["appVersion"]
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nappVersion: {version}\n" in (ROOT / "charts" / "pilotfish" / "Chart.yaml").read_text()


def test_hooks_call_parts_of_lint():
    lint = (ROOT / "hack" / "lint").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        program = Path(shlex.split(hook["entry"])[0])
        assert program.name in lint, hook["id"]
        assert (ROOT / program).exists(), hook["id"]
        assert hook["language"] == "system"


def test_issue_forms_have_what_a_form_needs():
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yaml"):
        form = yaml.safe_load(file.read_text())
        assert {"name", "description", "body"} <= set(form)
        identities = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(identities) == len(set(identities))
        assert all(part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"} for part in form["body"])


def test_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("file", ADRS, ids=lambda file: file.stem)
def test_decisions_are_half_a_page_and_dated(file: Path):
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert re.search(r"^(Accepted|Replaced by .+), 20\d\d-\d\d-\d\d\.$", text, flags=re.MULTILINE)
    assert len(text.split()) < 300
    assert file.name in (ROOT / "docs" / "adr" / "index.md").read_text(encoding="utf-8")
