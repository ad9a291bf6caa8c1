"""Exporters, quantizers and runtimes that report success for something useless: ours notices, or avoids it.

Where it is cheap, the failure is shown with the library alone before our code is driven into the same condition: when
upstream mends it, that half fails and the guard may go.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

from pilotfish.api.optimization import Precision
from pilotfish.api.report import ModelSignature, OptimizerReason, TensorSpec
from pilotfish.optimizer.compress.dynamic import to_int8_dynamic
from pilotfish.optimizer.compress.graph import operators
from pilotfish.optimizer.compress.half import to_fp16
from pilotfish.optimizer.compress.static import to_int8_static
from pilotfish.optimizer.compress.weights import to_int8_weights
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.load_onnx import load_onnx
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.onnx_runtime import OnnxRunner
from pilotfish.optimizer.verify import bounds_for, judge, measure_error, other_batches
from pilotfish.optimizer.worker import run_all
from support.onnx_models import save, save_mlp
from support.orders import constants, make_order, save_convolutions

RNG = np.random.default_rng(3)
IMAGES = {"x": RNG.random((32, 3, 8, 8)).astype(np.float32)}
VECTORS = {"x": RNG.standard_normal((32, 16)).astype(np.float32)}


def _weight(name, *shape):
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


class TestQuantizers:
    def test_dynamic_quantization_turns_convolutions_into_slow_ones_by_default(self, tmp_path):
        order = make_order(save_convolutions(tmp_path / "m.onnx"), IMAGES)
        quantize_dynamic(str(order.prepared()), str(tmp_path / "default.onnx"))
        assert operators(tmp_path / "default.onnx")["ConvInteger"] == 2
        to_int8_dynamic(order)
        ours = operators(order.target)
        assert (ours["ConvInteger"], ours["Conv"], ours["MatMulInteger"]) == (0, 2, 1)

    def test_static_defaults_are_signed_and_one_scale_for_a_tensor(self, tmp_path):
        order = make_order(save_convolutions(tmp_path / "m.onnx"), IMAGES)

        class Calls:
            calls = order.calibration()

            def get_next(self):
                return next(self.calls, None)

        quantize_static(str(order.prepared()), str(tmp_path / "default.onnx"), Calls())
        assert self._scheme(tmp_path / "default.onnx") == ({"int8"}, {0})
        to_int8_static(order)
        assert self._scheme(order.target) == ({"uint8"}, {1})

    @staticmethod
    def _scheme(path):
        """Types of activations, and numbers of dimensions of the weights' scales."""
        graph, arrays = onnx.load(path).graph, constants(path)
        pairs = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in arrays]
        dtypes = {str(arrays[n.input[2]].dtype) for n in pairs}
        return dtypes, {arrays[n.input[1]].ndim for n in weights if arrays[n.input[0]].ndim == 4}

    def test_dynamic_quantization_dies_of_shapes_that_exporters_leave_behind(self, tmp_path):
        source = save(
            tmp_path / "m.onnx", [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
            {"x": ["batch", 16]}, {"y": ["batch", 4]}, [_weight("w", 4, 16)],
        )  # fmt: skip
        model = onnx.load(source)
        model.graph.value_info.append(helper.make_tensor_value_info("w", 1, [4, 16]))
        onnx.save(model, source)
        with pytest.raises(Exception, match="Inferred shape and existing shape differ"):
            quantize_dynamic(str(source), str(tmp_path / "default.onnx"), weight_type=QuantType.QInt8)
        order = make_order(source, VECTORS)
        to_int8_dynamic(order)
        assert operators(order.target)["MatMulInteger"] == 1

    def test_weight_quantization_reports_success_and_changes_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="are 2% of the weights"):
            to_int8_weights(make_order(save_convolutions(tmp_path / "m.onnx"), IMAGES))
        (tmp_path / "other").mkdir()
        source = save(
            tmp_path / "other" / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])],
            {"x": ["batch", 16]}, {"y": [1, "batch", 4]}, [_weight("w", 1, 16, 4)],
        )  # fmt: skip
        with pytest.raises(ValueError, match="changed no operator"):
            to_int8_weights(make_order(source, VECTORS))

    def test_dynamic_int8_depends_on_the_other_samples_of_a_batch(self, tmp_path):
        """One loud sample in the batch leaves few of the 8 bits for the quiet ones."""
        inputs = {"x": VECTORS["x"] * np.where(np.arange(32) % 8 == 0, 100, 1)[:, None].astype(np.float32)}
        order = make_order(save_mlp(tmp_path / "m.onnx"), inputs)
        to_int8_dynamic(order)
        single, *batches = self._answers(order.target, inputs)
        error = measure_error(single, self._answers(order.source, inputs)[0], batches)
        assert error.max_rel < 0.05, "one by one it is fine"
        said = judge(error, bounds_for(Precision.INT8, None, given=False, batching=True))
        assert "difference between batch sizes" in said
        to_int8_static(order)
        single, *batches = self._answers(order.target, inputs)
        assert measure_error(single, single, batches).batch_parity == 0

    @staticmethod
    def _answers(path, inputs):
        runner = OnnxRunner(path, threads=1)
        sizes = [(1, 0), *other_batches(8)]
        return [run_all(runner, inputs, batch=b, pad_to=p, batched=True) for b, p in sizes]

    @pytest.mark.parametrize("recipe", [to_fp16, to_int8_dynamic, to_int8_static, to_int8_weights])
    def test_what_recipes_write_can_be_read_by_old_servers(self, recipe, tmp_path):
        """Libraries write their own newest file format and raise opsets; a server knows what it was built with."""
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        old = onnx.load(order.source)
        old.opset_import[0].version = 11
        old.ir_version = 6
        onnx.save(old, order.source)
        recipe(order)
        made = onnx.load(order.target)
        assert made.ir_version <= 10
        assert all(o.version <= 20 for o in made.opset_import if o.domain in {"", "ai.onnx"})
        assert OnnxRunner(order.target, threads=1).run(VECTORS)["y"].shape == (32, 4)


