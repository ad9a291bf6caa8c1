"""`pilotfish doctor`: facts in, one sentence each out. What is fine is said too, and what may not be read is a warning."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.adapters import connection
from pilotfish.api.crd import make_crd
from pilotfish.cli import session
from pilotfish.cli.doctor import command, installation
from pilotfish.cli.doctor.facts import Facts, Place, Right, Unread, Verdict
from pilotfish.cli.doctor.installation import find_difference
from pilotfish.cli.main import app

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOME = Place("pilotfish-system", "pilotfish")
REFUSED = Unread("you may not")
CHART = Path(__file__).resolve().parents[2] / "charts" / "pilotfish" / "Chart.yaml"


def crd(**spec):
    made = make_crd()
    return {
        **made,
        "spec": {**made["spec"], "conversion": {"strategy": "None"}, **spec},
        "status": {"storedVersions": ["v1alpha1"], "conditions": [{"type": "Established", "status": "True"}]},
    }


def operator(*, replicas=1, available=1, version="0.1.0", gateway="true"):
    container = {"name": "operator", "env": [{"name": "PILOTFISH_GATEWAY_API", "value": gateway}]}
    return {
        "metadata": {
            "name": HOME.name,
            "namespace": HOME.namespace,
            "labels": {"app.kubernetes.io/version": version} if version else {},
        },
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{**container, "image": "r/p/o:0.9"}]}}},
        "status": {"availableReplicas": available},
    }


def lease(age=3.0, holder="pilotfish-abc"):
    renewed = (NOW - timedelta(seconds=age)).isoformat()
    return {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}}


def model(name="digits", *, generation=2, seen=2, conditions=(("Ready", "True", "Serving", "fine"),), **spec):
    return {
        "metadata": {"name": name, "namespace": "team", "generation": generation},
        "spec": {"model": {"uri": "s3://m/"}, **spec},
        "status": {
            "observedGeneration": seen,
            "conditions": [dict(zip(("type", "status", "reason", "message"), c, strict=True)) for c in conditions],
        },
    }


def node(gpus=0):
    return {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "nvidia.com/gpu": str(gpus)}}}


def right(*, allowed=True, is_needed=False):
    return Right(verb="create", resource="pods/portforward", wanted_for="predict", is_needed=is_needed, allowed=allowed)


GOOD = Facts(
    version="0.1.0",
    now=NOW,
    user_namespace="team",
    server={"gitVersion": "v1.33.2+k3s1"},
    groups=frozenset({"pilotfish.dev", "apps"}),
    crd=crd(),
    models=(model(),),
    operators=(operator(),),
    leases={HOME: lease()},
    rights=(right(),),
    storage_classes=(
        {"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
    ),
    nodes=(node(2), node(1)),
    taken={"nvidia.com/gpu": 2},
)


def told(facts, check):
    return [(one.verdict, one.message, one.todo) for one in command.diagnose(facts) if one.check == check]


def test_a_good_cluster_is_good_in_every_check():
    findings = command.diagnose(GOOD)
    assert [one.message for one in findings if one.verdict is not Verdict.OK] == []
    assert list(dict.fromkeys(one.check for one in findings)) == list(command.CHECKS)
    assert "3 nvidia.com/gpu, 1 free" in next(one.message for one in findings if one.check == "gpus")


CASES = {
    "old": ("api-server", {"server": {"gitVersion": "v1.30.9"}}, "failed", "is older than 1.31"),
    "odd": ("api-server", {"server": {}}, "warning", "version '?' is not understood"),
    "gone": ("api-server", {"server": Unread("cannot reach it")}, "failed", "cannot reach it"),
    "no crd": ("crd", {"crd": None}, "failed", "knows no ModelDeployment"),
    "crd unread": ("crd", {"crd": REFUSED}, "warning", "is served; its definition may not be compared"),
    "group unserved": ("crd", {"crd": REFUSED, "groups": frozenset()}, "failed", "is not served"),
    "crd new": ("crd", {"crd": {**crd(), "status": {}}}, "failed", "not established"),
    "crd other version": (
        "crd",
        {"crd": {**crd(), "status": {**crd()["status"], "storedVersions": ["v1"]}}},
        "failed",
        "stored in v1, not in v1alpha1",
    ),
    "crd differs": ("crd", {"crd": crd(scope="Cluster")}, "warning", "spec.scope differs"),
    "no operator": ("operator", {"operators": ()}, "failed", "no Deployment of the operator"),
    "operator unread": ("operator", {"operators": REFUSED}, "warning", "may not be read"),
    "operator down": ("operator", {"operators": (operator(available=0),)}, "failed", "no available replica"),
    "operator at 0": ("operator", {"operators": (operator(replicas=0),)}, "failed", "scaled to 0"),
    "operator partly": ("operator", {"operators": (operator(replicas=2),)}, "warning", "1 of 2 replicas"),
    "other version": ("operator", {"operators": (operator(version="0.2.0"),)}, "warning", "this program is 0.1.0"),
    "version by tag": ("operator", {"operators": (operator(version=""),)}, "warning", "version 0.9;"),
    "lease stale": ("lease", {"leases": {HOME: lease(90)}}, "failed", "has not renewed it for 90s"),
    "lease given back": ("lease", {"leases": {HOME: lease(holder="")}}, "failed", "nobody holds"),
    "no lease": ("lease", {"leases": {HOME: None}}, "failed", "does not exist"),
    "lease unread": ("lease", {"leases": {HOME: REFUSED}}, "warning", "may not be read"),
    "right": ("rights", {"rights": (right(allowed=False),)}, "warning", "you may not create pods/portforward in names"),
    "needed right": ("rights", {"rights": (right(allowed=False, is_needed=True),)}, "failed", "which predict needs"),
    "no default class": ("storage", {"storage_classes": ()}, "warning", "no StorageClass is the default"),
    "class missing": (
        "storage",
        {"models": (model(storage={"className": "slow"}),)},
        "failed",
        "team/digits names StorageClass slow",
    ),
    "claim waits": (
        "storage",
        {"claims": ({"metadata": {"name": "c", "namespace": "team"}, "spec": {}, "status": {"phase": "Pending"}},)},
        "failed",
        "claim team/c is pending",
    ),
    "nodes unread": ("gpus", {"nodes": REFUSED}, "warning", "nodes may not be read"),
    "pods unread": ("gpus", {"taken": REFUSED}, "warning", "how many are free may not be read"),
    "none free": ("gpus", {"taken": {"nvidia.com/gpu": 3}}, "warning", "none is free"),
    "no gpu at all": (
        "gpus",
        {"nodes": (node(),), "models": (model(serving={"gpus": {"count": 1}}),)},
        "failed",
        "1 ModelDeployment(s) ask for nvidia.com/gpu, which no node offers",
    ),
    "a slice nobody has": (
        "gpus",
        {"models": (model(serving={"gpus": {"count": 1, "resource": "nvidia.com/mig-1g.5gb"}}),)},
        "failed",
        "ask for nvidia.com/mig-1g.5gb",
    ),
    "no gateway api": (
        "gateway-api",
        {"models": (model(serving={"gateway": {"name": "public"}}),)},
        "failed",
        "is not served",
    ),
    "stalled": (
        "models",
        {"models": (model(conditions=(("Stalled", "True", "OptimizationFailed", "it broke"),)), model("b"))},
        "failed",
        "team/digits is stalled: OptimizationFailed: it broke",
    ),
    "busy": (
        "models",
        {"models": (model(conditions=(("Ready", "False", "Optimizing", "runs"),)),)},
        "warning",
        "team/digits is not Ready: Optimizing: runs",
    ),
    "unseen": ("models", {"models": (model(seen=1),)}, "warning", "has not looked at the newest spec"),
    "models unread": ("models", {"models": REFUSED}, "warning", "may not be read"),
}


@pytest.mark.parametrize(("check", "change", "verdict", "sentence"), CASES.values(), ids=CASES)
def test_what_is_wrong_is_said(check, change, verdict, sentence):
    found = told(replace(GOOD, **change), check)
    assert [(v, todo) for v, message, todo in found if sentence in message and v.value == verdict], found


@pytest.mark.parametrize(
    ("operators", "gateway", "sentence"),
    [
        ((operator(gateway="false"),), {"metadata": {"name": "public"}}, "the operator makes no routes"),
        ((operator(),), None, "Gateway team/public does not exist"),
        ((operator(),), {"metadata": {"name": "public"}}, "is not programmed"),
    ],
)
def test_a_gateway_that_is_named_is_looked_at(operators, gateway, sentence):
    facts = replace(
        GOOD,
        operators=operators,
        models=(model(serving={"gateway": {"name": "public"}}),),
        groups=frozenset({"gateway.networking.k8s.io"}),
        gateways={Place("team", "public"): gateway},
    )
    assert any(sentence in message for _, message, _ in told(facts, "gateway-api"))


def test_a_server_out_of_reach_ends_it():
    findings = command.diagnose(replace(GOOD, server=Unread("gone")))
    assert [one.check for one in findings] == ["api-server"]


def test_every_failure_says_what_to_do():
    for check, change, verdict, _ in CASES.values():
        for found, message, todo in told(replace(GOOD, **change), check):
            assert todo or found is not Verdict.FAILED, (check, verdict, message)


def test_a_schema_is_compared_both_ways():
    ours = make_crd()["spec"]
    theirs = json.loads(json.dumps(ours))
    assert find_difference(ours, theirs, "spec") is None
    properties = theirs["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    properties["later"] = {"type": "string"}
    assert find_difference(ours, theirs, "spec").endswith("spec.properties.later is unknown here")
    del properties["later"], properties["model"]
    assert find_difference(ours, theirs, "spec").endswith("spec.properties.model is missing")


def test_the_floor_is_the_charts():
    wanted = yaml.safe_load(CHART.read_text())["kubeVersion"]
    assert f">={'.'.join(map(str, installation.FLOOR))}." in wanted


@pytest.fixture
def looked(monkeypatch):
    """The command with these facts in the place of a cluster."""
    facts = [GOOD]
    monkeypatch.setattr(command, "run_with", lambda *_args: facts[0])
    return facts


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_exit_code_and_text(looked):
    done = run()
    assert done.exit_code == 0, done.output
    assert "✔ crd" in done.output
    assert "0 warnings, 0 failed" in done.output
    looked[0] = replace(GOOD, operators=(), leases={})
    done = run()
    assert done.exit_code == 1
    assert "✘ operator" in done.output
    assert "→ install the operator: helm install" in done.output


def test_a_warning_is_no_failure_and_a_check_may_be_left_out(looked):
    looked[0] = replace(GOOD, rights=(right(allowed=False),), operators=(), leases={})
    assert run("--skip", "operator").exit_code == 0
    assert run("--skip", "nonsense").exit_code == 2
    assert run("--wait", "soon").exit_code == 2


def test_for_machines(looked):
    looked[0] = replace(GOOD, crd=None)
    done = run("-o", "json")
    wire = json.loads(done.stdout)
    assert (done.exit_code, wire["verdict"]) == (1, "failed")
    (crd_check,) = (one for one in wire["checks"] if one["check"] == "crd")
    assert crd_check["next"].startswith("install the operator: helm install")


async def test_it_looks_again_until_nothing_fails():
    bad, looks = replace(GOOD, leases={HOME: None}), []

    async def read():
        looks.append(1)
        return GOOD if len(looks) == 3 else bad

    assert await command.look_until_well(read, seconds=60, pause=0) is GOOD
    assert len(looks) == 3
    looks.clear()
    assert await command.look_until_well(read, seconds=0) is bad
    assert await command.look_until_well(read, seconds=0, skip=["lease"]) is bad
    assert len(looks) == 2


def test_in_a_pod_the_service_account_asks(monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.write_text("t")
    (tmp_path / "namespace").write_text("pilotfish-system\n")
    monkeypatch.setattr(connection.incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert connection.pod_namespace() is None
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert connection.pod_namespace() == "pilotfish-system"

    asked = []

    async def connect(*, kubeconfig, context):
        asked.append((kubeconfig, context))
        raise connection.NoCluster("enough")

    monkeypatch.setattr(connection, "connect", connect)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert "enough" in run().output
    assert asked == [(None, None)]
    assert session.Place().kubeconfig is None


def test_a_kubeconfig_wins_over_the_pod(monkeypatch, tmp_path):
    monkeypatch.setattr(connection, "pod_namespace", lambda: "pilotfish-system")
    done = run("--kubeconfig", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "does not exist" in done.output
