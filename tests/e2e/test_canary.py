"""Canaries on real nodes, real Triton and clients all the time: a good one takes over, a bad one goes back by itself.

The bad ones answer their golden set well: they fail, or are slow, on pictures that only the clients send.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import pytest
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases, upload

from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status

SCALES = {"v1": 1.0, "v2": 2.0, "fails": 3.0, "slow": 4.0, "other": 5.0, "twin": 1.0}
SHADOW = {"sampleRate": "1", "minAgreement": "0.99"}
ANALYSIS = {
    "interval": "5s",
    "window": "10s",
    "minRequests": 5,
    "checks": {"errorRate": {"max": "0.05"}, "meanLatency": {"max": "100ms"}},
}
ROLLOUT = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "5s"}], "analysis": ANALYSIS}


@pytest.fixture(scope="module")
def stored(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All models and their samples in the store."""
    folder = tmp_path_factory.mktemp("canaries")
    upload(kubectl, write_samples(folder / "samples.npz"), "canary/samples.npz", namespace=namespace)
    for name, scale in SCALES.items():
        path = write_model(folder / f"{name}.onnx", scale=scale, fails=name == "fails", slow=name == "slow")
        if name == "twin":  # the same model in other bytes
            model = onnx.load(path)
            model.producer_name = name
            onnx.save(model, path)
        upload(kubectl, path, f"canary/{name}.onnx", namespace=namespace)


def spec(version: str, *, replicas: int = 1, **rollout: Any) -> dict[str, Any]:
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/canary/samples.npz", **secret}
    return {
        "model": {"uri": f"s3://models/canary/{version}.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"replicas": replicas, "gpus": {"count": 1}},
        "rollout": {**ROLLOUT, **rollout},
    }


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, namespace: str, stored: None) -> Iterator[Deployments]:
    """v1 serves."""
    made = Deployments(kubectl=kubectl, namespace=namespace)
    made.apply("canary", spec("v1"))
    made.wait_ready("canary", seconds=180)
    yield made
    kubectl.delete("modeldeployment", "canary", namespace=namespace)


@pytest.fixture
def client(kubectl: Kubectl, namespace: str, served: Deployments) -> Iterator[ClientPod]:
    """Clients that ask all the time, with pictures that no golden set holds."""
    pod = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    images = bright_images()
    expected = {version: answers(images, scale=scale) for version, scale in SCALES.items()}
    pod.start(service="canary", cases=pack_cases({"image": images}, expected))
    wait_for("the first answers", lambda: pod.totals().get("v1", 0) > 30 or None, seconds=60, found=pod.logs)
    yield pod
    kubectl.delete("pod", "client", namespace=namespace)
    kubectl.delete("configmap", "client", namespace=namespace)


BAD = {
    "fails": ("AnalysisFailed", "error rate"),
    "slow": ("AnalysisFailed", "mean latency"),
}


@pytest.mark.parametrize("version", BAD)
def test_bad_canary_goes_back_by_itself(served: Deployments, client: ClientPod, version: str):
    reason, words = BAD[version]
    before = served.get("canary")["status"]["stableRevision"]
    served.apply("canary", spec(version))
    told = served.wait_condition("canary", "Ready", "False", reason=reason, seconds=150)
    assert words in told["message"], told
    assert "step 1/1" in told["message"], told
    body = served.get("canary")
    check_status(body)
    assert body["status"]["stableRevision"] == before
    assert body["status"]["rollout"]["aborted"]["reason"] == reason
    settled(served)
    last = client.totals()
    assert reached(last, version), "the canary had no request at all"
    answered = last["v1"]
    wait_for("v1 alone to answer", lambda: client.totals()["v1"] > answered + 60 or None, seconds=60, found=client.logs)
    assert reached(client.totals(), version) == reached(last, version), "it still gets requests"


def test_other_answers_send_a_canary_back(served: Deployments, client: ClientPod):
    served.apply("canary", spec("other", shadow=SHADOW))
    told = served.wait_condition("canary", "Ready", "False", reason="AnalysisFailed", seconds=200)
    assert "Aborted at step 1/1: agreement with the stable revision" in told["message"], told
    settled(served)
    totals = client.totals()
    assert totals.get("failed", 0) == 0, totals
    assert totals["other"] > 0, totals


@pytest.mark.soak
def test_equal_answers_are_an_agreement(served: Deployments, client: ClientPod):
    served.apply("canary", spec("twin", steps=[{"weight": 50, "hold": "Forever"}], shadow=SHADOW))
    checks = wait_for("an agreement", lambda: agreement(served), seconds=200, found=lambda: served.story("canary"))
    assert checks["verdict"] == "Pass", checks
    assert float(checks["value"]) == 1, checks
    served.apply("canary", spec("twin", shadow=SHADOW))
    served.wait_ready("canary", seconds=200)
    settled(served)
    totals = client.totals()
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals


def agreement(served: Deployments) -> Mapping[str, Any] | None:
    """What the analysis measured of it, once it has."""
    analysis = (served.get("canary")["status"].get("rollout") or {}).get("analysis") or {}
    found = (check for check in analysis.get("checks", ()) if check["name"] == "shadowAgreement" and check.get("value"))
    return next(found, None)


def test_abort_takes_the_requests_away(served: Deployments, client: ClientPod, kubectl: Kubectl, namespace: str):
    held = {"steps": [{"weight": 50, "hold": "Forever"}]}
    served.apply("canary", spec("v2", **held))
    wait_for("answers of v2", lambda: client.totals().get("v2", 0) > 30 or None, seconds=150, found=client.logs)
    served.apply("canary", spec("v2", **held, action={"id": "stop", "verb": "abort"}))
    wait_for("traffic on v1 alone", lambda: selects_stable(served, kubectl, namespace) or None, seconds=30)
    served.wait_condition("canary", "Ready", "False", reason="AbortedByUser", seconds=30)
    settled(served)
    totals = client.totals()
    assert totals.get("failed", 0) == 0, totals


def test_good_canary_takes_over_without_a_failed_request(served: Deployments, client: ClientPod):
    # It was aborted before: the same spec again would not start it again.
    served.apply("canary", spec("v2", bake="5s", action={"id": "again", "verb": "retry"}))
    body = served.wait_ready("canary", seconds=200)
    check_status(body)
    settled(served)
    seen = client.totals().get("v2", 0)
    wait_for("v2 alone to answer", lambda: client.totals()["v2"] > seen + 60 or None, seconds=60, found=client.logs)
    totals = client.stop()
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals
    assert totals["v1"] > 30, totals
    assert body["status"]["history"][0]["result"] == "Superseded"


def reached(totals: Mapping[str, Any], version: str) -> int:
    """Requests that the bad canary had: it answers none where it fails."""
    return int(totals.get("failed" if version == "fails" else version, 0))


def settled(served: Deployments) -> None:
    """Only the stable revision has pods."""

    def probe() -> bool | None:
        return len(served.children("canary", "deployments")) == 1 or None

    wait_for("the other revision's pods to go", probe, seconds=120, found=lambda: served.story("canary"))


def selects_stable(served: Deployments, kubectl: Kubectl, namespace: str) -> bool:
    stable = served.get("canary")["status"]["stableRevision"]["hash"]
    service: Mapping[str, Any] = kubectl.get("service", "canary", namespace=namespace) or {}
    return service["spec"]["selector"].get("pilotfish.dev/revision") == stable
