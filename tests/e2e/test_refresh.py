"""Other bytes at the same address become a revision of their own, on real nodes and from a real S3 server."""

from pathlib import Path

from testbed.kubectl import Kubectl, wait_for
from testbed.store import upload

from support.canaries import write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

KEY = "refresh/latest.onnx"


def test_new_bytes_take_over_through_the_same_gates(
    deployments: Deployments, kubectl: Kubectl, namespace: str, tmp_path: Path
):
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "refresh/samples.npz", namespace=namespace)
    uri = upload(kubectl, write_model(tmp_path / "v1.onnx", scale=1.0), KEY, namespace=namespace)
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/refresh/samples.npz", **secret}
    spec = {
        "model": {"uri": uri, "credentials": secret, "samples": samples, "refresh": {"interval": "1m"}},
        "optimization": {"batchSizes": [1]},
    }
    deployments.apply("refresh", spec)
    first = deployments.wait_ready("refresh", seconds=180)
    upload(kubectl, write_model(tmp_path / "v2.onnx", scale=2.0), KEY, namespace=namespace)

    def taken_over() -> bool:
        body = deployments.get("refresh")
        ready = next(c for c in body["status"]["conditions"] if c["type"] == "Ready")
        return ready["status"] == "True" and body["status"]["stableRevision"] != first["status"]["stableRevision"]

    wait_for("the new bytes", taken_over, seconds=240, found=lambda: deployments.story("refresh"))
    body = deployments.get("refresh")
    check_status(body)
    assert body["metadata"]["generation"] == first["metadata"]["generation"], "the spec is the user's"
    assert body["status"]["source"]["pin"] == body["status"]["stableRevision"]["sourceDigest"]
    assert body["status"]["source"]["pin"] != first["status"]["stableRevision"]["sourceDigest"]
    assert len(deployments.children("refresh", "controllerrevisions")) == 2
