"""Commits that Flux's kustomize-controller brings to real nodes: a canary that takes over, one that is sent back, and
none at all. Clients ask all the time."""

from typing import Any

import pytest
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases, upload

from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.flux import running_flux
from support.kube import make_object
from support.status_check import check_status

pytestmark = pytest.mark.soak

FILE = "canary.yaml"
SCALES = {"v1": 1.0, "v2": 2.0, "fails": 3.0}


@pytest.fixture(scope="module")
def stored(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("flux")
    upload(kubectl, write_samples(folder / "samples.npz"), "canary/samples.npz", namespace=namespace)
    for name, scale in SCALES.items():
        path = write_model(folder / f"{name}.onnx", scale=scale, fails=name == "fails")
        upload(kubectl, path, f"canary/{name}.onnx", namespace=namespace)


def make_git(namespace: str, version: str) -> dict[str, Any]:
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/canary/samples.npz", **secret}
    analysis = {"interval": "5s", "window": "10s", "minRequests": 5, "checks": {"errorRate": {"max": "0.05"}}}
    spec = {
        "model": {"uri": f"s3://models/canary/{version}.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"replicas": 1, "gpus": {"count": 1}},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"weight": 50, "hold": "5s"}],
            "bake": "5s",
            "analysis": analysis,
        },
    }
    return make_object("canary", namespace, spec)


def start_client(kubectl: Kubectl, namespace: str) -> ClientPod:
    pod = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    images = bright_images()
    expected = {version: answers(images, scale=scale) for version, scale in SCALES.items()}
    pod.start(service="canary", cases=pack_cases({"image": images}, expected))
    wait_for("the first answers", lambda: pod.totals().get("v1", 0) > 30 or None, seconds=60, found=pod.logs)
    return pod


def test_a_rollout_by_commits(kubectl: Kubectl, namespace: str, stored: None) -> None:
    made = Deployments(kubectl=kubectl, namespace=namespace)
    with running_flux(kubectl, namespace) as flux:

        def push(version: str) -> str:
            return flux.commit({FILE: make_git(namespace, version)})

        # Flux waits until the first one serves.
        flux.wait("True", revision=push("v1"), seconds=240)
        assert made.get("canary")["status"]["phase"] == "Ready"
        flux.check_quiet("canary", file=FILE, reason="ReconciliationSucceeded")
        client = start_client(kubectl, namespace)

        # An update takes over as a canary, and no request is lost.
        revision = push("v2")
        wait_for(
            "a canary",
            lambda: made.get("canary")["status"]["phase"] == "Canarying" or None,
            seconds=180,
            found=lambda: made.story("canary"),
        )
        flux.wait("True", revision=revision, seconds=240)
        body = made.get("canary")
        check_status(body)
        stable = body["status"]["stableRevision"]
        totals = client.totals()
        assert totals.get("failed", 0) == 0, totals
        flux.check_quiet("canary", file=FILE, reason="ReconciliationSucceeded")

        # A bad one is given up, Flux says so, and further syncs do not start it again.
        told = flux.wait("False", revision=push("fails"), seconds=240)
        assert told["reason"] == "HealthCheckFailed", told
        ready = made.condition("canary", "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("False", "AnalysisFailed"), ready
        wait_for(
            "the bad revision's pods to go",
            lambda: len(made.children("canary", "deployments")) == 1 or None,
            seconds=120,
            found=lambda: made.story("canary"),
        )
        jobs, failed, answered = made.optimize_jobs("canary"), client.totals()["failed"], client.totals()["v2"]
        flux.check_quiet("canary", file=FILE, reason="HealthCheckFailed")
        wait_for("v2 to answer", lambda: client.totals()["v2"] > answered + 60 or None, seconds=60, found=client.logs)
        assert client.totals()["failed"] == failed, "it gets requests again"
        body = made.get("canary")
        assert (body["status"]["phase"], body["status"]["stableRevision"]) == ("Aborted", stable)
        assert made.optimize_jobs("canary") == jobs
        client.stop()

        # Git without it: Flux prunes, and nothing stays.
        empty = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "empty", "namespace": namespace}}
        flux.commit({FILE: None, "empty.yaml": empty})
        wait_for("the object to be pruned", lambda: not made.names(), seconds=60, found=made.names)
        wait_for("children to be gone", lambda: not made.children(), seconds=120, found=made.children)
