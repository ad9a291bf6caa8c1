"""Files that lie, break or bite: each ends with its own reason and a sentence, and nothing of them runs."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.samples import check_samples, read_samples
from support.onnx_models import save, save_mlp


class Bite:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def _refused(local, reason, model, **spec):
    with pytest.raises(OptimizerError) as caught:
        local.run(model, **spec)
    assert caught.value.reason is reason, f"{caught.value.reason}: {caught.value.message}"
    assert caught.value.message.count("\n") == 0
    assert not (local.folder / "bitten").exists()
    return caught.value.message


def _zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_unknown_bytes(local):
    (local.folder / "m").write_bytes(b"hello, I am a model")
    assert "ONNX" in _refused(local, Reason.UNKNOWN_FORMAT, {"uri": "m"})


def test_an_extension_does_not_make_a_format(local):
    (local.folder / "model.onnx").write_bytes(b"%PDF-1.7 ...")
    _refused(local, Reason.UNKNOWN_FORMAT, {"uri": "model.onnx"})


def test_an_empty_file_and_a_git_lfs_pointer(local):
    (local.folder / "m.onnx").write_bytes(b"")
    _refused(local, Reason.SOURCE_TRUNCATED, {"uri": "m.onnx"})
    (local.folder / "p.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS" in _refused(local, Reason.SOURCE_TRUNCATED, {"uri": "p.onnx"})


def test_truncated_files(local):
    whole = save_mlp(local.folder / "m.onnx").read_bytes()
    (local.folder / "m.onnx").write_bytes(whole[: len(whole) // 2])
    _refused(local, Reason.SOURCE_TRUNCATED, {"uri": "m.onnx"})
    (local.folder / "m.safetensors").write_bytes(struct.pack("<Q", 5000) + b'{"a":')
    _refused(local, Reason.SOURCE_TRUNCATED, {"uri": "m.safetensors"})
    data = _zip(local.folder / "m.zip", {"a": b"x" * 1000}).read_bytes()
    (local.folder / "m.zip").write_bytes(data[:500])
    _refused(local, Reason.SOURCE_TRUNCATED, {"uri": "m.zip"})


def test_a_folder_with_two_models(local):
    (local.folder / "d").mkdir()
    save_mlp(local.folder / "d" / "a.onnx")
    save_mlp(local.folder / "d" / "b.onnx", seed=1)
    assert "a.onnx, b.onnx" in _refused(local, Reason.UNKNOWN_FORMAT, {"uri": "d"})


def test_a_spec_that_says_another_format(local):
    save_mlp(local.folder / "m.onnx")
    assert "is ONNX" in _refused(local, Reason.UNKNOWN_FORMAT, {"uri": "m.onnx", "format": "StateDict"})


@pytest.mark.parametrize("name", ["../up.onnx", "/abs.onnx", "a/../../up.onnx", "..\\up.onnx"])
def test_zip_slip(local, name):
    _zip(local.folder / "m.zip", {name: b"x"})
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.zip"})
    assert not list(local.folder.rglob("up.onnx"))


def test_a_link_in_a_zip(local):
    info = zipfile.ZipInfo("model.onnx")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(local.folder / "m.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.zip"})


def test_a_zip_bomb(local):
    with zipfile.ZipFile(local.folder / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(200 * 1024 * 1024))
    assert "unpack to" in _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.zip"})


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "x"), (tarfile.CHRTYPE, "")]
)
def test_links_and_devices_in_a_tar(local, kind, target):
    with tarfile.open(local.folder / "m.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("model.onnx")
        info.type, info.linkname = kind, target
        archive.addfile(info)
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.tar.gz"})


def test_a_tar_that_climbs(local):
    with tarfile.open(local.folder / "m.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../up"), io.BytesIO())
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.tar"})


def test_an_honest_archive_of_a_folder_is_unpacked(local):
    save_mlp(local.folder / "model.onnx")
    with tarfile.open(local.folder / "m.tar.gz", "w:gz") as archive:
        archive.add(local.folder / "model.onnx", "v1/model.onnx")
    assert local.run({"uri": "m.tar.gz"}).summary.winner == "onnx-fp32"


def _external(path, location):
    weight = numpy_helper.from_array(np.zeros((16, 4), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 16]}, {"y": ["n", 4]}, [weight])


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd"])
def test_onnx_data_outside_the_folder(local, location):
    (local.folder / "d").mkdir()
    (local.folder / "secret.bin").write_bytes(bytes(256))
    _external(local.folder / "d" / "m.onnx", location)
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "d"})


def test_onnx_data_beside_the_model_is_fine(local):
    (local.folder / "d").mkdir()
    _external(local.folder / "d" / "m.onnx", "w.bin")
    (local.folder / "d" / "w.bin").write_bytes(np.ones((16, 4), np.float32).tobytes())
    message = local.run({"uri": "d"})
    files = [f.name for f in (local.artifact(message) / "model_repository" / "m" / "1").iterdir()]
    assert files == ["model.onnx"]


def test_a_tensor_that_declares_more_than_it_holds(local):
    weight = numpy_helper.from_array(np.zeros((16, 4), np.float32), "w")
    weight.dims[0] = 2**40
    save(
        local.folder / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["n", 16]},
        {"y": ["n", 4]},
        [weight],
    )
    assert "'w'" in _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.onnx"})


def test_a_custom_operator(local):
    model = onnx.load(str(save_mlp(local.folder / "m.onnx")))
    model.opset_import.append(helper.make_opsetid("evil.corp", 1))
    onnx.save(model, str(local.folder / "m.onnx"))
    assert "evil.corp" in _refused(local, Reason.MODEL_INVALID, {"uri": "m.onnx"})


def test_an_invalid_graph(local):
    save(local.folder / "m.onnx", [helper.make_node("Relu", ["nothing"], ["y"])], {"x": ["n", 16]}, {"y": ["n", 16]})
    _refused(local, Reason.MODEL_INVALID, {"uri": "m.onnx"})


def test_an_original_that_answers_nan(local):
    nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
    save(local.folder / "m.onnx", nodes, {"x": ["n", 4]}, {"y": ["n", 4]})
    assert "NaN" in _refused(local, Reason.REFERENCE_INVALID, {"uri": "m.onnx"})


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((8, 15))}, "[samples, 16]"),
        ({"x": np.zeros((8, 1, 16))}, "[samples, 16]"),
        ({"z": np.zeros((8, 16))}, "lack 'x'"),
        ({"x": np.zeros((8, 16)), "z": np.zeros(8)}, "hold 'z'"),
        ({"x": np.full((8, 16), np.nan)}, "NaN"),
        ({"x": np.zeros((8, 16), int)}, "int64"),
        ({"x": np.zeros((0, 16))}, "number of samples"),
        ({"x": np.zeros((8, 16)), "labels": np.zeros(7)}, "number of samples"),
    ],
)
def test_samples_that_do_not_fit(local, arrays, says):
    save_mlp(local.folder / "m.onnx")
    np.savez(local.folder / "s.npz", **arrays)
    assert says in _refused(local, Reason.SAMPLES_INVALID, {"uri": "m.onnx", "samples": {"uri": "s.npz"}})


def test_samples_with_a_pickle_inside(local):
    save_mlp(local.folder / "m.onnx")
    np.savez(local.folder / "s.npz", x=np.array([Bite(local.folder / "bitten")], dtype=object))
    _refused(local, Reason.SAMPLES_INVALID, {"uri": "m.onnx", "samples": {"uri": "s.npz"}})


def test_samples_that_are_no_arrays(local):
    (local.folder / "s.npz").write_bytes(b"nothing")
    with pytest.raises(OptimizerError) as caught:
        read_samples(local.folder / "s.npz")
    assert caught.value.reason is Reason.SAMPLES_INVALID


def test_a_fixed_batch_is_served_without_batching(local):
    save_mlp(local.folder / "m.onnx", batch=1)
    message = local.run({"uri": "m.onnx"})
    assert not message.signature.batched
    assert message.signature.inputs[0].shape == (1, 16)
    config = (local.artifact(message) / "model_repository" / "m" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert any("without batching" in note for note in local.report(message)["notes"])


def test_a_signature_that_contradicts_the_model(local):
    save_mlp(local.folder / "m.onnx")
    wrong = {"inputs": [{"name": "x", "dtype": "FP32", "shape": [17]}]}
    assert "[17]" in _refused(local, Reason.SIGNATURE_MISMATCH, {"uri": "m.onnx", "signature": wrong})
    renamed = {"inputs": [{"name": "z", "dtype": "FP32", "shape": [16]}]}
    assert "x" in _refused(local, Reason.SIGNATURE_MISMATCH, {"uri": "m.onnx", "signature": renamed})


@pytest.mark.torch
def test_a_pickle_with_code_is_not_run(local):
    with (local.folder / "m.pth").open("wb") as file:
        pickle.dump({"weight": Bite(local.folder / "bitten")}, file)
    model = {"uri": "m.pth", "architecture": {"factory": "torchvision.models.resnet18"}, "signature": SIGNATURE}
    _refused(local, Reason.UNSAFE_MODEL, model)


@pytest.mark.torch
def test_a_checkpoint_with_code_is_not_run(local):
    import torch

    torch.save({"weight": torch.zeros(1), "extra": Bite(local.folder / "bitten")}, local.folder / "m.pt")
    model = {"uri": "m.pt", "architecture": {"factory": "torchvision.models.resnet18"}, "signature": SIGNATURE}
    assert "mkdir" in _refused(local, Reason.UNSAFE_MODEL, model)


ONNX_ONLY = {"formats": ["ONNX"]}
SIGNATURE = {"inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 32, 32]}]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A `.pt2` as torch.export.save writes it, with pickled sample inputs and without."""
    import torch

    folder = tmp_path_factory.mktemp("exported")
    model = torch.nn.Linear(4, 2).eval()
    dims = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.randn(2, 4),), dynamic_shapes=dims)
    torch.export.save(program, str(folder / "raw.pt2"))
    program._example_inputs = None
    torch.export.save(program, str(folder / "clean.pt2"))
    return folder


