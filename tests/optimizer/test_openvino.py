"""OpenVINO as a runtime: its precision is the one that was said, its candidates are proven, nothing reports home."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from pilotfish.api.job_input import JobServing
from pilotfish.api.openvino_config import BFLOAT16, EXACT, PRECISION, serving_problem
from pilotfish.api.optimization import OptimizationSpec, Precision
from pilotfish.api.report import ArtifactRecord, Backend, ModelSignature, TensorSpec
from pilotfish.optimizer import openvino_quiet
from pilotfish.optimizer.compress import openvino as recipes
from pilotfish.optimizer.compress.graph import operators
from pilotfish.optimizer.compress.order import RefusedError
from pilotfish.optimizer.environment import has_bfloat16
from pilotfish.optimizer.openvino_runtime import OpenVinoRunner
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import Worker, WorkerError
from support.onnx_models import mlp_answers, save, save_mlp
from support.orders import difference, make_order, save_convolutions

RNG = np.random.default_rng(5)
VECTORS = {"x": RNG.standard_normal((32, 16)).astype(np.float32)}
SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(16,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(4,)),),
    batched=True,
)
OBEYED = JobServing(obeys_precision_hint=True)


@pytest.fixture
def ask(tmp_path):
    """A worker's answers for a file behind the openvino runtime."""

    def run(path, *, parameters):
        inputs = tmp_path / "inputs.safetensors"
        save_file(VECTORS, inputs)
        subject = Subject(
            kind="openvino", path=str(path), threads=1, inputs=str(inputs), outputs=("y",), batched=True,
            parameters=parameters,
        )  # fmt: skip
        with Worker(subject, work=tmp_path) as worker:
            return worker.run(batch=8)["y"]

    return run


def _error(path, precision):
    runner = OpenVinoRunner(path, threads=1, precision=precision)
    return difference(runner.run(VECTORS)["y"], mlp_answers(path, VECTORS["x"])), runner.precision


class TestPrecision:
    def test_openvino_lowers_it_by_itself_and_not_when_it_is_said(self, tmp_path):
        """The silent failure first: with nothing said, answers are bfloat16's wherever the CPU has it."""
        path = save_mlp(tmp_path / "m.onnx")
        unsaid, chosen = _error(path, None)
        assert (chosen, unsaid > 1e-4) == (("bf16", True) if has_bfloat16() else ("f32", False))

        said, exact = _error(path, "f32")
        assert (exact, said < 1e-6) == ("f32", True)
        assert OpenVinoRunner(path, threads=1, precision="f32").runtime.endswith(" f32")

    def test_a_cpu_without_it_is_told(self, tmp_path):
        """f16 is no precision of x86 CPUs: what is said and what is computed differ."""
        path = save_mlp(tmp_path / "m.onnx")
        with pytest.raises(ValueError, match="on this CPU, not in f16"):
            OpenVinoRunner(path, threads=1, precision="f16")

    @pytest.mark.parametrize("hint", [{}, {"HINT_BF16": "YES"}])
    def test_an_artifact_without_the_hint_runs_nowhere(self, tmp_path, ask, hint):
        """The worker has no precision of its own to fall back to."""
        with pytest.raises(WorkerError, match=PRECISION):
            ask(save_mlp(tmp_path / "m.onnx"), parameters=hint)

    def test_every_recipe_says_one(self, tmp_path):
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        made = {variant: make(order) for variant, _, make in _offered(bfloat16=has_bfloat16())}
        assert all(one.served_by is Backend.OPENVINO and one.parameters[PRECISION] for one in made.values())