class TestFilesThatDoNotRun:
    def test_a_static_batch_is_read_back_from_the_file(self, tmp_path):
        from pilotfish.optimizer.pytorch.export_onnx import check_written

        path = save_mlp(tmp_path / "m.onnx", batch=1)
        signature = ModelSignature(
            inputs=(TensorSpec(name="x", dtype="FP32", shape=(16,)),),
            outputs=(TensorSpec(name="y", dtype="FP32", shape=(4,)),),
            batched=True,
        )
        samples = Samples(inputs=VECTORS, labels=None, given=True, seed=0)
        with pytest.raises(ValueError, match=r"came out fixed as \[1, 16\]"):
            check_written(path, signature, samples, max_batch=8)
        check_written(save_mlp(tmp_path / "free.onnx"), signature, samples, max_batch=8)

    def test_bfloat16_exports_and_does_not_load(self, tmp_path):
        bf16 = onnx.TensorProto.BFLOAT16
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "w"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", bf16, ["batch", 2])],
            [helper.make_tensor_value_info("y", bf16, ["batch", 2])],
            [helper.make_tensor("w", bf16, [2, 2], [1, 0, 0, 1])],
        )
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        onnx.checker.check_model(str(path))
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
            onnxruntime.InferenceSession(str(path))
        with pytest.raises(OptimizerError, match=r"ONNX Runtime cannot load m\.onnx") as caught:
            load_onnx(path, threads=1)
        assert caught.value.reason is OptimizerReason.MODEL_INVALID


