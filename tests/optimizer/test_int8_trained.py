"""What 8 bits cost networks that have learned something: accuracy on every unseen digit, before and after."""

import sys

import numpy as np
import onnxruntime
import pytest

from pilotfish.optimizer.compress.dynamic import to_int8_dynamic
from pilotfish.optimizer.compress.static import to_int8_static
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.pytorch.export_onnx import export_onnx
from pilotfish.optimizer.pytorch.infer import Entry, infer_signature
from support.models import accuracy, train_cnn, train_lstm, train_mlp, train_transformer
from support.orders import make_order

pytestmark = [pytest.mark.torch, pytest.mark.soak]
CALIBRATED = 200


@pytest.mark.parametrize("train", [train_mlp, train_cnn, train_lstm, train_transformer])
def test_8_bits_lose_less_than_a_point_of_accuracy(train, tmp_path):
    module, example, x, y = train()
    entry = Entry(inputs=(_input(example),), outputs=("logits",), bounds={})
    signature, runner = infer_signature(module, entry)
    model = LoadedModel(
        format="ExportedProgram", variant="original-torch", runner=runner, signature=signature, module=module
    )
    samples = {"x": x[:CALIBRATED]}
    source = tmp_path / "m.onnx"
    export_onnx(model, Samples(inputs=samples, labels=None, given=True, seed=0), source, max_batch=8)
    found = {"torch": accuracy(module, x, y), "onnx-fp32": _accuracy(source, x, y)}
    for name, recipe in (("onnx-int8-dynamic", to_int8_dynamic), ("onnx-int8-static", to_int8_static)):
        order = make_order(source, samples)
        recipe(order)
        found[name] = _accuracy(order.target, x, y)
    sys.stdout.write(f"{train.__name__}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()) + "\n")
    assert all(value >= found["torch"] - 0.01 for value in found.values()), found


def _input(example):
    from pilotfish.api.report import TensorSpec

    return TensorSpec(name="x", dtype="FP32", shape=tuple(example.shape[1:]))


def _accuracy(path, x, y):
    """One sample at a time, so that the range of a batch cannot help."""
    session = onnxruntime.InferenceSession(str(path))
    right = [session.run(None, {"x": x[i : i + 1]})[0].argmax() == y[i] for i in range(len(x))]
    return float(np.mean(right))