class TestOffer:
    """Which candidates there are, with what reasons."""

    def test_none_where_gpus_serve(self):
        every = OptimizationSpec(precisions=tuple(Precision))
        assert recipes.openvino_recipes(every, JobServing(gpus=1), SIGNATURE) == []

    def test_only_the_precisions_asked_for(self):
        offered = recipes.openvino_recipes(OptimizationSpec(precisions=(Precision.FP32,)), OBEYED, SIGNATURE)
        assert [variant for variant, *_ in offered] == ["openvino-fp32"]

    @pytest.mark.parametrize(
        ("bfloat16", "obeys", "refused"), [(True, None, True), (True, True, False), (False, None, False)]
    )
    def test_single_precision_only_where_it_stays_single(self, tmp_path, monkeypatch, bfloat16, obeys, refused):
        monkeypatch.setattr(recipes, "has_bfloat16", lambda: bfloat16)
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        spec = OptimizationSpec(precisions=(Precision.FP32,))
        ((_, _, make),) = recipes.openvino_recipes(spec, JobServing(obeys_precision_hint=obeys), SIGNATURE)
        if refused:
            with pytest.raises(RefusedError, match="in bfloat16 on this CPU, unasked"):
                make(order)
        else:
            assert make(order).parameters == EXACT

    def test_bfloat16_only_where_the_cpu_has_it(self, tmp_path, monkeypatch):
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        monkeypatch.setattr(recipes, "has_bfloat16", lambda: False)
        with pytest.raises(RefusedError, match="neither AVX512_BF16 nor AMX"):
            recipes.to_openvino_bf16(order)
        monkeypatch.setattr(recipes, "has_bfloat16", lambda: True)
        assert recipes.to_openvino_bf16(order).parameters == BFLOAT16

    @pytest.mark.parametrize(
        ("tensor", "problem"),
        [
            (TensorSpec(name="rate", dtype="INT64", shape=()), "input 'rate' has no dimensions"),
            (TensorSpec(name="x", dtype="FP64", shape=(3,)), "input 'x' is FP64"),
        ],
    )
    def test_what_the_backend_cannot_serve_is_not_tried(self, tmp_path, tensor, problem):
        signature = SIGNATURE.model_copy(update={"inputs": (tensor,)})
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        assert serving_problem(signature).startswith(problem)
        for _, _, make in recipes.openvino_recipes(OptimizationSpec(), OBEYED, signature):
            with pytest.raises(RefusedError, match=problem):
                make(order)


class TestInt8:
    def test_convolutions_and_matrices_in_8_bits(self, tmp_path):
        images = {"x": RNG.random((32, 3, 8, 8)).astype(np.float32)}
        order = make_order(save_convolutions(tmp_path / "m.onnx"), images)
        made = recipes.to_openvino_int8(order)
        found = operators(order.target)
        assert found["QuantizeLinear"] >= 3
        assert found["Conv"] == 2
        runner = OpenVinoRunner(order.target, threads=1, precision=made.parameters[PRECISION])
        wanted = onnxruntime.InferenceSession(str(order.source)).run(None, images)[0]
        assert 0 < difference(runner.run(images)["y"], wanted) < 0.05

    def test_weights_alone_need_no_samples(self, tmp_path):
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS, given=False)
        made = recipes.to_openvino_int8_weights(order)
        assert operators(order.target)["DequantizeLinear"] == 2
        assert operators(order.target)["QuantizeLinear"] == 0
        runner = OpenVinoRunner(order.target, threads=1, precision=made.parameters[PRECISION])
        assert difference(runner.run(VECTORS)["y"], mlp_answers(order.source, VECTORS["x"])) < 0.03

    @pytest.mark.parametrize(("obeyed", "chosen"), [(True, EXACT), (False, BFLOAT16)])
    def test_between_an_encoder_s_products_nothing_is_rounded_where_the_server_obeys(
        self, tmp_path, monkeypatch, obeyed, chosen
    ):
        monkeypatch.setattr(recipes, "has_bfloat16", lambda: True)
        weights = [numpy_helper.from_array(RNG.standard_normal((16, 4)).astype(np.float32), "w")]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["z"], "mm"), helper.make_node("Softmax", ["z"], ["y"], "soft")]
        path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 16]}, {"y": ["n", 4]}, weights)
        serving = JobServing(obeys_precision_hint=obeyed)
        tried = recipes.openvino_recipes(OptimizationSpec(precisions=(Precision.INT8,)), serving, SIGNATURE)
        make = next(recipe for variant, _, recipe in tried if variant == "openvino-int8")
        assert make(make_order(path, VECTORS)).parameters == chosen

    def test_noise_calibrates_nothing(self, tmp_path):
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS, given=False)
        with pytest.raises(RefusedError, match=r"set spec\.model\.samples\.uri"):
            recipes.to_openvino_int8(order)

    def test_what_is_quantized_already_is_left_alone(self, tmp_path):
        order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
        recipes.to_openvino_int8(order)
        again = replace(order, source=order.target)
        for make in (recipes.to_openvino_int8, recipes.to_openvino_int8_weights):
            with pytest.raises(ValueError, match="quantized already"):
                make(again)

    def test_a_model_without_weights_says_so(self, tmp_path):
        path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 16]}, {"y": ["n", 16]})
        with pytest.raises(ValueError, match="no operator that NNCF quantizes"):
            recipes.to_openvino_int8_weights(make_order(path, VECTORS))


