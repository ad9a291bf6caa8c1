"""One model's life on real nodes: served, updated under load, taken back, deleted."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from testbed.client_pod import ClientPod
from testbed.digits import torch_answers, train
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases, upload

from pilotfish.cli.port_forward import open_port
from support.deployments import Deployments
from support.digits import spec
from support.status_check import check_status

V1, V2 = "s3://models/digits/v1/", "s3://models/digits/v2/"
CONNECTIONS = ("http", "http-new", "grpc")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def digits(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two trained versions of one network, packed and uploaded."""
    folder = tmp_path_factory.mktemp("digits")
    packed = {version: train(folder / version, seed=seed) for version, seed in (("v1", 0), ("v2", 1))}
    for version, path in packed.items():
        upload(kubectl, path, f"digits/{version}", namespace=namespace)
    return packed


def pilotfish(kubectl: Kubectl, *arguments: str, values: list[Any] | None = None) -> dict[str, Any]:
    """What a command prints for machines."""
    command = [str(Path(sys.executable).with_name("pilotfish")), *arguments, "-o", "json"]
    done = subprocess.run(
        [*command, "--kubeconfig", str(kubectl.kubeconfig)],
        input=json.dumps(values), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or done.stdout
    return json.loads(done.stdout)


def check_commands(kubectl: Kubectl, namespace: str) -> None:
    """Load through real port-forwards, several at once; and nothing ails the cluster."""
    load = pilotfish(
        *(kubectl, "bench", "digits", "-n", namespace, "--engine", "builtin"),
        *("--concurrency", "1,3", "--max-requests", "30", "--duration", "60s", "--batch-size", "2"),
    )
    assert [(level["requests"], level["errors"]) for level in load["levels"]] == [(30, 0), (30, 0)], load
    found = pilotfish(kubectl, "doctor", "--namespace", namespace)
    said = {one["check"]: one["message"] for one in found["checks"]}
    assert said.keys() >= {"crd", "operator", "lease", "storage", "gpus", "models"}
    assert f"1 of 1 ModelDeployment(s) in namespace {namespace} Ready" in said["models"]
    assert " renewed " in said["lease"]


def answered(uri: str) -> dict[str, Any]:
    """The network with its plain-JSON endpoint: numbers in, words out."""
    plain = spec(uri)
    return {**plain, "serving": {**plain["serving"], "predict": {"labels": list(WORDS), "top": 1}}}


def check_plain_json(
    kubectl: Kubectl, ready: Mapping[str, Any], images: np.ndarray, logits: np.ndarray, *, namespace: str
) -> None:
    """A pod of the stable revision answers plain JSON with the right words, and says which revision and variant it is."""
    revision = ready["status"]["stableRevision"]["hash"]
    selector = f"pilotfish.dev/component=triton,pilotfish.dev/revision={revision}"
    pod = kubectl.list("pods", namespace=namespace, selector=selector)[0]["metadata"]["name"]
    with open_port(namespace=namespace, pod=pod, port=8000, kubeconfig=kubectl.kubeconfig, context=None) as port:
        answer = port.post("/v2/models/digits-predict/generate", {"image": images.reshape(-1).tolist()}).body
    assert answer["label"] == [WORDS[index] for index in np.argmax(np.reshape(logits, (len(images), -1)), axis=1)]
    assert answer["revision"] == [revision] * len(images)
    assert answer["variant"] == [ready["status"]["optimization"]["winner"]] * len(images)


def test_served_updated_under_load_taken_back_and_deleted(
    deployments: Deployments, digits: Mapping[str, Path], kubectl: Kubectl, namespace: str
):
    images = np.random.default_rng(7).random((2, 1, 8, 8), dtype=np.float32)
    answers = {version: torch_answers(path, images) for version, path in digits.items()}

    def old_pods_gone() -> bool:
        return len(deployments.children("digits", "deployments")) == 1

    deployments.apply("digits", answered(V1))
    first = deployments.wait_ready("digits")
    check_status(first)
    assert first["status"]["readyReplicas"] == 1
    assert first["status"]["optimization"]["winner"] in {"onnx-fp32", "torchscript-fp32"}
    pods = kubectl.list("pods", namespace=namespace, selector="pilotfish.dev/component=triton")
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods] == ["1"]

    told = pilotfish(kubectl, "predict", "digits", "--input", "-", "-n", namespace, values=images.tolist())
    np.testing.assert_allclose(
        np.reshape(told["outputs"][0]["data"], (2, -1)), answers["v1"]["logits"], rtol=1e-3, atol=1e-4
    )
    assert told["revision"] == first["status"]["stableRevision"]["hash"]
    check_plain_json(kubectl, first, images, answers["v1"]["logits"], namespace=namespace)
    check_commands(kubectl, namespace)

    client = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    client.start(service="digits", cases=pack_cases({"image": images}, answers))
    wait_for("answers of v1", lambda: client.totals().get("v1", 0) > 30, seconds=60, found=client.logs)

    deployments.apply("digits", answered(V2))
    second = deployments.wait_ready("digits")
    check_status(second)
    assert second["status"]["stableRevision"]["hash"] != first["status"]["stableRevision"]["hash"]
    wait_for("the old pods to go", old_pods_gone, seconds=120, found=lambda: deployments.story("digits"))
    seen = client.totals().get("v2", 0)
    wait_for("v2 alone to answer", lambda: client.totals().get("v2", 0) > seen + 60, seconds=60, found=client.logs)

    check_plain_json(kubectl, second, images, answers["v2"]["logits"], namespace=namespace)
    jobs = deployments.optimize_jobs("digits")
    deployments.apply("digits", answered(V1))
    third = deployments.wait_ready("digits")
    assert third["status"]["stableRevision"]["hash"] == first["status"]["stableRevision"]["hash"]
    assert set(deployments.optimize_jobs("digits")) <= set(jobs), "an artifact that exists was made again"
    wait_for("the second version's pods to go", old_pods_gone, seconds=120)

    totals = client.stop()
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals
    assert min(totals[connection] for connection in CONNECTIONS) > 50, totals

    kubectl.delete("modeldeployment", "digits", namespace=namespace)
    wait_for("children to go", lambda: not deployments.children("digits"), seconds=120, found=deployments.children)
