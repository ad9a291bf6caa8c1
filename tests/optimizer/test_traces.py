"""Profiles: what the runtime's own profiler says of a model, bounded and beside the report."""

import gzip
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotfish.optimizer.digest import hash_file
from pilotfish.optimizer.report import trace_worker
from pilotfish.optimizer.report.traces import Asked, profile_models
from pilotfish.optimizer.worker import Subject
from support.onnx_models import save_mlp


def subject(folder, *, kind="onnx", path=None, **fields):
    save_file({"x": np.ones((8, 16), np.float32)}, folder / "inputs.safetensors")
    return Subject(
        kind=kind,
        path=str(path or save_mlp(folder / "model.onnx")),
        threads=1,
        inputs=str(folder / "inputs.safetensors"),
        outputs=("y",),
        batched=True,
        **fields,
    )


@pytest.fixture
def profiled(tmp_path):
    def profile(role="winner", **fields):
        told = profile_models(
            [Asked(variant="v", role=role, subject=subject(tmp_path, **fields))], batch=4, folder=tmp_path
        )
        return told[0]

    profile.folder = tmp_path
    return profile


def events_of(folder, profile):
    return json.loads(gzip.decompress((folder / profile.trace.path).read_bytes()))["traceEvents"]


def test_onnx_runtime_tells_its_operators_and_warm_up_does_not_count(profiled):
    told = profiled()
    assert (told.tool, told.batch, told.problem) == ("onnxruntime", 4, None)
    assert {o.op: o.calls for o in told.operators} == {"MatMul": 2, "Relu": 1}
    assert sum(o.share for o in told.operators) == pytest.approx(1, abs=1e-5)
    runs = [e for e in events_of(profiled.folder, told) if e["name"] == "model_run"]
    assert len(runs) == told.runs
    assert hash_file(profiled.folder / told.trace.path).sha256 == told.trace.sha256


def test_openvino_tells_its_operators(profiled):
    told = profiled(kind="openvino", parameters={"INFERENCE_PRECISION_HINT": "f32"})
    assert told.tool == "openvino"
    assert told.operators
    assert all(e["ph"] == "X" and e["dur"] > 0 for e in events_of(profiled.folder, told))


@pytest.mark.torch
def test_torch_tells_its_operators(profiled):
    import torch

    path = profiled.folder / "model.pt"
    model = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.ReLU()).eval()
    torch.jit.freeze(torch.jit.trace(model, torch.ones(2, 16))).save(str(path))
    told = profiled(role="baseline", kind="torchscript", path=path, source={"inputs": [{"name": "x"}]})
    assert (told.tool, told.role) == ("torch.profiler", "baseline")
    assert {o.op for o in told.operators} & {"aten::addmm", "aten::linear"}
    assert any(e.get("cat") == "cpu_op" for e in events_of(profiled.folder, told))


def test_what_cannot_be_profiled_is_told_and_leaves_no_file(profiled):
    told = profiled(path=profiled.folder / "missing.onnx")
    assert "missing.onnx" in told.problem
    assert (told.trace, told.operators) == (None, ())
    assert list((profiled.folder / "profile").iterdir()) == []


def test_a_long_trace_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_worker, "MOST_EVENTS", 3)
    assert trace_worker.write_trace([{"name": str(n)} for n in range(4)], tmp_path / "t.gz")
    assert len(json.loads(gzip.decompress((tmp_path / "t.gz").read_bytes()))["traceEvents"]) == 3
    assert not trace_worker.write_trace([{"name": "a"}], tmp_path / "t.gz")


def test_many_types_of_operators_end_in_one_line():
    told = trace_worker.by_operator([(f"op{n}", float(n + 1)) for n in range(100)], 1)
    assert len(told) == trace_worker.MOST_OPERATORS
    assert (told[0].op, told[-1].op, told[-1].calls) == ("op99", "others", 37)
    assert sum(o.milliseconds for o in told) == sum(range(1, 101))
    assert sum(o.share for o in told) == pytest.approx(1, abs=1e-4)
