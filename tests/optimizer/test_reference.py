"""Originals that cannot be compared with: each is recognised and named with a sentence of its own."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.load_onnx import load_onnx, settle_signature
from pilotfish.optimizer.reference import ask_original
from pilotfish.optimizer.samples import generate_samples
from support.onnx_models import save, save_mlp

WEIGHT = np.random.default_rng(2).standard_normal((16, 4)).astype(np.float32)


def _ask(path):
    model = settle_signature(load_onnx(path, threads=1), trial=None)
    return ask_original(model, generate_samples(model.signature, bounds=model.bounds))


def _fails(path):
    with pytest.raises(OptimizerError) as caught:
        _ask(path)
    return caught.value.reason, caught.value.message


def _save(path, middle, *weights):
    """x times a matrix with something between."""
    nodes = [*middle, helper.make_node("MatMul", [middle[-1].output[0], "w"], ["y"])]
    arrays = [numpy_helper.from_array(WEIGHT, "w"), *weights]
    return save(path, nodes, {"x": ["batch", 16]}, {"y": ["batch", 4]}, arrays)


def _constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def test_an_honest_model_answers_twice_alike(tmp_path):
    assert set(_ask(save_mlp(tmp_path / "m.onnx"))) == {"y"}


def test_dropout_that_is_left_on_is_named(tmp_path):
    drop = helper.make_node("Dropout", ["x", "half", "training"], ["dropped"], "drop1")
    path = _save(tmp_path / "m.onnx", [drop], _constant("half", np.float32(0.5)), _constant("training", True))
    reason, said = _fails(path)
    assert reason is Reason.MODEL_NOT_DETERMINISTIC
    assert "dropout is left on (drop1)" in said
    assert "model.eval()" in said


def test_dropout_that_is_off_is_no_problem(tmp_path):
    drop = helper.make_node("Dropout", ["x", "half", "training"], ["dropped"], "drop1")
    path = _save(tmp_path / "m.onnx", [drop], _constant("half", np.float32(0.5)), _constant("training", False))
    assert set(_ask(path)) == {"y"}


def test_random_numbers_are_named(tmp_path):
    noise = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], "noisy"),
        helper.make_node("Add", ["x", "noise"], ["sum"]),
    ]
    reason, said = _fails(_save(tmp_path / "m.onnx", noise))
    assert reason is Reason.MODEL_NOT_DETERMINISTIC
    assert "draws random numbers (RandomNormalLike noisy)" in said


def test_nan_among_the_weights_is_named_even_where_no_answer_shows_it(tmp_path):
    spoilt = WEIGHT.copy()
    spoilt[3, 1] = np.nan
    table = numpy_helper.from_array(spoilt, "embedding")
    nodes = [
        helper.make_node("Gather", ["embedding", "zero"], ["row"]),
        helper.make_node("Add", ["product", "row"], ["y"]),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
    ]
    weights = [table, numpy_helper.from_array(WEIGHT, "w"), _constant("zero", 0)]
    path = save(tmp_path / "m.onnx", [nodes[0], nodes[2], nodes[1]], {"x": ["batch", 16]}, {"y": ["batch", 4]}, weights)
    reason, said = _fails(path)
    assert reason is Reason.MODEL_INVALID
    assert "the weights 'embedding' hold NaN" in said


def test_nan_in_the_answers_alone(tmp_path):
    reason, said = _fails(_save(tmp_path / "m.onnx", [helper.make_node("Log", ["x"], ["log"])]))
    assert reason is Reason.REFERENCE_INVALID
    assert "answers NaN in output 'y' although its weights are numbers" in said


def test_an_onnx_graph_that_mixes_its_batch_is_served_without_batching(tmp_path):
    mean = [
        helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
    ]
    path = _save(tmp_path / "m.onnx", mean, _constant("first", [0]))
    model = settle_signature(load_onnx(path, threads=1), trial=None)
    assert not model.signature.batched
    assert "one sample's answer depends on the others in its batch" in model.notes[0]


@pytest.mark.torch
class TestTorch:
    """The same from PyTorch: programs that were exported in training mode."""

    @staticmethod
    def _load(module, folder):
        import torch

        from pilotfish.api.model import ModelFormat, ModelSpec
        from pilotfish.optimizer.identify import Identified
        from pilotfish.optimizer.load import load_model

        example = (torch.randn(4, 16),)
        program = torch.export.export(module.train(), example, dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, str(folder / "m.pt2"))
        found = Identified(format=ModelFormat.EXPORTED_PROGRAM, path=folder / "m.pt2", pack=None)
        spec = ModelSpec.model_validate({"uri": "s3://a/m.pt2", "trust": "Executable"})
        return load_model(found, spec, threads=1, recorded=None)

    def test_dropout_that_is_left_on_is_named(self, tmp_path):
        import torch

        module = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Dropout(0.5))
        with pytest.raises(OptimizerError, match=r"dropout is left on \(dropout\)") as caught:
            self._load(module, tmp_path)
        assert caught.value.reason is Reason.MODEL_NOT_DETERMINISTIC

    def test_samples_that_change_each_others_answers(self, tmp_path):
        import torch

        class Centred(torch.nn.Module):
            def forward(self, x):
                return x - x.mean(0, keepdim=True)

        with pytest.raises(OptimizerError, match="depends on the others in its batch") as caught:
            self._load(Centred(), tmp_path)
        assert caught.value.reason is Reason.BATCH_DEPENDENT

    def test_nan_among_the_weights(self, tmp_path):
        import torch

        module = torch.nn.Linear(16, 4)
        with torch.no_grad():
            module.weight[0, 0] = float("nan")
        model = self._load(module, tmp_path)
        with pytest.raises(OptimizerError, match=r"the weights '.*weight' hold NaN"):
            ask_original(model, generate_samples(model.signature, bounds=model.bounds))
