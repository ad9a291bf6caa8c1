"""ONNX to TFLite in TensorFlow's Python, read back by LiteRT's interpreter and compared with the original."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import ExportFormat
from pilotfish.optimizer.exports.frame import ExportShop, export_all
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.reference import ask_original
from pilotfish.optimizer.samples import generate_samples
from support.onnx_models import save
from support.tf_python import tensorflow_environment


def _conv(path):
    """Channels first, as PyTorch writes it, with two outputs in an order that is not the graph's."""
    rng = np.random.default_rng(3)
    weights = {"k": rng.normal(size=(4, 3, 3, 3)), "w": rng.normal(size=(4, 5))}
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["features"]),
        helper.make_node("MatMul", ["features", "w"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    save(path, nodes, {"image": ["n", 3, 8, 8]}, {"logits": ["n", 5], "features": ["n", 4]}, tensors)


def _shop(path, folder):
    model = load_model(identify(path, work=folder), ModelSpec(uri="x"), threads=1, recorded=None)
    samples = generate_samples(model.signature, bounds=model.bounds)
    reference = ask_original(model, samples)
    return ExportShop(model=model, samples=samples, reference=reference, onnx=path, max_batch=4, threads=1, work=folder)


@pytest.fixture
def tensorflow(monkeypatch):
    for name, value in tensorflow_environment().items():
        monkeypatch.setenv(name, value)


def test_an_image_model_is_exported_and_answers_as_the_original(tmp_path, tensorflow):
    _conv(tmp_path / "m.onnx")
    artifact = tmp_path / "artifact"
    (made,) = export_all((ExportFormat.TFLITE,), _shop(tmp_path / "m.onnx", tmp_path), artifact=artifact, say=print)

    assert made.problem is None
    assert made.runtime.startswith("litert ")
    assert made.max_rel < 1e-3
    assert (artifact / made.path).read_bytes()[4:8] == b"TFL3"
    assert made.notes == ("Outputs by their place: logits, features.",)
    assert [p.name for p in (artifact / "exports" / "tflite").iterdir()] == ["model.tflite"]


def test_without_tensorflow_the_reason_is_told(tmp_path):
    _conv(tmp_path / "m.onnx")
    artifact = tmp_path / "artifact"
    (made,) = export_all((ExportFormat.TFLITE,), _shop(tmp_path / "m.onnx", tmp_path), artifact=artifact, say=print)

    assert made.path is None
    assert "which this image has not" in made.problem


@pytest.mark.soak
def test_an_operator_that_cannot_be_exported_is_told(tmp_path, tensorflow):
    nodes = [helper.make_node("Det", ["x"], ["y"])]
    save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 3]}, {"y": ["n"]}, [])
    artifact = tmp_path / "artifact"
    (made,) = export_all((ExportFormat.TFLITE,), _shop(tmp_path / "m.onnx", tmp_path), artifact=artifact, say=print)

    assert "not supported by this interpreter" in made.problem  # its operator is TensorFlow's own
    assert not (artifact / "exports" / "tflite").exists()
