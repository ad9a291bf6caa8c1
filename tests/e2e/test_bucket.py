"""Artifacts in a bucket on real nodes: made in one namespace, found in another, served by both without a claim."""

import json
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from testbed.kubectl import Kubectl, wait_for
from testbed.manifests import make_namespace, make_store
from testbed.store import upload

from support.canaries import write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

pytestmark = pytest.mark.soak

MODELS, KEYS = "store-credentials", "bucket-credentials"


@pytest.fixture
def neighbours(kubectl: Kubectl, namespace: str) -> Iterator[Deployments]:
    """Another namespace with the same keys and nothing else."""
    name = f"{namespace}-b-{uuid.uuid4().hex[:4]}"
    kubectl.apply(make_namespace(name))
    yield Deployments(kubectl=kubectl, namespace=name)
    kubectl.run("delete", "namespace", name, "--wait=false")


def _put_keys(kubectl: Kubectl, store: str, *namespaces: str) -> None:
    """Both Secrets, of the store that stands in `store`."""
    (secret,) = (body for body in make_store(store) if body["kind"] == "Secret")
    for namespace in namespaces:
        for name in (MODELS, KEYS):
            kubectl.apply({**secret, "metadata": {"name": name, "namespace": namespace}})


def _job_of(deployments: Deployments, name: str) -> dict[str, Any]:
    (job,) = (j for j in deployments.kubectl.list("jobs", namespace=deployments.namespace) if _optimizes(j, name))
    return dict(job)


def _optimizes(job: Any, name: str) -> bool:
    labels = job["metadata"]["labels"]
    return bool(labels["pilotfish.dev/component"] == "optimize" and labels["pilotfish.dev/name"] == name)


def _told(deployments: Deployments, name: str) -> dict[str, Any]:
    """What the Job's last container left."""
    job = _job_of(deployments, name)["metadata"]["name"]
    (pod,) = deployments.kubectl.list("pods", namespace=deployments.namespace, selector=f"job-name={job}")
    (ended,) = (s["state"]["terminated"] for s in pod["status"]["containerStatuses"] if s["name"] == "publish")
    return dict(json.loads(ended["message"]))


def _seconds(job: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(job["status"][key]) for key in ("startTime", "completionTime"))
    return (ended - began).total_seconds()


def test_an_artifact_is_made_once_for_all_namespaces(
    deployments: Deployments, neighbours: Deployments, kubectl: Kubectl, namespace: str, tmp_path: Path
):
    _put_keys(kubectl, namespace, namespace, neighbours.namespace)
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "bucket/samples.npz", namespace=namespace)
    uri = upload(kubectl, write_model(tmp_path / "v1.onnx", scale=1.0), "bucket/v1.onnx", namespace=namespace)
    spec = {
        "model": {
            "uri": uri,
            "credentials": {"secretName": MODELS},
            "samples": {"uri": "s3://models/bucket/samples.npz", "secretName": MODELS},
        },
        "optimization": {"batchSizes": [1]},
        "storage": {"kind": "Bucket", "bucket": {"uri": "s3://models/artifacts", "secretName": KEYS}},
    }
    deployments.apply("maker", spec)
    made = deployments.wait_ready("maker", seconds=300)
    check_status(made)
    assert _told(deployments, "maker")["reason"] == "Succeeded"
    neighbours.apply("finder", spec)
    found = neighbours.wait_ready("finder", seconds=180)
    check_status(found)
    assert _told(neighbours, "finder")["reason"] == "ArtifactReused"
    assert found["status"]["stableRevision"]["artifact"] == made["status"]["stableRevision"]["artifact"]
    took = {who: _seconds(_job_of(d, who)) for d, who in ((deployments, "maker"), (neighbours, "finder"))}
    sys.stdout.write(f"\nthe Jobs took {took} seconds\n")
    for place, name in ((deployments, "maker"), (neighbours, "finder")):
        assert not place.children(name, "persistentvolumeclaims")
    kubectl.delete("modeldeployment", "maker", namespace=namespace)
    wait_for("maker to be gone", lambda: not deployments.children("maker"), seconds=120)
    pods = set(neighbours.children("finder", "pods"))
    selector = "pilotfish.dev/name=finder,pilotfish.dev/component=triton"
    kubectl.run("delete", "pods", "-n", neighbours.namespace, "-l", selector, "--wait=true")
    (serving,) = neighbours.children("finder", "deployments")
    kubectl.run("rollout", "status", serving.lower(), "-n", neighbours.namespace, "--timeout=180s")
    assert set(neighbours.children("finder", "pods")) - pods, "a new pod took what another namespace made"
