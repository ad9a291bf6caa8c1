"""One model's life on real nodes: served, updated under load, taken back, deleted."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.status_check import check_status
from testbed.client_pod import ClientPod
from testbed.kubectl import ROOT, Kubectl, wait_for
from testbed.store import pack_cases, upload

from support.deployments import Deployments


@pytest.fixture(scope="module")
def digits(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Two trained versions of one network, packed by the example's own script and uploaded."""
    folder = tmp_path_factory.mktemp("digits")
    for version, seed in (("v1", 0), ("v2", 1)):
        script = ROOT / "examples" / "train_digits.py"
        subprocess.run([sys.executable, str(script), str(folder / version), "--seed", str(seed)], check=True)
        upload(kubectl, folder / version, f"digits/{version}", namespace=namespace)
    return {version: folder / version for version in ("v1", "v2")}


def spec(version: str, **serving: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"s3://models/digits/{version}/", "credentials": {"secretName": "store-credentials"}},
        "optimization": {"batchSizes": [1, 4]},
        "serving": {"gpus": {"count": 1}, **serving},
    }


def torch_answers(packed: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch itself says, from the packed program."""
    program = torch.export.load(str(next(packed.glob("*.pt2"))))
    with torch.no_grad():
        return {"logits": program.module()(torch.from_numpy(images)).numpy()}


def test_served_updated_under_load_taken_back_and_deleted(
    deployments: Deployments, digits: Mapping[str, Path], kubectl: Kubectl, namespace: str
):
    images = np.random.default_rng(7).random((2, 1, 8, 8), dtype=np.float32)
    answers = {version: torch_answers(path, images) for version, path in digits.items()}

    deployments.apply("digits", spec("v1"))
    first = deployments.wait_ready("digits")
    check_status(first)
    assert first["status"]["readyReplicas"] == 1
    assert first["status"]["optimization"]["winner"] in {"onnx-fp32", "torchscript-fp32"}
    pods = kubectl.list("pods", namespace=namespace, selector="pilotfish.dev/component=triton")
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for pod in pods] == ["1"]

    client = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    client.start(service="digits", cases=pack_cases({"image": images}, answers))
    wait_for("answers of v1", lambda: client.totals().get("v1", 0) > 30, seconds=60, found=client.logs)

    deployments.apply("digits", spec("v2"))
    second = deployments.wait_ready("digits")
    check_status(second)
    assert second["status"]["stableRevision"]["hash"] != first["status"]["stableRevision"]["hash"]
    wait_for(
        "the old pods to go",
        lambda: len(deployments.children("digits", "deployments")) == 1,
        seconds=120,
        found=lambda: deployments.story("digits"),
    )
    seen = client.totals().get("v2", 0)
    wait_for(
        "answers of v2 after the old pods went",
        lambda: client.totals().get("v2", 0) > seen + 60,
        seconds=60,
        found=client.logs,
    )

    jobs = deployments.children("digits", "jobs")
    deployments.apply("digits", spec("v1"))
    third = deployments.wait_ready("digits")
    assert third["status"]["stableRevision"]["hash"] == first["status"]["stableRevision"]["hash"]
    assert set(deployments.children("digits", "jobs")) <= set(jobs), "an artifact that exists was made again"
    wait_for(
        "the second version's pods to go", lambda: len(deployments.children("digits", "deployments")) == 1, seconds=120
    )

    totals = client.stop()
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals
    assert min(totals[kind] for kind in ("http", "http-new", "grpc")) > 50

    kubectl.delete("modeldeployment", "digits", namespace=namespace)
    wait_for("children to be gone", lambda: not deployments.children("digits"), seconds=120, found=deployments.children)