def test_nothing_reports_home(tmp_path):
    """In a process of its own, as the Job's: NNCF is silent inside pytest by itself."""
    source = save_mlp(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", **VECTORS)
    script = f"""
import socket, sys
def connect(self, address):
    raise SystemExit(f"connects to {{address}}")
socket.socket.connect = connect
sys.path[:0] = {[p for p in sys.path if p.endswith("tests")]!r}
import numpy as np
from pathlib import Path
from support.orders import make_order
from pilotfish.optimizer.compress.openvino import to_openvino_int8
from pilotfish.optimizer.openvino_runtime import OpenVinoRunner
order = make_order(Path({str(source)!r}), dict(np.load({str(tmp_path / "x.npz")!r})))
made = to_openvino_int8(order)
OpenVinoRunner(order.target, threads=1, precision="f32")
assert sys.modules["openvino_telemetry"] is None
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "CI": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
    assert list(home.iterdir()) == []
    assert openvino_quiet.is_silent()


def test_what_wins_is_recorded_and_configured_as_it_was_measured(local):
    """Only bfloat16 is asked for, so that nothing else can win; without it in the CPU the original serves."""
    path = save_mlp(local.folder / "m.onnx")
    np.savez(local.folder / "samples.npz", **VECTORS)
    message = local.run(
        {"uri": path.name, "samples": {"uri": "samples.npz"}},
        optimization={"precisions": ["BF16"], "batchSizes": [1], "objective": "None"},
    )
    report = local.report(message)
    tried = {c["variant"]: c for c in report["candidates"]}
    assert list(tried) == ["onnx-fp32", "openvino-bf16"]
    if not has_bfloat16():
        assert (message.artifact.variant, tried["openvino-bf16"]["verdict"]) == ("onnx-fp32", "Refused")
        return
    assert tried["openvino-bf16"]["runtime"].endswith(" bf16")
    assert 1e-4 < tried["openvino-bf16"]["error"]["maxRel"] < 2e-2
    record = message.artifact
    assert (record.variant, record.backend, record.parameters) == ("openvino-bf16", "openvino", dict(BFLOAT16))
    model = local.artifact(message) / "model_repository" / "m"
    assert (model / "1" / "model.onnx").read_bytes() == path.read_bytes()
    text = (model / "config.pbtxt").read_text()
    for line in (
        'backend: "openvino"',
        'default_model_filename: "model.onnx"',
        "max_batch_size: 0",
        'key: "HINT_BF16"',
    ):
        assert line in text


def test_records_of_before_have_no_parameters():
    record = ArtifactRecord(
        digest="sha256:" + "0" * 64,
        path="artifacts/a",
        bytes=1,
        format="ONNX",
        precision="FP32",
        variant="onnx-fp32",
        backend="onnxruntime",
    )
    assert "parameters" not in record.to_wire()
    assert ArtifactRecord.model_validate(record.to_wire()).parameters is None


def _offered(*, bfloat16):
    precisions = tuple(
        p for p in (Precision.FP32, Precision.BF16, Precision.INT8) if bfloat16 or p is not Precision.BF16
    )
    return recipes.openvino_recipes(OptimizationSpec(precisions=precisions), OBEYED, SIGNATURE)
