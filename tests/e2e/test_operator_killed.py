"""The operator is killed in every stage of a rollout; the story ends as if nobody had touched it."""

import threading
from pathlib import Path

import pytest
from testbed.kubectl import Kubectl
from testbed.operator import NAMESPACE, RELEASE
from testbed.store import upload

from support.canaries import write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

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


@pytest.fixture
def stored(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "killed/samples.npz", namespace=namespace)
    for version, scale in (("v1", 1.0), ("v2", 2.0)):
        path = write_model(tmp_path / f"{version}.onnx", scale=scale)
        upload(kubectl, path, f"killed/{version}.onnx", namespace=namespace)


def test_killed_in_every_stage_the_story_ends_the_same(deployments: Deployments, kubectl: Kubectl, stored: None):
    killed: list[str] = []
    stop = threading.Event()

    def killer() -> None:
        selector = f"app.kubernetes.io/instance={RELEASE}"
        while not stop.wait(POLL_SECONDS):
            phase = deployments.get("killed").get("status", {}).get("phase")
            if phase in STAGES and phase not in killed:
                kubectl.run("delete", "pods", "-n", NAMESPACE, "-l", selector, "--grace-period=0", "--force")
                killed.append(phase)

    deployments.apply("killed", spec("v1"))
    first = deployments.wait_ready("killed", seconds=240)
    deployments.apply("killed", spec("v2"))
    thread = threading.Thread(target=killer)
    thread.start()
    try:
        body = deployments.wait_ready("killed", seconds=300)
    finally:
        stop.set()
        thread.join()
    check_status(body)
    assert set(killed) >= {"Optimizing", "Verifying", "Canarying", "Baking"}, killed
    assert body["status"]["stableRevision"]["hash"] != first["status"]["stableRevision"]["hash"]
    assert len(deployments.optimize_jobs("killed")) == 2
