"""Serving settings measured on a real tritonserver, from the spec to the artifact that is then served."""

import json
import os
import stat
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pilotfish.api.job_input import JobTuning
from pilotfish.api.model_config import render_model_config
from pilotfish.api.optimization import Objective
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.api.tuning import PointVerdict, TuningSpec
from pilotfish.optimizer.local import run_local
from pilotfish.optimizer.tuning.load import LoadPlan
from pilotfish.optimizer.tuning.search import SearchPlan, TuningError
from pilotfish.optimizer.tuning.server import ControlledServer
from pilotfish.optimizer.tuning.settings import Setting
from pilotfish.optimizer.tuning.tune import TuningOrder, tune
from support.infer import grpc, infer
from support.job_pod import QUICK
from support.onnx_models import mlp_answers, save_mlp
from support.triton import install, make_backends

pytestmark = pytest.mark.triton

SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(16,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(4,)),),
    batched=True,
)
INPUTS = {"x": np.random.default_rng(3).standard_normal((32, 16)).astype(np.float32)}
FEW = SearchPlan(rounds=1, extra_rounds=0, confirmations=1)
SHORT = LoadPlan(settle_seconds=0.02, seconds=0.05, min_requests=5, max_seconds=1.0)


@pytest.fixture
def server(tmp_path, start_triton):
    (tmp_path / "models").mkdir()
    return start_triton(tmp_path / "models", controlled=True)


def make_order(server, file, **changes):
    where = JobTuning(address=f"127.0.0.1:{server.ports.grpc}", folder=str(server.repository), cores=2)

    def render(config):
        return render_model_config(name="m", backend=Backend.ONNXRUNTIME, signature=SIGNATURE, serving=config)

    order = TuningOrder(
        name="m",
        spec=TuningSpec(settings=("MaxQueueDelay",), time="2m", concurrency=8),
        objective=Objective.LATENCY,
        where=where,
        signature=SIGNATURE,
        inputs=INPUTS,
        files={"1/model.onnx": file},
        largest_batch=16,
        render=render,
        prove=lambda *_: None,
        load=SHORT,
        plan=FEW,
    )
    return replace(order, **changes)


def test_points_are_loaded_measured_and_gone(tmp_path, server):
    seen = []
    done = tune(make_order(server, save_mlp(tmp_path / "model.onnx")), lambda _, what: seen.append(what))

    default, at_once = done.report.points[:2]
    assert (default.max_queue_delay_microseconds, at_once.max_queue_delay_microseconds) == (2000, 0)
    assert default.loads[0].concurrency == 1
    assert default.loads[0].p50_ms > 2, "a single request waits out the whole delay"
    assert at_once.loads[0].requests >= 1
    assert [p.verdict for p in done.report.points].count(PointVerdict.WON) == 1
    assert len(seen) == len(done.report.points)
    assert done.report.server == "triton 2.51.0"
    assert not grpc(server).is_model_ready("m")
    assert not list(server.repository.iterdir())


def test_a_model_travels_in_the_request_where_no_folder_is_shared(tmp_path, server):
    file = save_mlp(tmp_path / "model.onnx")
    order = make_order(server, file)
    with ControlledServer(address=order.where.address, name="m", files=order.files, folder=None) as controlled:
        for setting in (Setting(instances=1), Setting(instances=2, max_batch=4)):
            controlled.load(order.render(setting.config(gpu=False)))
            answer = infer(grpc(server), triton_grpc, "m", {"x": INPUTS["x"][:3]})
            np.testing.assert_allclose(answer, mlp_answers(file, INPUTS["x"][:3]), rtol=1e-4, atol=1e-5)
        assert grpc(server).get_model_config("m").config.instance_group[0].count == 2
        assert grpc(server).is_model_ready("m")
    assert not grpc(server).is_model_ready("m")
    assert not list(server.repository.iterdir())


