"""A real Prometheus over real nodes: it answers every query of the dashboards, and its answers decide over canaries.

It runs on this machine, is told the pods that the chart's PodMonitors pick, with the labels that they give, and reads the
kubelet's cAdvisor. The operator asks it, as `prometheus.url` of the chart says.
"""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testbed.client_pod import ClientPod
from testbed.kubectl import ROOT, Kubectl, wait_for
from testbed.operator import NAMESPACE, RELEASE, install_operator
from testbed.store import pack_cases, upload

from support.canaries import answers, bright_images, write_model, write_samples
from support.dashboard_answers import record_answers, unanswered_queries, unanswered_rules
from support.deployments import Deployments
from support.prometheus import Config, Prometheus, finding_pods, pod_monitors, running_prometheus
from support.status_check import check_status
from support.triton import free_port

# It installs the operator anew.
pytestmark = pytest.mark.alone

MISSING = {
    "nv_gpu_": "the local cluster's GPUs are names only",
    "pilotfish_source_check_failed": "nothing has spec.model.refresh, which looks once a minute at most",
    "pilotfish_model_drift": "nothing samples requests",
}
SCALES = {"v1": 1.0, "v2": 2.0, "fails": 3.0}
_OURS = 'namespace="%s", pilotfish_dev_revision="${revision}"'
FAILED = f'sum(rate(nv_inference_request_failure{{{_OURS}, reason!="CANCELED"}}[10s]))'
SHARE = f"{FAILED} / ({FAILED} + sum(rate(nv_inference_request_success{{{_OURS}}}[10s])))"


def spec(namespace: str, version: str, **rollout: Any) -> dict[str, Any]:
    secret = {"secretName": "store-credentials"}
    check = {"name": "failed-share", "query": SHARE.replace("%s", namespace), "max": "0.05"}
    analysis = {"interval": "5s", "window": "10s", "minRequests": 5, "checks": {"prometheus": [check]}}
    return {
        "model": {
            "uri": f"s3://models/asked/{version}.onnx",
            "credentials": secret,
            "samples": {"uri": "s3://models/asked/samples.npz", **secret},
        },
        "optimization": {"batchSizes": [1]},
        "serving": {"gpus": {"count": 1}},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"weight": 50, "hold": "10s"}],
            # Longer than the window: the verdict of a step is gone as soon as the step is.
            "bake": "25s",
            "analysis": analysis,
            **rollout,
        },
    }


@pytest.fixture(scope="module")
def prometheus(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Asked by the operator for as long as this file runs."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with (
        finding_pods(kubectl, folder) as scrapes,
        running_prometheus(folder, [*scrapes, cadvisor(kubectl, folder)], address=host(kubectl), port=port) as server,
    ):
        values = ("--values", str(ROOT / "hack/testbed/values.yaml"), "--set", f"prometheus.url={server.url}")
        kubectl.helm(
            "upgrade", RELEASE, str(ROOT / "charts/pilotfish"), "-n", NAMESPACE, *values, "--wait", "--timeout=180s"
        )
        try:
            yield server
        finally:
            install_operator(kubectl)