def _rewrite(source, target, change):
    """A copy of a `.pt2` with its graph's JSON, or any part, changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def _edit(path, value):
    def change(name, data):
        if not name.endswith("models/model.json"):
            return data
        content = json.loads(data)
        at = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return json.dumps(content).encode()

    return change


def _node(*path):
    return ("graph_module", "graph", "nodes", 0, *path)


@pytest.mark.torch
def test_a_clean_pt2_is_taken(local, exported):
    (local.folder / "m.pt2").write_bytes((exported / "clean.pt2").read_bytes())
    assert local.run({"uri": "m.pt2"}, optimization=ONNX_ONLY).signature.batched


@pytest.mark.torch
def test_a_pt2_with_pickled_inputs_needs_trust(local, exported):
    (local.folder / "m.pt2").write_bytes((exported / "raw.pt2").read_bytes())
    assert "sample inputs" in _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.pt2"})
    assert local.run({"uri": "m.pt2", "trust": "Executable"}, optimization=ONNX_ONLY).signature.batched


@pytest.mark.torch
@pytest.mark.parametrize(
    "change",
    [
        lambda mark: lambda n, d: pickle.dumps(Bite(mark)) if n.endswith("sample_inputs/model.pt") else d,
        lambda mark: (
            lambda n, d: d.replace(b'"use_pickle": false', b'"use_pickle": true') if n.endswith(".json") else d
        ),
        lambda mark: _edit(_node("target"), "torch.os.mkdir"),
        lambda mark: _edit(_node("target"), "torch.ops.aten.from_file"),
        lambda mark: _edit(
            ("graph_module", "graph", "tensor_values", "input", "sizes", 0, "as_expr", "expr_str"),
            f"__import__('os').mkdir('{mark}')",
        ),
        lambda mark: _edit(
            ("graph_module", "module_call_graph", 0, "signature", "in_spec"),
            '[1, {"type": "collections.defaultdict", "context": "[\\"os\\"]", "children_spec": []}]',
        ),
        lambda mark: _edit(_node("inputs", 0, "arg", "as_tensor", "name"), f"x): __import__('os').mkdir('{mark}'"),
    ],
    ids=["pickled inputs", "pickled weights", "system call", "file operator", "expression", "import", "name"],
)
def test_a_pt2_that_would_run_code_is_refused_before_it_is_opened(local, exported, change):
    _rewrite(exported / "clean.pt2", local.folder / "m.pt2", change(local.folder / "bitten"))
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.pt2"})


@pytest.mark.torch
def test_python_source_in_a_pt2_never_reaches_the_loader(local, exported):
    guard = f"__import__('os').mkdir('{local.folder / 'bitten'}')"
    _rewrite(exported / "clean.pt2", local.folder / "m.pt2", _edit(("guards_code",), [guard]))
    assert local.run({"uri": "m.pt2"}, optimization=ONNX_ONLY).signature.batched
    assert not (local.folder / "bitten").exists()


@pytest.mark.torch
def test_a_part_that_does_not_belong_there(local, exported):
    source, target = exported / "clean.pt2", local.folder / "m.pt2"
    _rewrite(source, target, lambda _name, data: data)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("clean/data/aotinductor/model/x.so", b"\x7fELF")
    _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.pt2"})


@pytest.mark.torch
def test_torchscript_needs_trust(local):
    import torch

    torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 2).eval(), torch.randn(2, 4)), local.folder / "m.pt")
    signature = {"inputs": [{"name": "input", "dtype": "FP32", "shape": [4]}]}
    assert "trust" in _refused(local, Reason.UNSAFE_MODEL, {"uri": "m.pt", "signature": signature})
    _refused(local, Reason.SIGNATURE_MISSING, {"uri": "m.pt", "trust": "Executable"})
    message = local.run({"uri": "m.pt", "trust": "Executable", "signature": signature})
    verdicts = {c.variant: c.verdict.value for c in message.summary.candidates}
    assert [verdicts[name] for name in ("onnx-fp32", "torchscript-fp32")] == ["Accepted", "Accepted"]


@pytest.mark.torch
def test_torchscript_that_may_only_be_served_as_onnx(local):
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(4, 2).eval()), local.folder / "m.pt")
    signature = {"inputs": [{"name": "input", "dtype": "FP32", "shape": [4]}]}
    message = local.run(
        {"uri": "m.pt", "trust": "Executable", "signature": signature}, optimization={"formats": ["ONNX"]}
    )
    variants = [c.variant for c in message.summary.candidates]
    assert variants[0] == "onnx-fp32"
    assert "torchscript-fp32" not in variants
    assert float(message.summary.baseline_latency_ms) > 0


@pytest.mark.torch
@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        (None, "architecture"),
        ({"factory": "os.system"}, "not on the list"),
        ({"factory": "torchvision.os.system"}, "not"),
        ({"factory": "torchvision.models.nothing"}, "not installed"),
        ({"factory": "torchvision.models.resnet18", "arguments": {"weights": "DEFAULT"}}, "download"),
        ({"factory": "torchvision.models.resnet18", "arguments": {"colour": 3}}, "refuses"),
        ({"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 7}}, "fit"),
        ({"factory": "torchvision.models.alexnet"}, "does not fit"),
    ],
)
def test_architectures(local, architecture, says):
    import torch
    import torchvision

    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), local.folder / "m.pth")
    model = {"uri": "m.pth", "signature": SIGNATURE} | ({"architecture": architecture} if architecture else {})
    assert says in _refused(local, Reason.ARCHITECTURE_INVALID, model)


@pytest.mark.torch
def test_a_huggingface_folder_with_code_of_its_own(local):
    import torch
    from safetensors.torch import save_file

    (local.folder / "d").mkdir()
    save_file({"w": torch.zeros(1)}, local.folder / "d" / "model.safetensors")
    (local.folder / "d" / "model.py").write_text(f"import os; os.mkdir('{local.folder / 'bitten'}')")
    config = {"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoModel": "model.Mine"}}
    (local.folder / "d" / "config.json").write_text(json.dumps(config))
    assert "code of its own" in _refused(local, Reason.UNSAFE_MODEL, {"uri": "d"})


def test_samples_check_wants_plain_integers():
    from pilotfish.api.report import ModelSignature, TensorSpec

    signature = ModelSignature(inputs=(TensorSpec(name="ids", dtype="INT32", shape=(2,)),), outputs=(), batched=True)
    fine = check_samples({"ids": np.ones((3, 2), np.int64)}, signature, where="s")
    assert fine.inputs["ids"].dtype == np.int32
    with pytest.raises(OptimizerError):
        check_samples({"ids": np.full((3, 2), 2**40)}, signature, where="s")
