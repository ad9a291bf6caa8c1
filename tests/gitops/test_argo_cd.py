"""What Argo CD is told of a ModelDeployment, against objects as the operator left them in every phase."""

import copy
import json
import subprocess
from collections import Counter

import argo_cd as generator
import pytest
import yaml

from pilotfish.api.lint import lint
from pilotfish.cli import requests
from pilotfish.cli.requests import Pointless, standing_of
from support.apiserver import REPOSITORY, tools_path
from support.argo_cd import FOLDER, act, enabled_actions, health
from support.recorded import recorded_objects

ASK = {
    "promote": lambda at: requests.promote(at, "asked", full=False),
    "promote-full": lambda at: requests.promote(at, "asked", full=True),
    "abort": lambda at: requests.abort(at, "asked"),
    "retry": lambda at: requests.retry(at, "asked"),
    "pause": requests.pause,
    "resume": requests.resume,
}
OBJECTS = recorded_objects()


def conditions_of(body):
    return {c["type"]: c for c in body["status"]["conditions"]}


def is_seen(body):
    return body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]


def merged(body, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(body) if isinstance(body, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def test_every_phase_was_recorded():
    phases = Counter(body.get("status", {}).get("phase", "none") for body in OBJECTS)
    assert {"none", "Ready", "Aborted", "Stalled", "Optimizing", "Canarying"} <= set(phases), phases
    assert any(not is_seen(body) for body in OBJECTS)


def test_health_follows_the_conditions():
    seen = Counter()
    for body in OBJECTS:
        status, message = health(body)
        seen[status] += 1
        assert message
        if not is_seen(body):
            assert (status, message) == ("Progressing", "Waiting for the operator")
            continue
        conditions = conditions_of(body)
        if "Stalled" in conditions:
            assert (status, message) == ("Degraded", conditions["Stalled"]["message"])
        elif body["spec"].get("paused"):
            assert status == "Suspended"
        else:
            wanted = "Healthy" if conditions["Ready"]["status"] == "True" else "Progressing"
            assert (status, message) == (wanted, conditions["Ready"]["message"])
    assert set(seen) == {"Progressing", "Healthy", "Degraded", "Suspended"}


def test_an_object_that_nobody_has_looked_at_is_not_healthy():
    body = copy.deepcopy(next(body for body in OBJECTS if is_seen(body) and health(body)[0] == "Healthy"))
    body["metadata"]["generation"] += 1
    assert health(body)[0] == "Progressing"
    del body["status"]
    assert health(body)[0] == "Progressing"


@pytest.mark.parametrize("action", ASK)
def test_an_action_is_offered_when_the_command_line_takes_it(action):
    verdicts = Counter()
    for body in OBJECTS:
        try:
            ASK[action](standing_of(body))
            sensible = True
        except Pointless:
            sensible = False
        verdicts[sensible] += 1
        assert (action in enabled_actions(body)) is sensible, (action, body)
    assert set(verdicts) == {True, False}


@pytest.mark.parametrize("action", ASK)
def test_the_edit_is_that_of_the_command_line(action):
    for body in OBJECTS:
        try:
            request = ASK[action](standing_of(body))
        except Pointless:
            continue
        changed = act(action, body)
        if request.action_id is not None:
            made = changed["spec"]["rollout"]["action"]
            assert 1 <= len(made["id"]) <= 64
            assert made["id"].endswith(f"-argocd-{made['verb']}")
            made["id"] = request.action_id
        assert changed["spec"] == merged(body, request.patch)["spec"]
        assert lint(changed) == lint(body)


def test_nothing_of_an_undo_stays():
    body = copy.deepcopy(next(body for body in OBJECTS if "abort" in enabled_actions(body)))
    body["spec"]["rollout"]["action"] = {"id": "1", "verb": "undo", "toRevision": "7c9fd2b4"}
    assert set(act("abort", body)["spec"]["rollout"]["action"]) == {"id", "verb"}


def test_every_action_has_a_script_and_the_text_for_argo_cd_is_made_from_them():
    offered = yaml.safe_load(generator.ACTIONS.read_text())
    assert {item["name"] for item in offered["definitions"]} == set(ASK)
    assert generator.ACTIONS.read_text() == generator.make_actions(), "run hack/argo_cd.py"


def test_the_component_adds_both_to_the_config_map(tmp_path):
    (tmp_path / "argocd-cm.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"a": "b"}})
    )
    (tmp_path / "integration").symlink_to(FOLDER)
    (tmp_path / "kustomization.yaml").write_text(
        json.dumps({"namespace": "argocd", "resources": ["argocd-cm.yaml"], "components": ["integration"]})
    )
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path), "--load-restrictor=LoadRestrictionsNone"],
        env={"PATH": tools_path(), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(done.stdout)
    prefix = "resource.customizations"
    assert made["metadata"]["name"] == "argocd-cm"
    assert made["data"]["a"] == "b"
    assert made["data"][f"{prefix}.health.pilotfish.dev_ModelDeployment"] == (FOLDER / "health.lua").read_text()
    actions = yaml.safe_load(made["data"][f"{prefix}.actions.pilotfish.dev_ModelDeployment"])
    assert actions == yaml.safe_load((REPOSITORY / "integrations/argo-cd/actions.yaml").read_text())
