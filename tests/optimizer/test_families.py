"""Real models of each kind of source through the optimizer; the artifact's answers against PyTorch's own on unseen inputs.

Every family meets the same comparison on a real tritonserver, in both formats: tests/tritonserver/test_families.py.
"""

import json

import numpy as np
import onnxruntime
import pytest

from pilotfish.api.optimization import ArtifactFormat, Precision
from pilotfish.api.report import Verdict
from support.families import Optimized, optimize
from support.models import accuracy, train_cnn, train_lstm, train_mlp, train_transformer

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def _answers(done: Optimized, call):
    (folder,) = done.repository.iterdir()
    names = [t.name for t in done.message.signature.outputs]
    if done.message.artifact.format is ArtifactFormat.ONNX:
        session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
        return dict(zip(names, session.run(names, call), strict=True))
    import torch

    module = torch.jit.load(str(folder / "1" / "model.pt"))
    result = module(*(torch.from_numpy(call[t.name]) for t in done.message.signature.inputs))
    values = result if isinstance(result, tuple) else (result,)
    return dict(zip(names, (v.numpy() for v in values), strict=True))


def _compare(done: Optimized):
    for call in done.source.calls:
        answers, expected = _answers(done, call), done.source.answer(call)
        assert set(answers) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(answers[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "name", ["silero", *(pytest.param(name, marks=pytest.mark.soak) for name in ("cnn", "resnet18", "minilm"))]
)
def test_the_winner_answers_like_pytorch(name, tmp_path):
    done = optimize(name, tmp_path, precisions=["FP32"])
    _compare(done)
    assert done.message.signature.batched == (name != "silero")
    verdicts = {c.variant: c.verdict for c in done.message.summary.candidates}
    assert verdicts["onnx-fp32"] is Verdict.ACCEPTED
    if name != "silero":
        assert verdicts["torchscript-fp32"] is Verdict.ACCEPTED
    report = json.loads((done.artifact / "report.json").read_text())
    assert report["baseline"]["measurements"][0]["latencyMs"]["median"] > 0
    assert report["samples"] == ("Generated" if name in {"resnet18", "minilm"} else "Given")


@pytest.mark.soak
def test_int8_is_smaller_and_keeps_the_accuracy(tmp_path):
    tolerance = {"metric": "Accuracy", "maxMetricDrop": "0.03", "top1Agreement": "0.9", "cosine": "0.9", "maxAbs": "5"}
    done = optimize("mlp", tmp_path, formats=["ONNX"], precisions=["INT8"], tolerance=tolerance)
    winner = done.message.summary.winner
    assert done.message.artifact.precision is Precision.INT8
    report = {c["variant"]: c for c in json.loads((done.artifact / "report.json").read_text())["candidates"]}
    assert report[winner]["bytes"] < report["onnx-fp32"]["bytes"] / 2
    model, _, x, y = train_mlp()
    answers = np.concatenate([_answers(done, {"pixels": x[i : i + 1]})["logits"] for i in range(len(x))])
    assert (answers.argmax(1) == y).mean() > accuracy(model, x, y) - 0.03


def test_half_precision_is_a_candidate_for_size(tmp_path):
    done = optimize("cnn", tmp_path, formats=["ONNX"], precisions=["FP32", "FP16"], objective="Size")
    assert done.message.summary.winner == "onnx-fp16"
    call = done.source.calls[2]
    np.testing.assert_allclose(_answers(done, call)["logits"], done.source.answer(call)["logits"], rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("train", [train_mlp, train_cnn, train_lstm, train_transformer])
def test_the_trained_models_have_learned_something(train):
    model, _, x, y = train()
    assert accuracy(model, x, y) > 0.9
