"""The command line's changes on a real API server: taken, in their own name, and nobody else's fields disturbed."""

import json
import shlex
import subprocess

import pytest
import yaml
from testbed.kubectl import KubectlError
from typer.testing import CliRunner

from pilotfish.cli.main import app
from support.apiserver import tools_path
from support.kube import fresh_namespace
from support.rollouts import CANARY, CANDIDATE, OLD, STABLE, in_canary, make_record, revision_status

pytestmark = pytest.mark.apiserver

GIT = {
    "apiVersion": "pilotfish.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "digits"},
    "spec": {
        "model": {"uri": "s3://models/digits/v4/"},
        "serving": {"replicas": 4},
        "rollout": {**CANARY, "analysis": {"checks": {"errorRate": {"max": "0.05"}}}},
    },
}


class Flux:
    """An object that a GitOps controller owns by server-side apply."""

    def __init__(self, kubectl, namespace, kubeconfig, folder):
        self.kubectl, self.namespace, self.kubeconfig = kubectl, namespace, kubeconfig
        self.file = folder / "digits.yaml"
        self.file.write_text(yaml.safe_dump(GIT))

    def apply(self, *more):
        self.kubectl.run(
            "apply", "--server-side", "--field-manager=flux", "-n", self.namespace, "-f", str(self.file), *more
        )

    def get(self):
        return json.loads(
            self.kubectl.run("get", "mdep", "digits", "-n", self.namespace, "-o", "json", "--show-managed-fields")
        )

    def tell(self, status):
        """Play the operator."""
        status = {"observedGeneration": self.get()["metadata"]["generation"], **status}
        patch = json.dumps({"status": status})
        self.kubectl.run(
            "patch", "mdep", "digits", "-n", self.namespace, "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def pilotfish(self, *arguments):
        done = CliRunner().invoke(
            app, [*arguments, "digits", "-n", self.namespace, "--kubeconfig", str(self.kubeconfig)]
        )
        assert done.exit_code == 0, done.output
        return done.output

    def owned_by(self, manager):
        """The fields below spec that a manager owns."""
        entries = [e for e in self.get()["metadata"]["managedFields"] if e["manager"] == manager]
        return {path for entry in entries for path in _paths(entry["fieldsV1"].get("f:spec", {}))}


def _paths(fields, above="spec"):
    for key, below in fields.items():
        if key.startswith("f:"):
            path = f"{above}.{key[2:]}"
            yield from _paths(below, path) if below else [path]


@pytest.fixture
def flux(kubectl, api_server, tmp_path):
    with fresh_namespace(kubectl) as namespace:
        flux = Flux(kubectl, namespace, api_server, tmp_path)
        flux.apply()
        yield flux


CANARYING = {"stableRevision": revision_status(STABLE), **in_canary()}


def test_an_action_is_taken_and_disturbs_nothing_of_another_manager(flux):
    flux.tell(CANARYING)
    before, owned = flux.get()["spec"], flux.owned_by("flux")
    flux.pilotfish("promote")
    after = flux.get()["spec"]
    action = after["rollout"].pop("action")
    assert action["verb"] == "promote"
    assert after == before
    assert flux.owned_by("flux") == owned
    assert flux.owned_by("pilotfish-cli") == {"spec.rollout.action.id", "spec.rollout.action.verb"}


def test_the_next_apply_from_git_meets_no_conflict_and_leaves_the_action(flux):
    flux.tell(CANARYING)
    flux.pilotfish("abort")
    action = flux.get()["spec"]["rollout"]["action"]
    generation = flux.get()["metadata"]["generation"]
    flux.apply()
    assert flux.get()["spec"]["rollout"]["action"] == action
    assert flux.get()["metadata"]["generation"] == generation


def test_one_verb_after_another_is_valid_whatever_the_last_one_left(flux):
    uid = flux.get()["metadata"]["uid"]
    for number, revision in enumerate((OLD, STABLE), start=1):
        record = make_record(revision, number)
        record["metadata"]["namespace"] = flux.namespace
        record["metadata"]["ownerReferences"][0]["uid"] = uid
        flux.kubectl.apply(record)
    flux.tell({"stableRevision": revision_status(STABLE)})
    flux.pilotfish("undo")
    assert flux.get()["spec"]["rollout"]["action"]["toRevision"] == OLD
    flux.tell(CANARYING)
    flux.pilotfish("promote", "--full")
    action = flux.get()["spec"]["rollout"]["action"]
    assert (action["verb"], "toRevision" in action) == ("promoteFull", False)


def test_pause_touches_one_field_and_git_does_not_resume_it(flux):
    before = flux.get()["spec"]
    flux.pilotfish("pause")
    assert flux.get()["spec"] == {**before, "paused": True}
    assert flux.owned_by("pilotfish-cli") == {"spec.paused"}
    flux.apply()
    assert flux.get()["spec"]["paused"] is True
    flux.pilotfish("resume")
    assert flux.get()["spec"] == before


def test_git_that_says_paused_itself_conflicts_openly(flux):
    """Whoever keeps the field in Git is told so by the server, not overruled in silence."""
    flux.pilotfish("pause")
    said = {**GIT, "spec": {**GIT["spec"], "paused": False}}
    flux.file.write_text(yaml.safe_dump(said))
    with pytest.raises(KubectlError, match="pilotfish-cli"):
        flux.apply()
    flux.apply("--force-conflicts")
    assert flux.get()["spec"]["paused"] is False


def test_the_printed_kubectl_command_does_the_same(flux, api_server):
    flux.tell(CANARYING)
    printed = next(line for line in flux.pilotfish("promote").splitlines() if "kubectl patch" in line)
    written = flux.get()["spec"]["rollout"]["action"]
    flux.pilotfish("abort")
    done = subprocess.run(
        shlex.split(printed),
        env={"PATH": tools_path(), "KUBECONFIG": str(api_server), "HOME": str(api_server.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert flux.get()["spec"]["rollout"]["action"] == written


def test_the_printed_yaml_is_taken_from_git(flux):
    flux.tell(CANARYING)
    said = flux.pilotfish("abort")
    edit = yaml.safe_load(said[said.index("  spec:") :])
    body = yaml.safe_load(flux.file.read_text())
    body["spec"]["rollout"]["action"] = edit["spec"]["rollout"]["action"]
    flux.file.write_text(yaml.safe_dump(body))
    flux.apply()
    assert flux.get()["spec"]["rollout"]["action"]["verb"] == "abort"
    assert "spec.rollout.action.id" in flux.owned_by("flux")


def test_get_and_history_read_what_the_server_stores(flux):
    flux.tell(CANARYING)
    assert f"rollout of {CANDIDATE}" in flux.pilotfish("get")
    assert STABLE in flux.pilotfish("history")
