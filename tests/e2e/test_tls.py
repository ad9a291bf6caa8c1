"""S18 on real nodes: a model behind mutual TLS is verified, probed and measured, and a renewed certificate reaches it."""

import base64
from pathlib import Path
from typing import Any

import pytest
from testbed.kubectl import Kubectl, KubectlError, wait_for
from testbed.store import upload

from pilotfish.names import CERTIFICATE
from support.canaries import write_model, write_samples
from support.certificates import Authority
from support.deployments import Deployments
from support.status_check import check_status

NAME = "encrypted"


def make_secret(name: str, namespace: str, folder: Path) -> dict[str, Any]:
    """Files of a folder as cert-manager stores them."""
    data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in folder.iterdir()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": data}


def triton_pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    found = kubectl.list("pods", namespace=namespace, selector="pilotfish.dev/component=triton")
    return [dict(pod) for pod in found if "deletionTimestamp" not in pod["metadata"]]


def test_s18_mutual_tls_and_a_renewed_certificate(
    deployments: Deployments, kubectl: Kubectl, namespace: str, tmp_path: Path
):
    servers, host = Authority("servers"), f"{NAME}.{namespace}.svc"
    kubectl.apply(
        make_secret("server", namespace, servers.issue(tmp_path / "server", host)),
        make_secret("clients", namespace, Authority("clients").issue(tmp_path / "clients")),
    )
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "tls/samples.npz", namespace=namespace)
    uri = upload(kubectl, write_model(tmp_path / "v1.onnx", scale=1.0), "tls/v1.onnx", namespace=namespace)
    secret = {"secretName": "store-credentials"}
    spec = {
        "model": {"uri": uri, "credentials": secret, "samples": {"uri": "s3://models/tls/samples.npz", **secret}},
        "optimization": {"batchSizes": [1]},
        "serving": {"protocols": ["GRPC"], "access": {"tls": {"secretName": "server", "clientCA": "clients"}}},
    }
    deployments.apply(NAME, spec)
    # Ready: probed on the loopback, and verified through mutual TLS by a client that showed its certificate.
    check_status(deployments.wait_ready(NAME, seconds=240))
    (pod,) = triton_pods(kubectl, namespace)
    proxy = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    assert "nv_inference_request_success" in kubectl.run("get", "--raw", f"{proxy}:8002/proxy/metrics")
    with pytest.raises(KubectlError):
        kubectl.run("get", "--raw", f"{proxy}:8000/proxy/v2/health/ready")
    first = pod["metadata"]["annotations"][CERTIFICATE]
    kubectl.apply(make_secret("server", namespace, servers.issue(tmp_path / "renewed", host)))

    def rolled() -> bool:
        ready = kubectl.run(
            "get", "endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={NAME}",
            "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}",
        )  # fmt: skip
        assert "true" in ready, "nobody serves while the certificate is renewed"
        told = [found["metadata"]["annotations"][CERTIFICATE] for found in triton_pods(kubectl, namespace)]
        return len(told) == 1 and told != [first]

    wait_for("another pod with the renewed certificate", rolled, seconds=240, found=lambda: deployments.story(NAME))
    deployments.wait_ready(NAME, seconds=60)