def test_a_server_that_is_not_there_is_told(tmp_path, server):
    order = make_order(server, save_mlp(tmp_path / "model.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(TuningError, match=r"does not serve the default settings: .*model 'm'"):
        tune(replace(order, files={"1/model.onnx": broken}), lambda *_: None)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """`tritonserver` as NVIDIA's image has it on PATH: with its own backends and libraries."""
    installation = install()
    backends = make_backends(installation, tmp_path / "backends")
    variables = " ".join(f"{key}='{value}'" for key, value in installation.environment().items())
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec env {variables} {installation.server}/bin/tritonserver --backend-directory={backends} "
        f'--backend-config=python,shm-region-prefix-name=pilotfish-test-{os.getpid()}- "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def quick(monkeypatch):
    """One short round for each load."""
    monkeypatch.setattr("pilotfish.optimizer.tuning.winner.TuningOrder", partial(TuningOrder, load=SHORT, plan=FEW))


def manifest(folder, **spec):
    save_mlp(folder / "model.onnx")
    path = folder / "m.yaml"
    body = {"kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": {"model": {"uri": "model.onnx"}, **spec}}
    path.write_text(yaml.safe_dump(body))
    return path


def test_the_artifact_is_served_as_it_was_tuned(tmp_path, on_path, quick, start_triton):
    asked = {"settings": ["MaxBatchSize", "Instances"], "time": "2m", "concurrency": 8}
    spec = {"optimization": {"tuning": asked}, "serving": {"batching": {"maxBatchSize": 4}}}
    out = tmp_path / "out"
    message = run_local(manifest(tmp_path, **spec), out, plan=QUICK)

    tuned = message.artifact.serving
    assert tuned.max_batch_size is None, "the user said it"
    assert tuned.max_queue_delay_microseconds is None, "it was not to be tuned"
    assert message.summary.tuning
    folder = out / message.artifact.path
    report = json.loads((folder / "report.json").read_text())["tuning"]
    won = report["points"][report["winner"]]
    assert (won["instances"], won["maxQueueDelayMicroseconds"]) == (tuned.instances, 2000)
    assert {p["maxBatchSize"] for p in report["points"]} == {4}
    assert all(p["loads"] and p["reason"] for p in report["points"] if p["verdict"] != "Failed")
    text = (folder / "model_repository" / "m" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.max_batch_size == 4
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert config.instance_group[0].count == tuned.instances
    assert config.parameters["intra_op_thread_count"].string_value == str(won["intraOpThreads"])
    server = start_triton(folder / "model_repository", name="serving").wait_ready("m")
    answer = infer(grpc(server), triton_grpc, "m", {"x": INPUTS["x"][:4]})
    np.testing.assert_allclose(answer, mlp_answers(tmp_path / "model.onnx", INPUTS["x"][:4]), rtol=1e-4, atol=1e-5)


def test_an_address_asks_for_tuning(tmp_path, server, quick, monkeypatch):
    asked = TuningSpec(settings=("PreferredSizes",), concurrency=4)
    monkeypatch.setattr("pilotfish.optimizer.tuning.at_hand.TuningSpec", lambda: asked)
    path = manifest(tmp_path)
    message = run_local(path, tmp_path / "out", plan=QUICK, triton=f"127.0.0.1:{server.ports.grpc}")
    assert message.artifact.serving is not None
    untuned = run_local(path, tmp_path / "out", plan=QUICK)
    assert untuned.artifact.serving is None
    assert untuned.artifact.path != message.artifact.path


@pytest.mark.soak
@pytest.mark.torch
@pytest.mark.parametrize("objective", ["Latency", "Throughput"])
def test_resnet18_is_served_better_than_by_default(tmp_path, on_path, objective, capsys):
    """A real network with the whole time: the figures are printed, the default must not be better."""
    from support.families import optimize

    done = optimize(
        "resnet18", tmp_path / "work", formats=["ONNX"], precisions=["FP32"], objective=objective, tuning={"time": "2m"}
    )
    report = json.loads((done.artifact / "report.json").read_text())["tuning"]
    default, won = report["points"][0], report["points"][report["winner"]]
    lines = [f"{objective}: {len(report['points'])} points in {report['seconds']} s, complete {report['complete']}"]
    for point in (default, won):
        lines += [str({key: value for key, value in point.items() if key not in {"loads", "reason"}})]
        lines += [str(load) for load in point["loads"]]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, report["why"], ""]))
    assert done.message.artifact.serving is not None
    assert len(report["points"]) >= 2, "OpenVINO has no batcher to tune"
    level = 0 if objective == "Latency" else -1
    figure = "p95Ms" if objective == "Latency" else "throughput"
    better = default["loads"][level][figure] / won["loads"][level][figure]
    assert (better if objective == "Latency" else 1 / better) >= 1
