"""Exports for elsewhere: read back, compared with the original, reported; none of them ever fails the run."""

from types import SimpleNamespace

import numpy as np
import pytest

from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import ExportFormat
from pilotfish.api.report import TensorSpec
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.exports import frame
from pilotfish.optimizer.exports.frame import ExportShop, Written, export_all
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.reference import ask_original
from pilotfish.optimizer.samples import generate_samples
from support.onnx_models import mlp_answers, save_mlp


@pytest.fixture
def shop(tmp_path):
    path = save_mlp(tmp_path / "m.onnx")
    model = load_model(identify(path, work=tmp_path), ModelSpec(uri="x"), threads=1, recorded=None)
    samples = generate_samples(model.signature, bounds=model.bounds)
    reference = ask_original(model, samples)
    return ExportShop(
        model=model, samples=samples, reference=reference, onnx=path, max_batch=4, threads=1, work=tmp_path
    )


def _made(shop, wanted):
    (made,) = export_all((wanted,), shop, artifact=shop.work / "artifact", say=lambda _: None)
    return made


def test_openvino_s_own_files_answer_like_the_original(shop):
    made = _made(shop, ExportFormat.OPENVINO)
    folder = shop.work / "artifact" / "exports" / "openvino"
    assert (made.problem, made.path) == (None, "exports/openvino/model.xml")
    assert made.runtime.startswith("openvino ")
    assert made.max_rel < 1e-6
    assert made.digest == folder_digest(hash_folder(folder))
    assert made.bytes == sum(file.stat().st_size for file in folder.iterdir())

    import openvino as ov

    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    compiled = ov.Core().compile_model(str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled({"x": x})["y"], mlp_answers(shop.onnx, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wanted", [ExportFormat.EXPORTED_PROGRAM, ExportFormat.AOT_INDUCTOR])
def test_what_did_not_come_from_pytorch_has_none_of_pytorchs(shop, wanted):
    made = _made(shop, wanted)
    assert (made.path, made.bytes) == (None, None)
    assert made.problem.startswith("only a model that came from PyTorch")
    assert not (shop.work / "artifact" / "exports" / wanted.value.lower()).exists()


def test_a_file_that_answers_something_else_is_no_export(shop, monkeypatch):
    def write(_shop, folder):
        save_mlp(folder / "model.onnx", seed=9)
        return Written(main=folder / "model.onnx")

    made = _with_module(shop, monkeypatch, write)
    assert made.problem.startswith("read back, its answers are not the original's")
    assert made.path is None


def test_a_runtime_that_dies_takes_nothing_with_it(shop, monkeypatch):
    def write(_shop, folder):
        (folder / "model.xml").write_text("<net/>")
        return Written(main=folder / "model.xml")

    made = _with_module(shop, monkeypatch, write)
    assert made.problem.startswith("read back, it does not load or run")


def test_a_converter_that_breaks_is_told_and_the_next_one_runs(shop, monkeypatch):
    def write(_shop, _folder):
        raise KeyError("layer7")

    real = frame._module
    broken = SimpleNamespace(write=write)
    monkeypatch.setattr(frame, "_module", lambda f: broken if f is ExportFormat.TFLITE else real(f))
    wanted = (ExportFormat.TFLITE, ExportFormat.OPENVINO)
    first, second = export_all(wanted, shop, artifact=shop.work / "artifact", say=lambda _: None)
    assert first.problem == "KeyError: 'layer7'"
    assert second.problem is None


def test_a_run_lists_them_beside_the_repository(local):
    path = save_mlp(local.folder / "m.onnx")
    message = local.run({"uri": path.name}, optimization={"batchSizes": [1], "exports": ["AOTInductor", "OpenVINO"]})
    first, second = local.report(message)["exports"]
    assert (first["format"], "only a model that came from PyTorch" in first["problem"]) == ("AOTInductor", True)
    assert (local.artifact(message) / second["path"]).is_file()
    assert second["maxRel"] < 1e-6
    served = [f.path for f in hash_folder(local.artifact(message) / "model_repository")]
    assert not any("model.xml" in file for file in served)


@pytest.fixture
def torch_shop(tmp_path):
    """The same with a PyTorch module of two inputs, one of them not in the middle of the graph."""
    import torch

    from pilotfish.optimizer.pytorch.infer import Entry, infer_signature

    class Gate(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(6, 3)

        def forward(self, values, gate):
            return torch.relu(self.layer(values)) * gate

    torch.manual_seed(2)
    inputs = tuple(TensorSpec(name=n, dtype="FP32", shape=s) for n, s in (("values", (6,)), ("gate", (3,))))
    signature, runner = infer_signature(Gate().eval(), Entry(inputs=inputs, outputs=("y",), bounds={}))
    model = LoadedModel(
        format="ExportedProgram", variant="original-torch", runner=runner, signature=signature, module=runner._module
    )
    samples = generate_samples(signature, bounds={})
    return ExportShop(
        model=model,
        samples=samples,
        reference=ask_original(model, samples),
        onnx=None,
        max_batch=4,
        threads=1,
        work=tmp_path,
    )


@pytest.mark.torch
def test_an_exported_program_holds_no_pickle_and_any_batch(torch_shop, tmp_path):
    import torch

    from pilotfish.optimizer.pt2_scan import write_clean

    made = _made(torch_shop, ExportFormat.EXPORTED_PROGRAM)
    assert made.problem is None
    file = tmp_path / "artifact" / made.path
    write_clean(file, tmp_path / "clean.pt2")  # raises where anything in it could run code
    module = torch.export.load(file).module()
    for batch in (1, 5):
        assert module(torch.ones(batch, 6), torch.ones(batch, 3)).shape == (batch, 3)
    assert _made(torch_shop, ExportFormat.OPENVINO).problem.endswith("this model could not be converted to ONNX")


@pytest.mark.torch
@pytest.mark.soak
def test_compiled_code_for_this_cpu(torch_shop, monkeypatch):
    made = _made(torch_shop, ExportFormat.AOT_INDUCTOR)
    assert (made.problem, made.max_rel < 1e-5) == (None, True)
    assert "CPUs of this kind" in made.notes[0]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert _made(torch_shop, ExportFormat.AOT_INDUCTOR).problem.startswith("AOTInductor compiles C++")


def _with_module(shop, monkeypatch, write):
    """The export as it would be if OpenVINO's module wrote that; the worker reads it back with the real one."""
    monkeypatch.setattr(frame, "_module", lambda _: SimpleNamespace(write=write))
    return _made(shop, ExportFormat.OPENVINO)
