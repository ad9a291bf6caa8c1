"""An autoscaler on real nodes: metrics-server reads what the pods use, the HPA controller scales, the operator obeys."""

from pathlib import Path

import pytest
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases, upload

from support.apiserver import run_cluster
from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

NAME = "busy"
PODS = 3
# The controller looks every 15 s, metrics-server every 15 s, and what a new pod uses in its first half minute is not counted.
SECONDS = 240


@pytest.fixture
def busy(deployments: Deployments, kubectl: Kubectl, namespace: str, tmp_path: Path) -> Deployments:
    """One pod of a model that takes a third of a second of CPU for each bright picture."""
    run_cluster("metrics")
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "busy/samples.npz", namespace=namespace)
    model = write_model(tmp_path / "model.onnx", scale=1.0, slow=True)
    uri = upload(kubectl, model, "busy/model.onnx", namespace=namespace)
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/busy/samples.npz", **secret}
    autoscaling = {"minReplicas": 1, "maxReplicas": PODS, "metrics": [{"type": "CPU", "target": "60"}]}
    spec = {
        "model": {"uri": uri, "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"gpus": {"count": 0}, "autoscaling": autoscaling},
    }
    deployments.apply(NAME, spec)
    deployments.wait_ready(NAME)
    return deployments


def wait_pods(busy: Deployments, count: int) -> None:
    """Until so many are asked for and every one of them is ready."""

    def settled() -> bool:
        body = busy.get(NAME)
        return (body["spec"]["serving"].get("replicas"), body["status"].get("readyReplicas")) == (count, count)

    wait_for(f"{count} pods", settled, seconds=SECONDS, found=lambda: busy.story(NAME))


def test_pods_come_with_the_load_and_go_with_it(busy: Deployments, kubectl: Kubectl, namespace: str):
    before = busy.get(NAME)["status"]["stableRevision"]
    images = bright_images(1)
    client = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    client.start(service=NAME, cases=pack_cases({"image": images}, {"busy": answers(images, scale=1.0)}))
    wait_pods(busy, PODS)
    assert kubectl.run("top", "pods", "-n", namespace, "--no-headers").count("m ") >= PODS
    check_status(busy.get(NAME))

    totals = client.stop()
    assert (totals.get("failed", 0), totals.get("wrong", 0)) == (0, 0), totals
    # The operator keeps right what it wrote into the autoscaler, and leaves this alone.
    behavior = '{"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}}}}'
    kubectl.run("patch", "hpa", NAME, "-n", namespace, "--type=merge", "-p", behavior)
    wait_pods(busy, 1)
    assert busy.get(NAME)["status"]["stableRevision"] == before, "another number of pods is no other revision"
    assert len(busy.optimize_jobs(NAME)) == 1
