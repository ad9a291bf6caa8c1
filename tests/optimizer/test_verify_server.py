"""`pilotfish-job verify` against real servers: who passes, who does not and with which sentence, who could not be asked."""

import io
import os
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from pilotfish.api.job_input import VerifyInput
from pilotfish.api.optimization import Precision
from pilotfish.api.report import ModelSignature, OptimizerReason, Outcome, TensorSpec
from pilotfish.api.tolerance import Tolerance
from pilotfish.optimizer import verify_server
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.progress import VERIFY_STAGES, Progress
from pilotfish.optimizer.verify_server import find_addresses, load_golden, verify_servers
from support.builders import make_artifact
from support.onnx_models import save_mlp
from support.repository import BIAS, WEIGHT, expected, linear_onnx, make_config, scalars_onnx, serialize, write_model
from support.triton import TritonServer, free_port

LINEAR = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(4,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),),
    batched=True,
)
X = np.random.default_rng(5).standard_normal((40, 4)).astype(np.float32)


@dataclass
class Bench:
    """A store with a golden set, and servers that claim to have its model loaded."""

    folder: object
    servers: list = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def store(self):
        return self.folder / "store"

    def golden(self, inputs, outputs, *, path="artifacts/recipe00"):
        folder = self.store / path / "golden"
        folder.mkdir(parents=True)
        save_file(inputs, folder / "inputs.safetensors")
        save_file(outputs, folder / "outputs.safetensors")
        return folder_digest(hash_folder(folder))

    def serve(self, model, *, config=None, name="linear"):
        number = len(self.servers)
        repository = write_model(self.folder / f"models{number}", name, config or make_config(name), model)
        server = TritonServer(repository=repository, scratch=self.folder / f"server{number}")
        self.servers.append(self.stack.enter_context(server).wait_ready(name))
        return self.servers[-1]

    def order(self, **changes):
        told = {"model": "linear", "host": "unused", "pods": max(1, len(self.servers)), "artifact": make_artifact()}
        return VerifyInput(**{**told, "signature": LINEAR, "wait_seconds": 5, **changes})

    def verify(self, **changes):
        log = Progress(VERIFY_STAGES, out=io.StringIO())
        return verify_servers(self.order(**changes), store=self.store, resolve=self.addresses, progress=log)

    def addresses(self, _order=None):
        return tuple(server.grpc_url for server in self.servers)

    def failure(self, **changes):
        with pytest.raises(OptimizerError) as caught:
            self.verify(**changes)
        return caught.value


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    with made.stack:
        yield made


@pytest.fixture
def linear(bench):
    bench.golden({"x": X}, {"y": expected(X)})
    return bench


def make_linear(*, weight=WEIGHT, bias=BIAS, nodes=None, output="y"):
    nodes = nodes or [helper.make_node("Gemm", ["x", "weight", "bias"], [output])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return serialize(graph)


def depends_on_its_batch():
    """Right for one sample at a time; in a batch every sample moves with the others."""
    return make_linear(
        nodes=[
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["apart"]),
            helper.make_node("Add", ["x", "apart"], ["moved"]),
            helper.make_node("Gemm", ["moved", "weight", "bias"], ["y"]),
        ]
    )