def host(kubectl: Kubectl) -> str:
    """This machine's address as the node knows it."""
    node = json.loads(kubectl.run("get", "nodes", "-o", "json"))["items"][0]
    (address,) = (a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def cadvisor(kubectl: Kubectl, folder: Path) -> Config:
    """The kubelet's, through the API server."""
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    data = {"ca": cluster["certificate-authority-data"], "cert": user["client-certificate-data"]}
    for name, text in {**data, "key": user["client-key-data"]}.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(base64.b64decode(text))
    node = kubectl.run("get", "nodes", "-o", "name").split()[0].removeprefix("node/")
    return {
        "job_name": "kubelet",
        "scheme": "https",
        "metrics_path": f"/api/v1/nodes/{node}/proxy/metrics/cadvisor",
        "honor_labels": True,
        # The kubelet looks every ten seconds itself.
        "scrape_interval": "5s",
        "scrape_timeout": "5s",
        "tls_config": {f"{name}_file": str(folder / name) for name in ("ca", "cert", "key")},
        "static_configs": [{"targets": [cluster["server"].removeprefix("https://")]}],
    }


@pytest.fixture(scope="module")
def served(
    kubectl: Kubectl, namespace: str, prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployments]:
    """v1 serves, clients ask it all the time with pictures that no golden set holds, and another one has no model."""
    folder = tmp_path_factory.mktemp("asked")
    upload(kubectl, write_samples(folder / "samples.npz"), "asked/samples.npz", namespace=namespace)
    for version, scale in SCALES.items():
        path = write_model(folder / f"{version}.onnx", scale=scale, fails=version == "fails")
        upload(kubectl, path, f"asked/{version}.onnx", namespace=namespace)
    (folder / "broken.onnx").write_bytes(b"no model")
    upload(kubectl, folder / "broken.onnx", "asked/broken.onnx", namespace=namespace)
    made = Deployments(kubectl=kubectl, namespace=namespace)
    made.apply("asked", spec(namespace, "v1"))
    made.apply("broken", spec(namespace, "broken"))
    made.wait_ready("asked", seconds=240)
    pod, images = ClientPod(kubectl=kubectl, namespace=namespace, name="client"), bright_images()
    expected = {version: answers(images, scale=scale) for version, scale in SCALES.items()}
    pod.start(service="asked", cases=pack_cases({"image": images}, expected))
    yield made
    kubectl.delete("pod", "client", namespace=namespace)
    for name in ("asked", "broken"):
        kubectl.delete("modeldeployment", name, namespace=namespace)


def test_a_canary_passes_by_what_prometheus_answers(served: Deployments, namespace: str, prometheus: Prometheus):
    asked = 'nv_inference_request_success{pilotfish_dev_name="asked"} > 20'
    wait_for("requests that Prometheus saw", lambda: prometheus.history(asked) or None, seconds=90)
    served.apply("asked", spec(namespace, "v2"))
    body = served.wait_ready("asked", seconds=240)
    check_status(body)
    told = prometheus.history('pilotfish_analysis_verdict{name="asked", check="failed-share", verdict="Pass"}')
    assert told, "promoted without an answer of Prometheus"
    assert body["status"]["history"][0]["result"] == "Superseded"


def test_a_canary_is_sent_back_by_what_prometheus_answers(served: Deployments, namespace: str, prometheus: Prometheus):
    before = served.get("asked")["status"]["stableRevision"]
    served.apply("asked", spec(namespace, "fails"))
    told = served.wait_condition("asked", "Ready", "False", reason="AnalysisFailed", seconds=240)
    assert "failed-share" in told["message"], told
    body = served.get("asked")
    check_status(body)
    assert body["status"]["stableRevision"] == before
    # The figure that decided is in status for one pass alone, which no scrape need see; Prometheus has it itself.
    failed = body["status"]["rollout"]["aborted"]["revision"]
    measured = prometheus.history(SHARE.replace("%s", namespace).replace("${revision}", failed))
    assert max(value for one in measured for _, value in one["values"]) > 0.05


def test_every_query_has_an_answer(served: Deployments, namespace: str, prometheus: Prometheus):
    (of_operator, _) = pod_monitors()
    job = f"{of_operator['metadata']['namespace']}/{of_operator['metadata']['name']}"
    # The kubelet looks at its containers every ten seconds.
    variables = {"namespace": namespace, "name": "asked", "job": job, "__rate_interval": "30s"}
    for alert in ("OptimizationFailed", "RolloutAborted"):
        fired = f'ALERTS{{alertstate="firing", alertname="{alert}"}}'
        wait_for(alert, lambda fired=fired: prometheus.history(fired) or None, seconds=30)
    record_answers(prometheus, variables)
    assert unanswered_queries(prometheus, variables, MISSING) == []
    assert unanswered_rules(prometheus, MISSING) == []
