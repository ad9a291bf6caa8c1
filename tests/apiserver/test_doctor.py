"""`pilotfish doctor` on a real API server: as its administrator, and as somebody who may see one namespace."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from pilotfish.cli.doctor.command import diagnose
from pilotfish.cli.doctor.facts import Verdict
from pilotfish.cli.doctor.reading import read_facts
from pilotfish.cli.main import app
from support.kube import fresh_namespace, make_object
from support.users import acting_as, make_role_binding

pytestmark = pytest.mark.apiserver
LABELS = {"app.kubernetes.io/part-of": "pilotfish", "app.kubernetes.io/component": "operator"}


def make_operator(namespace):
    """As the chart makes it, as far as the doctor looks. No node is there, so it never becomes available."""
    env = [{"name": "PILOTFISH_LEASE_NAME", "value": "the-lease"}]
    pod = {"containers": [{"name": "operator", "image": "pilotfish/operator:0.1.0", "env": env}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pilotfish", "namespace": namespace, "labels": LABELS},
        "spec": {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": pod}},
    }


def make_lease(namespace):
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "the-lease", "namespace": namespace},
        "spec": {
            "holderIdentity": "pilotfish-1",
            "leaseDurationSeconds": 15,
            "renewTime": datetime.now(tz=UTC).isoformat().replace("+00:00", "Z"),
        },
    }


def test_as_the_administrator(kubectl, api_server):
    with fresh_namespace(kubectl) as namespace:
        for body in (make_operator(namespace), make_lease(namespace), make_object("digits", namespace)):
            kubectl.run("apply", "-f", "-", stdin=json.dumps(body))
        done = CliRunner().invoke(
            app,
            [
                "doctor",
                "-o",
                "json",
                "-n",
                namespace,
                "--operator-namespace",
                namespace,
                "--kubeconfig",
                str(api_server),
            ],
        )
    told = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert done.exit_code == 1
    assert told["api-server"]["verdict"] == "ok"
    assert told["crd"]["verdict"] == "ok", told["crd"]
    assert told["lease"]["message"].startswith(f"pilotfish-1 holds Lease {namespace}/the-lease"), told["lease"]
    assert told["operator"]["message"] == f"Deployment {namespace}/pilotfish has no available replica"
    assert told["rights"]["verdict"] == "ok"
    assert told["models"]["message"].startswith("the operator has not looked at the newest spec of")


async def test_as_somebody_with_little_rights(kubectl, api_server):
    with fresh_namespace(kubectl) as namespace:
        kubectl.run("apply", "-f", "-", stdin=json.dumps(make_role_binding(namespace, "nosy", "view")))
        async with acting_as(api_server, "nosy") as cluster:
            facts = await read_facts(
                cluster, version="0.1.0", user_namespace=namespace, namespace=None, operator_namespace=None
            )
    found = diagnose(facts)
    by_check = {check: [one for one in found if one.check == check] for check in {one.check for one in found}}
    assert by_check["api-server"][0].verdict is Verdict.OK
    for check in ("crd", "operator", "storage", "gpus"):
        assert by_check[check][0].verdict is Verdict.WARNING, by_check[check]
        assert "may not be" in by_check[check][0].message
    # The role `view` does not know our kind here: the chart's aggregation is not installed.
    assert "you may not get modeldeployments" in by_check["rights"][0].message
    assert by_check["rights"][0].verdict is Verdict.FAILED
