"""What OpenVINO's candidates cost networks that have learned something: what is within the tolerance keeps its accuracy."""

import sys

import numpy as np
import pytest

from pilotfish.api.openvino_config import PRECISION
from pilotfish.api.optimization import Precision
from pilotfish.api.report import TensorSpec
from pilotfish.optimizer.compress.openvino import to_openvino_bf16, to_openvino_int8, to_openvino_int8_weights
from pilotfish.optimizer.environment import has_bfloat16
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.openvino_runtime import OpenVinoRunner
from pilotfish.optimizer.pytorch.export_onnx import export_onnx
from pilotfish.optimizer.pytorch.infer import Entry, infer_signature
from pilotfish.optimizer.verify import bounds_for, judge, measure_error
from support.models import accuracy, train_cnn, train_lstm, train_transformer
from support.orders import make_order

pytestmark = [pytest.mark.torch, pytest.mark.soak]
RECIPES = {
    "openvino-bf16": (Precision.BF16, to_openvino_bf16),
    "openvino-int8": (Precision.INT8, to_openvino_int8),
    "openvino-int8-weights": (Precision.INT8, to_openvino_int8_weights),
}


@pytest.mark.parametrize("train", [train_cnn, train_lstm, train_transformer])
def test_what_is_accepted_loses_less_than_a_point(train, tmp_path):
    module, example, x, y = train()
    inputs = (TensorSpec(name="x", dtype="FP32", shape=tuple(example.shape[1:])),)
    signature, runner = infer_signature(module, Entry(inputs=inputs, outputs=("logits",), bounds={}))
    model = LoadedModel(
        format="ExportedProgram", variant="original-torch", runner=runner, signature=signature, module=module
    )
    samples, source = {"x": x[:200]}, tmp_path / "m.onnx"
    export_onnx(model, Samples(inputs=samples, labels=None, given=True, seed=0), source, max_batch=8)
    before, wanted, told = accuracy(module, x, y), runner.run({"x": x}), []
    for variant, (precision, recipe) in RECIPES.items():
        if precision is Precision.BF16 and not has_bfloat16():
            told.append(f"{variant} is not for this CPU")
            continue
        order = make_order(source, samples)
        made = recipe(order)
        found = OpenVinoRunner(order.target, threads=2, precision=made.parameters[PRECISION]).run({"x": x})
        after = float((found["logits"].argmax(1) == y).mean())
        error = measure_error(found, wanted, [])
        problem = judge(error, bounds_for(precision, None, given=True, batching=False))
        told.append(f"{variant} {after:.4f}, relative error {error.max_rel:.3f}{' refused' if problem else ''}")
        assert problem or after >= before - 0.01, told
        assert np.isfinite(found["logits"]).all()
    sys.stdout.write(f"{train.__name__}: torch {before:.4f}; " + "; ".join(told) + "\n")
