"""Runbooks can be followed: their commands run as they stand, and what they link to exists."""

import os
import re
import subprocess

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.cli.main import app
from support.apiserver import REPOSITORY, tools_path
from support.kube import fresh_namespace, install_crd, make_kubectl, make_object
from support.rules import alert_files

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
NEEDS_NODES = re.compile(r"^kubectl .*\b(logs|top)\b")


def commands():
    """Each line of each block once, with continuation lines joined."""
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    return sorted({line for block in blocks for line in block.splitlines()})


def test_the_index_names_every_alert_with_its_severity():
    text = (RUNBOOKS / "index.md").read_text()
    told = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (\w+) \|", text, re.MULTILINE)
    rules = [yaml.safe_load(file.read_text()) for file in alert_files()]
    assert sorted(told) == sorted((r["alert"], r["alert"], r["labels"]["severity"], r["for"]) for r in rules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_verb_of_ours_exists():
    text = "\n".join(page.read_text() for page in PAGES)
    verbs = set(re.findall(r"\bpilotfish (\w+) \$NAME -n \$NS", text))
    assert len(verbs) >= 5
    for verb in sorted(verbs):
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0, verb


def test_every_reason_that_is_named_is_one_of_ours():
    known = set(re.findall(r"^### (\w+)$", (REPOSITORY / "docs" / "reasons.md").read_text(), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"^\* `([A-Z]\w+)`", page.read_text(), re.MULTILINE)}
    others = {"Invalid", "Forbidden", "ClusterError", "TimeoutError", "OOMKilled"}
    assert named - others <= known


@pytest.mark.apiserver
def test_commands_run_as_they_stand(api_server):
    """Those that ask a kubelet or a metrics server have nobody to ask here: their syntax is checked."""
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    environment = {**os.environ, "KUBECONFIG": str(api_server), "PATH": f"{tools_path()}:{os.environ['PATH']}"}
    ours = [line for line in commands() if line.startswith("kubectl ")]
    assert len(ours) >= 20
    with fresh_namespace(kubectl) as namespace:
        kubectl.apply(make_object("digits", namespace))
        environment |= {"NS": namespace, "NAME": "digits", "REVISION": "abcd2345"}
        for line in ours:
            checked_only = NEEDS_NODES.match(line) or "podmonitor" in line
            # Where a status is not there yet nothing is printed, and json.tool has nothing to read.
            command = ["bash", *(["-n"] if checked_only else []), "-c", line.removesuffix(" | python3 -m json.tool")]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert "rror" not in done.stderr, f"{line}: {done.stderr}"