@pytest.mark.triton
class TestRealServers:
    def test_a_good_model_passes_with_its_figures(self, linear):
        linear.serve(linear_onnx())
        linear.serve(linear_onnx())
        told = linear.verify()
        assert told.outcome is Outcome.SUCCEEDED
        found = told.verification
        assert (found.pods, found.samples, found.batches) == (2, 32, (1, 2, 8))
        assert float(found.relative_error) < 1e-6
        assert float(found.batch_parity) < 1e-6
        assert (found.cosine, found.top1_agreement) == ("1", "1")
        assert "2 pods answer 32 samples of model linear like the original in batches of 1, 2, 8" in told.message

    @pytest.mark.parametrize(
        ("model", "width", "sentence"),
        [
            (make_linear(weight=WEIGHT * np.float32(1.5)), 3, "output 'y' of pod 1 of 1: relative error 0."),
            (make_linear(weight=np.hstack([WEIGHT] * 2), bias=np.hstack([BIAS] * 2)), 6, "pod 1 of 1: output 'y' has shape [32, 6] instead of [32, 3]"),
            (make_linear(bias=np.array([0, np.nan, 0], np.float32)), 3, "pod 1 of 1: output 'y' holds NaN"),
            (depends_on_its_batch(), 3, "output 'y' of pod 1 of 1: difference between batch sizes"),
        ],
        ids=["weights", "shape", "nan", "batch"],
    )  # fmt: skip
    def test_a_model_that_answers_otherwise_fails_with_its_sentence(self, linear, model, width, sentence):
        linear.serve(model, config=make_config("linear").replace("dims: [ 3 ]", f"dims: [ {width} ]"))
        error = linear.failure()
        assert error.reason is OptimizerReason.VERIFICATION_FAILED
        assert error.exit_code == 10
        assert error.message.startswith(sentence)
        assert "127.0.0.1" not in error.message

    def test_one_wrong_pod_among_good_ones_is_found_and_counted(self, linear):
        linear.serve(linear_onnx())
        linear.serve(make_linear(bias=BIAS + 1))
        assert linear.failure().message.startswith("output 'y' of pod 2 of 2: relative error")

    def test_a_declared_output_that_is_missing_fails(self, linear):
        linear.serve(make_linear(output="z"), config=make_config("linear").replace('"y"', '"z"'))
        assert linear.failure().message == "pod 1 of 1: it has no output 'y'"

    def test_an_error_in_place_of_an_answer_fails(self, linear):
        linear.serve(linear_onnx())
        wrong = LINEAR.model_copy(update={"inputs": (TensorSpec(name="x", dtype="FP32", shape=(5,)),)})
        (linear.store / "artifacts/recipe00/golden").rename(linear.store / "away")
        linear.golden({"x": np.hstack([X, X])[:, :5]}, {"y": expected(X)})
        error = linear.failure(signature=wrong)
        assert error.reason is OptimizerReason.VERIFICATION_FAILED
        assert "pod 1 of 1 answers with an error" in error.message

    def test_the_users_tolerance_counts_and_is_named(self, linear):
        linear.serve(make_linear(weight=WEIGHT * np.float32(1.001)))
        assert "the default for this precision" in linear.failure().message
        field_name = "spec.rollout.verification.tolerance"
        loose, tight = Tolerance(max_abs="0.1"), Tolerance(max_abs="1e-9")
        assert linear.verify(tolerance=loose, tolerance_field=field_name).outcome is Outcome.SUCCEEDED
        error = linear.failure(tolerance=tight, tolerance_field=field_name)
        assert "(spec.rollout.verification.tolerance.maxAbs)" in error.message

    def test_the_bounds_are_those_of_the_artifacts_precision(self, linear):
        linear.serve(make_linear(weight=WEIGHT * np.float32(1.02)))
        assert linear.failure().reason is OptimizerReason.VERIFICATION_FAILED
        int8 = make_artifact().model_copy(update={"precision": Precision.INT8})
        assert linear.verify(artifact=int8).outcome is Outcome.SUCCEEDED

    def test_scalars_and_models_without_a_batch(self, bench):
        signature = ModelSignature(
            inputs=(
                TensorSpec(name="values", dtype="FP32", shape=(-1,)),
                TensorSpec(name="times", dtype="INT64", shape=()),
            ),
            outputs=(TensorSpec(name="total", dtype="FP32", shape=()),),
            batched=False,
        )
        times = np.arange(40, dtype=np.int64)
        bench.golden({"values": X, "times": times}, {"total": (X.sum(axis=1) * times).astype(np.float32)})
        config = """
name: "scalars"
backend: "onnxruntime"
max_batch_size: 0
input { name: "values" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "times" data_type: TYPE_INT64 dims: [ 1 ] }
output { name: "total" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
        bench.serve(scalars_onnx(), config=config, name="scalars")
        found = bench.verify(model="scalars", signature=signature).verification
        assert (found.samples, found.batches, found.batch_parity) == (32, (1,), None)

    def test_ta18_ready_means_ready_and_one_inference_answered(self, linear):
        """A pod that says READY and then does not answer is neither verified nor the model's failure."""
        server = linear.serve(linear_onnx())

        class Ends(io.StringIO):
            def write(self, text):
                if "batch 1" in text and server.process.poll() is None:
                    os.killpg(server.process.pid, signal.SIGKILL)
                    server.process.wait()
                return super().write(text)

        with pytest.raises(OptimizerError) as caught:
            verify_servers(
                linear.order(),
                store=linear.store,
                resolve=linear.addresses,
                progress=Progress(VERIFY_STAGES, out=Ends()),
            )
        assert caught.value.reason is OptimizerReason.VERIFICATION_ERROR
        assert caught.value.exit_code == 1
        assert caught.value.message == "pod 1 of 1 did not answer (UNAVAILABLE); see its log"

    def test_ta18_a_pod_that_is_not_ready_is_waited_for_and_then_no_failure_of_the_model(self, linear):
        server = linear.serve(linear_onnx())
        looks = []

        def resolve(_order):
            looks.append(1)
            return (server.grpc_url,) if len(looks) > 1 else ()

        done = verify_servers(linear.order(), store=linear.store, resolve=resolve)
        assert done.outcome is Outcome.SUCCEEDED
        error = linear.failure(pods=2, wait_seconds=0)
        assert (error.reason, error.exit_code) == (OptimizerReason.VERIFICATION_ERROR, 1)
        assert error.message.startswith("1 of 2 pods say that the model is ready after 0 s")
        assert "0 of 1 pods" in linear.failure(model="another", wait_seconds=0).message

    def test_the_command_verifies_what_the_optimizer_made(self, pod, bench, capsys):
        save_mlp(pod.source / "model.onnx")
        pod.job({"uri": "pvc://claim/model.onnx"}, serving={"maxBatchSize": 4, "cpuThreads": 1})
        assert pod.command("fetch")[0] == 0
        code, made = pod.command("optimize")
        assert code == 0
        assert made.artifact.golden is not None
        repository = pod.store / made.artifact.path / "model_repository"
        server = bench.stack.enter_context(TritonServer(repository=repository, scratch=bench.folder / "server"))
        server.wait_ready("m")
        order = VerifyInput(
            model="m",
            host="127.0.0.1",
            port=server.ports.grpc,
            pods=1,
            artifact=made.artifact,
            signature=made.signature,
        )
        pod.environment.setenv("PILOTFISH_VERIFY", order.to_json())
        capsys.readouterr()
        code, told = pod.command("verify")
        assert (code, told.outcome) == (0, Outcome.SUCCEEDED)
        assert told.verification.batches == (1, 2, 4)
        log = capsys.readouterr().out
        assert all(word in log for word in ("pod 1 of 1: batch 1", "batch 3 filled up to 4", "100 %"))

        changed = pod.store / made.artifact.path / "golden" / "outputs.safetensors"
        changed.write_bytes(changed.read_bytes()[:-4] + b"\0\0\0\0")
        code, told = pod.command("verify")
        assert (code, told.reason) == (10, OptimizerReason.ARTIFACT_DIGEST_MISMATCH)
        assert pod.command("fetch")[1].reason is OptimizerReason.SUCCEEDED, (
            "a changed golden set is no finished artifact"
        )