@pytest.mark.torch
@pytest.mark.slow
class TestExporters:
    @pytest.fixture(scope="class")
    def lstm(self):
        """Batch and sequence free, as a user's signature may say."""
        import torch

        from pilotfish.optimizer.pytorch.runtime import TorchRunner

        torch.manual_seed(0)

        class Rows(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = torch.nn.LSTM(4, 8, batch_first=True)

            def forward(self, rows):
                return self.lstm(rows)[0]

        module = Rows().eval()
        rows = TensorSpec(name="rows", dtype="FP32", shape=(-1, 4), example=(6, 4))
        states = TensorSpec(name="states", dtype="FP32", shape=(-1, 8))
        return LoadedModel(
            format="StateDict",
            variant="original-torch",
            runner=TorchRunner(module, inputs=["rows"], outputs=["states"]),
            signature=ModelSignature(inputs=(rows,), outputs=(states,), batched=True),
            module=module,
        )

    def test_an_lstm_from_a_batch_of_one_is_exported_static(self, lstm, tmp_path, monkeypatch):
        import torch

        from pilotfish.optimizer.pytorch import export_onnx

        samples = Samples(
            inputs={"rows": RNG.standard_normal((8, 6, 4)).astype(np.float32)}, labels=None, given=True, seed=0
        )
        monkeypatch.setattr(export_onnx, "_EXAMPLE_BATCH", 1)
        target = tmp_path / "model.onnx"
        notes = export_onnx.export_onnx(lstm, samples, target, max_batch=8)
        assert "graph exporter: " in notes[0], "the newer exporter's file was not taken"
        for batch, length in ((1, 6), (3, 6), (8, 11)):
            rows = RNG.standard_normal((batch, length, 4)).astype(np.float32)
            found = OnnxRunner(target, threads=1).run({"rows": rows})["states"]
            with torch.no_grad():
                np.testing.assert_allclose(found, lstm.module(torch.from_numpy(rows)).numpy(), atol=1e-5)
        made = onnx.load(target)
        assert made.ir_version <= 10
        assert made.opset_import[0].version == export_onnx.OPSET, "exporters deliver another opset than was asked for"

    def test_an_output_named_like_something_inside_makes_a_file_that_does_not_load(self, tmp_path):
        import torch

        from pilotfish.optimizer.pytorch.export_onnx import export_onnx
        from pilotfish.optimizer.pytorch.runtime import TorchRunner

        class Mean(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Embedding(10, 4)
                self.head = torch.nn.Linear(4, 2)

            def forward(self, ids):
                return self.head(self.table(ids).mean(1))

        module = Mean().eval()
        ids = TensorSpec(name="ids", dtype="INT64", shape=(5,))
        model = LoadedModel(
            format="StateDict",
            variant="original-torch",
            runner=TorchRunner(module, inputs=["ids"], outputs=["embedding"]),
            signature=ModelSignature(
                inputs=(ids,), outputs=(TensorSpec(name="embedding", dtype="FP32", shape=(2,)),), batched=True
            ),
            module=module,
        )
        inputs = {"ids": RNG.integers(0, 10, (8, 5))}
        samples = Samples(inputs=inputs, labels=None, given=True, seed=0)
        notes = export_onnx(model, samples, tmp_path / "model.onnx", max_batch=4)
        assert "Duplicate definition of name" in notes[0]
        found = OnnxRunner(tmp_path / "model.onnx", threads=1).run(inputs)["embedding"]
        np.testing.assert_allclose(found, model.runner.run(inputs)["embedding"], atol=1e-5)

    def test_what_optimize_for_inference_saves_cannot_be_loaded(self, tmp_path, monkeypatch):
        import torch

        from pilotfish.optimizer.pytorch import export_torchscript
        from pilotfish.optimizer.pytorch.runtime import TorchRunner

        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
        image = TensorSpec(name="x", dtype="FP32", shape=(3, 8, 8))
        out = TensorSpec(name="y", dtype="FP32", shape=(4, 6, 6))
        model = LoadedModel(
            format="StateDict",
            variant="original-torch",
            runner=TorchRunner(module, inputs=["x"], outputs=["y"]),
            signature=ModelSignature(inputs=(image,), outputs=(out,), batched=True),
            module=module,
        )
        samples = Samples(inputs=IMAGES, labels=None, given=True, seed=0)
        target = tmp_path / "model.pt"
        export_torchscript.export_torchscript(model, samples, target, max_batch=4)
        torch.jit.load(str(target))
        frozen = torch.jit.freeze
        monkeypatch.setattr(torch.jit, "freeze", lambda m: torch.jit.optimize_for_inference(frozen(m)))
        with pytest.raises(ValueError, match="required keyword attribute 'value'"):
            export_torchscript.export_torchscript(model, samples, target, max_batch=4)
