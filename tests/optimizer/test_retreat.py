"""Trained models that 8 bits hurt: the worst layers go back to float; where that is no help, FP32 serves and says why."""

import pytest

from pilotfish.api.report import Verdict
from support.trained_onnx import save_digits


@pytest.fixture
def run(local, monkeypatch):
    """The digits network with outliers in the given places; its report, and its candidates by variant."""
    monkeypatch.setattr("pilotfish.optimizer.candidates.openvino_recipes", lambda *_: [])

    def optimize(outliers, **optimization):
        model = save_digits(local.folder, outliers=outliers)
        message = local.run(model, optimization={"formats": ["ONNX"], "batchSizes": [1], **optimization})
        report = local.report(message)
        return message, report, {c["variant"]: c for c in report["candidates"]}

    return optimize


def test_without_outliers_8_bits_keep_what_was_learned(run):
    message, report, found = run((), precisions=["INT8"], objective="Size", tolerance={"top1Agreement": "0.98"})
    before = report["metric"]["reference"]
    assert before > 0.9
    for variant in ("onnx-int8-dynamic", "onnx-int8-static", "onnx-int8-weights"):
        assert found[variant]["verdict"] == Verdict.ACCEPTED, found[variant]
        assert found[variant]["metric"] >= before - 0.01
        assert [one["op"] for one in found[variant]["layers"]] == ["Gemm"] * 3
    assert "onnx-int8-mixed" not in found
    assert message.artifact.bytes < found["onnx-fp32"]["bytes"] / 2


def test_the_layer_that_hurts_goes_back_to_float(run):
    message, report, found = run((1,), precisions=["INT8"])
    static, mixed = found["onnx-int8-static"], found["onnx-int8-mixed"]
    before = report["metric"]["reference"]
    assert static["verdict"] == Verdict.REFUSED
    assert static["metric"] < before - 0.3, "8 bits everywhere leave little of what was learned"
    assert mixed["verdict"] == Verdict.ACCEPTED
    assert mixed["metric"] >= before - 0.01
    assert static["layers"][0]["layer"] == "layer1"
    assert [one["layer"] for one in mixed["layers"] if one["kept"]] == ["layer1"]
    assert message.summary.winner == "onnx-int8-mixed"
    assert float(message.summary.metric_drop) <= 0.01
    assert "onnx-int8-mixed keeps 1 of 3 layers in float: layer1." in report["notes"]


def test_where_every_layer_hurts_fp32_serves_and_the_reasons_are_told(run):
    message, report, found = run((0, 1, 2), precisions=["FP32", "INT8"])
    assert message.summary.winner == "onnx-fp32"
    mixed = found["onnx-int8-mixed"]
    assert mixed["verdict"] == Verdict.REFUSED
    assert mixed["reason"].startswith("even with 2 of 3 layers in float, after 2 attempts: ")
    for variant in ("onnx-int8-dynamic", "onnx-int8-static", "onnx-int8-weights", "onnx-int8-mixed"):
        assert found[variant]["verdict"] == Verdict.REFUSED
        assert f"{variant}: {found[variant]['reason']}" in report["why"]