def test_a_server_that_is_down_is_no_failure_of_the_model(linear, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(OptimizerError) as caught:
        verify_servers(linear.order(wait_seconds=1), store=linear.store, resolve=lambda _: (address,))
    assert (caught.value.reason, caught.value.exit_code) == (OptimizerReason.VERIFICATION_ERROR, 1)
    assert "0 of 1 pods say that the model is ready after 1 s" in caught.value.message


def test_a_service_without_a_name_yet_has_no_pods(bench):
    assert find_addresses(bench.order(host="no-such-name.invalid")) == ()


def test_every_address_of_the_name_is_asked_once(bench, monkeypatch):
    stream, four, six = socket.SOCK_STREAM, socket.AF_INET, socket.AF_INET6
    found = [
        (six, stream, 6, "", ("fd00::1", 8001, 0, 0)),
        (four, stream, 6, "", ("10.0.0.2", 8001)),
        (four, stream, 6, "", ("10.0.0.1", 8001)),
        (four, stream, 6, "", ("10.0.0.1", 8001)),
    ]
    monkeypatch.setattr(verify_server.socket, "getaddrinfo", lambda *_, **__: found)
    assert find_addresses(bench.order()) == ("10.0.0.1:8001", "10.0.0.2:8001", "[fd00::1]:8001")


class TestGoldenSet:
    def load(self, bench, tmp_path, **changes):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        return load_golden(bench.order(**changes), store=bench.store, scratch=scratch)

    def test_it_is_the_recorded_one(self, bench, tmp_path):
        digest = bench.golden({"x": X}, {"y": expected(X)})
        known = make_artifact().model_copy(update={"golden": digest})
        golden = self.load(bench, tmp_path, artifact=known)
        assert golden.inputs["x"].shape == (32, 4)
        np.testing.assert_array_equal(golden.outputs["y"], expected(X)[:32])

    def test_another_one_is_refused_with_both_digests(self, bench, tmp_path):
        digest = bench.golden({"x": X}, {"y": expected(X) + 1})
        other = "sha256:" + "d" * 64
        with pytest.raises(OptimizerError) as caught:
            self.load(bench, tmp_path, artifact=make_artifact().model_copy(update={"golden": other}))
        assert caught.value.reason is OptimizerReason.ARTIFACT_DIGEST_MISMATCH
        assert digest in caught.value.message
        assert other in caught.value.message

    def test_one_of_before_digests_were_recorded_is_taken_as_it_is(self, linear, tmp_path):
        assert self.load(linear, tmp_path).inputs["x"].shape == (32, 4)

    @pytest.mark.parametrize("inputs", [None, {"z": X}])
    def test_without_it_nothing_is_verified(self, bench, tmp_path, inputs):
        if inputs is not None:
            bench.golden(inputs, {"y": expected(X)})
        with pytest.raises(OptimizerError) as caught:
            self.load(bench, tmp_path)
        assert caught.value.reason is OptimizerReason.ARTIFACT_MISSING
        assert "golden set" in caught.value.message


def test_batches_stop_growing_where_the_job_has_no_memory_for_them(monkeypatch):
    golden = verify_server.Golden(inputs={"x": X[:2]}, outputs={"y": expected(X[:2])})
    assert verify_server._largest_batch(golden, 8) == 8
    monkeypatch.setattr(verify_server, "MOST_REQUEST_BYTES", 28 * 3)
    assert verify_server._largest_batch(golden, 8) == 3
    monkeypatch.setattr(verify_server, "MOST_REQUEST_BYTES", 1)
    assert verify_server._largest_batch(golden, 8) == 1
    assert verify_server._largest_batch(golden, 0) == 1


def test_an_artifact_path_that_climbs_is_refused(bench):
    with pytest.raises(ValueError, match="must stay inside the store"):
        bench.order(artifact=make_artifact().model_copy(update={"path": "artifacts/../../etc"}))
