"""A serving model is not disturbed by a bad update, the reason is said, and a corrected spec needs no other hand."""

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from testbed.digits import train
from testbed.kubectl import Kubectl
from testbed.operator import GPUS
from testbed.store import upload

from support.deployments import Deployments
from support.digits import spec
from support.status_check import check_status

GOOD = "s3://models/digits/v1/"
ZERO_DIGEST = "sha256:" + "0" * 64


class Payload:
    """Runs a command when it is unpickled by a careless loader."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the payload ran')",)


@pytest.fixture(scope="module")
def uploaded(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One good model and some that are not."""
    folder = tmp_path_factory.mktemp("models")
    upload(kubectl, train(folder / "v1", seed=0), "digits/v1", namespace=namespace)
    bad = folder / "bad"
    bad.mkdir()
    (bad / "pickle.pt").write_bytes(pickle.dumps(Payload()))
    (bad / "noise.onnx").write_bytes(b"\x08\x07 this is not a model " * 40)
    for path in sorted(bad.iterdir()):
        upload(kubectl, path, f"bad/{path.name}", namespace=namespace)


@pytest.fixture(scope="module")
def serving(kubectl: Kubectl, namespace: str, uploaded: None) -> Iterator[Deployments]:
    """One ModelDeployment that serves."""
    made = Deployments(kubectl=kubectl, namespace=namespace)
    made.apply("digits", spec(GOOD))
    made.wait_ready("digits")
    yield made
    kubectl.delete("modeldeployment", "digits", namespace=namespace)


STATE_DICT = {
    "format": "StateDict",
    "architecture": {"factory": "torchvision.models.resnet18"},
    "signature": {"inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 64, 64]}]},
}
BAD_UPDATES: dict[str, tuple[dict[str, Any], str]] = {
    "missing file": (spec("s3://models/digits/v9/"), "SourceNotFound"),
    "wrong digest": (spec(GOOD, digest=ZERO_DIGEST), "SourceDigestMismatch"),
    "pickle with code": (spec("s3://models/bad/pickle.pt", **STATE_DICT), "UnsafeModel"),
    "not a model": (spec("s3://models/bad/noise.onnx"), "UnknownFormat"),
    "optimizer out of memory": (spec(GOOD, optimizer_memory="256Mi"), "OptimizerOutOfMemory"),
    "Triton out of memory": (spec(GOOD, memory="24Mi"), "ServingOutOfMemory"),
    "answers otherwise when loaded": (
        {
            **spec(GOOD),
            "optimization": {"batchSizes": [1, 4], "formats": ["ONNX"]},
            "rollout": {"verification": {"tolerance": {"maxAbs": "1e-12"}}},
        },
        "VerificationFailed",
    ),
    "no GPU free": (spec(GOOD, gpus=GPUS + 1), "InsufficientGPU"),
}


@pytest.mark.parametrize("case", BAD_UPDATES)
def test_bad_update_says_why_and_leaves_the_old_revision_serving(
    serving: Deployments, kubectl: Kubectl, namespace: str, case: str
):
    bad, reason = BAD_UPDATES[case]
    before = serving.get("digits")["status"]["stableRevision"]
    pods = pod_names(kubectl, namespace, revision=before["hash"])
    serving.apply("digits", bad)
    ready = serving.wait_condition("digits", "Ready", "False", reason=reason, seconds=150)
    assert "\n" not in ready["message"]
    body = serving.get("digits")
    check_status(body)
    assert body["status"]["stableRevision"] == before
    assert body["status"]["readyReplicas"] == 1
    assert condition(body, "Available")["status"] == "True"
    assert pod_names(kubectl, namespace, revision=before["hash"]) == pods


def test_corrected_spec_recovers(serving: Deployments, kubectl: Kubectl, namespace: str):
    before = serving.get("digits")["status"]["stableRevision"]
    jobs = serving.optimize_jobs("digits")
    serving.apply("digits", spec(GOOD))
    body = serving.wait_ready("digits", seconds=60)
    assert body["status"]["stableRevision"] == before
    assert set(serving.optimize_jobs("digits")) <= set(jobs)


def test_artifact_that_was_changed_is_not_served(serving: Deployments, kubectl: Kubectl, namespace: str):
    old = {pod["metadata"]["name"] for pod in triton_pods(kubectl, namespace)}
    kubectl.apply(tamper_pod(namespace))
    phase = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl.run("wait", "pod/tamper", "-n", namespace, phase, "--timeout=60s")
    kubectl.delete("pod", "tamper", namespace=namespace)
    kubectl.run("delete", "pods", "-n", namespace, "-l", "pilotfish.dev/component=triton", "--wait=false")
    serving.wait_condition("digits", "Ready", "False", reason="ArtifactDigestMismatch", seconds=120)
    new = [pod for pod in triton_pods(kubectl, namespace) if pod["metadata"]["name"] not in old]
    assert new
    assert not any(ready(pod) for pod in new), "a pod serves bytes that nobody proved"


def condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next(found for found in body["status"]["conditions"] if found["type"] == kind)


def triton_pods(kubectl: Kubectl, namespace: str) -> tuple[Mapping[str, Any], ...]:
    return kubectl.list("pods", namespace=namespace, selector="pilotfish.dev/component=triton")


def pod_names(kubectl: Kubectl, namespace: str, *, revision: str) -> set[str]:
    return {
        pod["metadata"]["name"]
        for pod in triton_pods(kubectl, namespace)
        if pod["metadata"]["labels"]["pilotfish.dev/revision"] == revision
    }


def ready(pod: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def tamper_pod(namespace: str) -> dict[str, Any]:
    """A pod that flips one byte of every model file in the claim."""
    flip = (
        "import pathlib\n"
        "files = [f for f in pathlib.Path('/store/artifacts').rglob('model.*') if f.suffix in ('.onnx', '.pt')]\n"
        "assert files\n"
        "for f in files:\n"
        "    f.chmod(0o644); data = bytearray(f.read_bytes()); data[len(data) // 2] ^= 1; f.write_bytes(data)\n"
    )
    container = {
        "name": "tamper",
        "image": "pilotfish/testbed:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", flip],
        "volumeMounts": [{"name": "store", "mountPath": "/store"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tamper", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": security,
            "containers": [container],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "digits-store"}}],
        },
    }
