"""Exports of recurrent layers do less and answer the same, in every batch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from pilotfish.optimizer.recurrent import simplify_recurrent

pytestmark = pytest.mark.torch
BATCHES = (1, 2, 5)


class Layers(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **settings) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = kind(6, 8, batch_first=True, **settings)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows)[0][:, -1]


class Started(nn.Module):
    """Starts from ones instead of zeros."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.GRU(6, 8, batch_first=True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows, torch.ones(1, rows.shape[0], 8))[0][:, -1]


def export(module: nn.Module, path: Path, *, dynamo: bool) -> onnx.ModelProto:
    example = torch.zeros(2, 5, 6)
    names = {"input_names": ["rows"], "output_names": ["last"]}
    if dynamo:
        shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
        torch.onnx.export(module.eval(), (example,), str(path), dynamo=True, opset_version=18, dynamic_shapes=shapes,
                          external_data=False, verbose=False, **names)  # fmt: skip
    else:
        torch.onnx.export(module.eval(), (example,), str(path), dynamo=False, opset_version=18,
                          dynamic_axes={"rows": {0: "batch"}, "last": {0: "batch"}}, **names)  # fmt: skip
    return onnx.load(str(path))


def answer(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"rows": rows})[0]


def same_answers(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    onnx.checker.check_model(after)
    for batch in BATCHES:
        rows = np.random.default_rng(batch).standard_normal((batch, 5, 6), dtype=np.float32)
        np.testing.assert_allclose(answer(after, rows), answer(before, rows), rtol=1e-6, atol=1e-7)


def simplified(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy, simplify_recurrent(copy)


@pytest.mark.parametrize("dynamo", [True, False], ids=["graph exporter", "older exporter"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [(nn.LSTM, {"num_layers": 2}), (nn.GRU, {}), (nn.LSTM, {"bidirectional": True})],
    ids=["lstm", "gru", "both ways"],
)
def test_zeros_are_not_computed_with_every_request(kind, settings, dynamo, tmp_path):
    before = export(Layers(kind, **settings), tmp_path / "m.onnx", dynamo=dynamo)
    after, changes = simplified(before)
    assert changes > 0
    assert len(after.graph.node) < len(before.graph.node)
    for node in after.graph.node:
        if node.op_type in {"LSTM", "GRU"}:
            assert not any(node.input[5:7]), "the initial state is still there"
    same_answers(before, after)


def test_directions_of_a_one_way_layer_go_in_one_step(tmp_path):
    before = export(Layers(nn.LSTM, num_layers=2), tmp_path / "m.onnx", dynamo=True)
    after, _ = simplified(before)
    assert sum(n.op_type == "Reshape" for n in after.graph.node) < sum(
        n.op_type == "Reshape" for n in before.graph.node
    )


def test_a_state_that_is_not_zero_stays(tmp_path):
    before = export(Started(), tmp_path / "m.onnx", dynamo=False)
    after, _ = simplified(before)
    (layer,) = (n for n in after.graph.node if n.op_type == "GRU")
    assert layer.input[5]
    same_answers(before, after)


def test_a_model_without_such_layers_is_left_alone(tmp_path):
    class Flat(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.transpose(1, 2).reshape(rows.shape[0], 30)

    before = export(Flat(), tmp_path / "m.onnx", dynamo=True)
    after, changes = simplified(before)
    assert changes == 0
    assert after == before
