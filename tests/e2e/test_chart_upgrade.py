"""The chart is upgraded and rolled back under a live model: no Triton pod moves. `helm test` says what is well."""

from collections.abc import Iterator

import pytest
from testbed.kubectl import ROOT, Kubectl, KubectlError, wait_for
from testbed.operator import NAMESPACE, RELEASE, install_operator
from testbed.store import upload

from support.canaries import write_model, write_samples
from support.deployments import Deployments

pytestmark = [pytest.mark.alone, pytest.mark.soak]

CHART = str(ROOT / "charts" / "pilotfish")
VALUES = str(ROOT / "hack" / "testbed" / "values.yaml")
# Everything that a revision is rendered from, and the operator itself.
CHANGED = {
    "replicaCount": "2",
    "config.drain": "25",
    "config.preStop": "3",
    "tritonVersion": "2.60.0",
    "images.triton.tag": "next",
    "images.tritonTorch.tag": "next",
    "images.optimizer.tag": "next",
    "images.pullPolicy": "Always",
    "defaults.serving.cpu": "400m",
    "defaults.serving.memory": "2Gi",
    "pdb.enabled": "true",
    "networkPolicy.enabled": "true",
    "podLabels.release": "next",
    "metrics.grafanaDashboard.enabled": "true",
}


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    """Two pods serve."""
    folder = tmp_path_factory.mktemp("chart")
    upload(kubectl, write_samples(folder / "samples.npz"), "chart/samples.npz", namespace=namespace)
    upload(kubectl, write_model(folder / "v1.onnx", scale=1.0), "chart/v1.onnx", namespace=namespace)
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/chart/samples.npz", **secret}
    made = Deployments(kubectl=kubectl, namespace=namespace)
    spec = {
        "model": {"uri": "s3://models/chart/v1.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"replicas": 2},
    }
    made.apply("chart", spec)
    made.wait_ready("chart", seconds=240)
    yield made
    kubectl.delete("modeldeployment", "chart", namespace=namespace)


@pytest.fixture
def restored(kubectl: Kubectl) -> Iterator[None]:
    yield
    install_operator(kubectl)


def pods(served: Deployments) -> dict[str, tuple]:
    """What would change if a Triton pod were moved, restarted or edited."""
    found = served.kubectl.list(
        "pods", namespace=served.namespace, selector="pilotfish.dev/name=chart,pilotfish.dev/component=triton"
    )
    return {
        pod["metadata"]["uid"]: (
            pod["metadata"]["labels"],
            pod["metadata"].get("deletionTimestamp"),
            [(status["restartCount"], status["ready"]) for status in pod["status"]["containerStatuses"]],
        )
        for pod in found
    }


def deployments(served: Deployments) -> dict[str, int]:
    found = served.kubectl.list(
        "deployments", namespace=served.namespace, selector="pilotfish.dev/name=chart,pilotfish.dev/component=triton"
    )
    return {body["metadata"]["uid"]: body["metadata"]["generation"] for body in found}


def wait_looked_after(served: Deployments) -> None:
    """Until the operator that runs now has worked on the object: it brings back what was taken away."""
    kubectl, place = served.kubectl, {"namespace": served.namespace}
    before = kubectl.get("poddisruptionbudget", "chart", **place)
    assert before is not None
    kubectl.delete("poddisruptionbudget", "chart", **place)
    wait_for("the operator at work", lambda: kubectl.get("poddisruptionbudget", "chart", **place), seconds=60)


def operator_drain(kubectl: Kubectl) -> str:
    body = kubectl.get("deployment", RELEASE, namespace=NAMESPACE)
    assert body is not None
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return next(v["value"] for v in container["env"] if v["name"] == "PILOTFISH_DRAIN")


def test_upgrade_and_rollback_of_the_chart_move_no_triton_pod(
    served: Deployments, kubectl: Kubectl, restored: None
) -> None:
    pods_before, deployments_before = pods(served), deployments(served)
    assert len(pods_before) == 2
    assert all(ready for *_, states in pods_before.values() for _, ready in states)
    earlier = operator_drain(kubectl)
    place = ("--namespace", NAMESPACE, "--wait", "--timeout=180s")

    settings = [word for name, value in CHANGED.items() for word in ("--set", f"{name}={value}")]
    kubectl.helm("upgrade", RELEASE, CHART, "--values", VALUES, *settings, *place)
    assert operator_drain(kubectl) == "25"
    wait_looked_after(served)
    assert pods(served) == pods_before
    assert deployments(served) == deployments_before

    kubectl.helm("rollback", RELEASE, *place)
    assert operator_drain(kubectl) == earlier
    wait_looked_after(served)
    assert pods(served) == pods_before
    assert deployments(served) == deployments_before
    assert served.condition("chart", "Ready")["status"] == "True"


class TestDoctor:
    """`helm test`."""

    def test_a_good_installation_passes_and_leaves_no_rights(self, served: Deployments, kubectl: Kubectl) -> None:
        told = kubectl.helm("test", RELEASE, "--namespace", NAMESPACE, "--logs", "--timeout=120s")
        assert "Phase:          Succeeded" in told
        for check in ("api-server", "crd", "operator", "lease", "storage", "gpus"):
            assert f"✔ {check}" in told
        assert " 0 failed" in told
        assert "may not be read" not in told, "its account reads all that the checks want"
        left = kubectl.run("get", "clusterrole,clusterrolebinding", "--output=name").split()
        assert not [name for name in left if name.endswith(f"/{RELEASE}-test")]

    def test_a_broken_one_fails_and_says_what_to_do(self, kubectl: Kubectl, restored: None) -> None:
        kubectl.run("scale", f"deployment/{RELEASE}", "-n", NAMESPACE, "--replicas=0")
        kubectl.run(
            "wait", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=pilotfish", "--for=delete", "--timeout=60s"
        )
        with pytest.raises(KubectlError):
            kubectl.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout=120s")
        told = kubectl.run("logs", f"{RELEASE}-test", "-n", NAMESPACE)
        assert f"Deployment {NAMESPACE}/{RELEASE} is scaled to 0" in told
        assert "kubectl scale deployment" in told
