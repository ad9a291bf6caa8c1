"""The operator is killed in every stage of a rollout, and given a wrong setting; the story ends as if nobody had."""

import threading
from collections.abc import Iterator

import pytest
from testbed.kubectl import Kubectl
from testbed.operator import NAMESPACE, RELEASE
from testbed.store import upload

from support.canaries import write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

pytestmark = pytest.mark.alone

STAGES = ("Optimizing", "Starting", "Verifying", "Canarying", "Baking")
POLL_SECONDS = 0.3


def spec(version: str) -> dict:
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/killed/samples.npz", **secret}
    return {
        "model": {"uri": f"s3://models/killed/{version}.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"gpus": {"count": 1}},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"weight": 50, "hold": "8s"}],
            "bake": "8s",
            # Nobody asks: silence is good enough here.
            "analysis": {"interval": "5s", "window": "10s", "onNoData": "Pass"},
        },
    }


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    """v1 serves."""
    folder = tmp_path_factory.mktemp("killed")
    upload(kubectl, write_samples(folder / "samples.npz"), "killed/samples.npz", namespace=namespace)
    for version, scale in (("v1", 1.0), ("v2", 2.0)):
        path = write_model(folder / f"{version}.onnx", scale=scale)
        upload(kubectl, path, f"killed/{version}.onnx", namespace=namespace)
    made = Deployments(kubectl=kubectl, namespace=namespace)
    made.apply("killed", spec("v1"))
    made.wait_ready("killed", seconds=240)
    yield made
    kubectl.delete("modeldeployment", "killed", namespace=namespace)


def test_killed_in_every_stage_the_story_ends_the_same(served: Deployments, kubectl: Kubectl):
    killed: list[str] = []
    stop = threading.Event()

    def killer() -> None:
        selector = f"app.kubernetes.io/instance={RELEASE}"
        while not stop.wait(POLL_SECONDS):
            phase = served.get("killed").get("status", {}).get("phase")
            if phase in STAGES and phase not in killed:
                kubectl.run("delete", "pods", "-n", NAMESPACE, "-l", selector, "--grace-period=0", "--force")
                killed.append(phase)

    first = served.get("killed")
    served.apply("killed", spec("v2"))
    thread = threading.Thread(target=killer)
    thread.start()
    try:
        body = served.wait_ready("killed", seconds=300)
    finally:
        stop.set()
        thread.join()
    check_status(body)
    assert set(killed) >= {"Optimizing", "Verifying", "Canarying", "Baking"}, killed
    assert body["status"]["stableRevision"]["hash"] != first["status"]["stableRevision"]["hash"]
    assert len(served.optimize_jobs("killed")) == 2


def test_missing_image_is_named_and_a_corrected_setting_recovers(served: Deployments, kubectl: Kubectl):
    wanted = spec("v2")
    wanted["serving"]["instances"] = 2
    wanted["rollout"] = {}
    set_triton_image(kubectl, "pilotfish/triton-cpu:missing")
    try:
        served.apply("killed", wanted)
        found = served.wait_condition("killed", "Ready", "False", reason="ImagePullFailed", seconds=120)
        assert "pilotfish/triton-cpu:missing" in found["message"]
        assert condition(served.get("killed"), "Available")["status"] == "True"
    finally:
        set_triton_image(kubectl, "pilotfish/triton-cpu:dev")
    served.wait_ready("killed", seconds=120)


def condition(body: dict, kind: str) -> dict:
    return next(found for found in body["status"]["conditions"] if found["type"] == kind)


def set_triton_image(kubectl: Kubectl, image: str) -> None:
    """As an administrator who edits the operator's settings."""
    target = ("deployment/pilotfish", "-n", NAMESPACE)
    kubectl.run("set", "env", *target, f"PILOTFISH_TRITON_IMAGE={image}")
    kubectl.run("rollout", "status", *target, "--timeout=120s")
