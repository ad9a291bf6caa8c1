"""Code beside weights, TorchServe archives by TorchServe's own archiver, library factories, and ONNX as MXNet wrote it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pilotfish.api.model import ModelSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model

pytestmark = pytest.mark.torch
ONNX_ONLY = {"formats": ["ONNX"]}
NET = """
import torch
from layers import Head


class Net(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.head = torch.nn.Linear(4, width), Head(width)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


def build(width=8):
    return Net(width)
"""
ONE = (
    NET.replace("from layers import Head\n", "")
    .replace("Head(width)", "torch.nn.Linear(width, 2)")
    .split("def build")[0]
)
LAYERS = "import torch\n\n\ndef Head(width):\n    return torch.nn.Linear(width, 2)\n"
SIGNATURE = {"inputs": [{"name": "x", "dtype": "FP32", "shape": [4]}]}


def _refused(local, reason, model):
    with pytest.raises(OptimizerError) as caught:
        local.run(model)
    assert caught.value.reason is reason, f"{caught.value.reason}: {caught.value.message}"
    assert not (local.folder / "bitten").exists()
    return caught.value.message


def _folder(local, *, code=NET, width=8):
    """A folder with code, what it imports, and weights; returns the model in torch."""
    import torch

    folder = local.folder / "net"
    folder.mkdir()
    (folder / "model.py").write_text(code)
    (folder / "layers.py").write_text(LAYERS)
    torch.manual_seed(3)
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, width), "head": torch.nn.Linear(width, 2)})
    torch.save(model.state_dict(), folder / "weights.pth")
    return lambda x: model["head"](torch.relu(model["first"](torch.from_numpy(x)))).detach().numpy()


def _served(local, message, **inputs):
    file = local.artifact(message) / "model_repository" / "m" / "1" / "model.onnx"
    return ort.InferenceSession(file).run(None, inputs)[0]


def test_code_beside_the_weights_makes_the_model(local):
    original = _folder(local, width=16)
    model = {
        "uri": "net",
        "trust": "Executable",
        "architecture": {"file": "model.py#build", "arguments": {"width": 16}},
        "signature": SIGNATURE,
    }
    message = local.run(model, optimization=ONNX_ONLY)

    x = np.random.default_rng(1).random((5, 4), np.float32)
    np.testing.assert_allclose(_served(local, message, x=x), original(x), atol=1e-5)
    assert sorted(p.name for p in (local.folder / "net").iterdir()) == ["layers.py", "model.py", "weights.pth"]
    assert not list(local.out.rglob("__pycache__"))
    assert str(local.out) not in " ".join(sys.path)
    assert "layers" not in sys.modules


@pytest.mark.parametrize(
    ("architecture", "reason", "says"),
    [
        ({"file": "model.py#nothing"}, Reason.ARCHITECTURE_INVALID, "has no 'nothing'"),
        ({"file": "other.py#build"}, Reason.ARCHITECTURE_INVALID, "not beside the weights"),
        ({"file": "../model.py#build"}, Reason.UNSAFE_MODEL, "outside the source"),
        ({"file": "/etc/model.py#build"}, Reason.UNSAFE_MODEL, "outside the source"),
        ({"file": "model.py#build", "arguments": {"colour": 1}}, Reason.ARCHITECTURE_INVALID, "unexpected keyword"),
        ({"file": "model.py#build", "arguments": {"width": 3}}, Reason.ARCHITECTURE_INVALID, "does not fit model.py"),
        ({"file": "model.py#torch"}, Reason.ARCHITECTURE_INVALID, "not callable"),
        ({"file": "layers.py#exit"}, Reason.ARCHITECTURE_INVALID, "has no 'exit'"),
    ],
)
def test_code_that_makes_no_model(local, architecture, reason, says):
    _folder(local)
    model = {"uri": "net", "trust": "Executable", "architecture": architecture, "signature": SIGNATURE}
    assert says in _refused(local, reason, model)


def test_code_that_leaves_or_is_not_trusted(local):
    _folder(local, code="raise SystemExit(3)\n")
    model = {"uri": "net", "architecture": {"file": "model.py#build"}, "signature": SIGNATURE}
    assert "SystemExit" in _refused(local, Reason.ARCHITECTURE_INVALID, model | {"trust": "Executable"})
    (local.folder / "net" / "model.py").write_text(f"import os\nos.mkdir({str(local.folder / 'bitten')!r})\n")
    assert "is code; set spec.model.trust" in _refused(local, Reason.UNSAFE_MODEL, model)


@pytest.mark.parametrize("known", [True, False], ids=["classes that are here", "classes that are not"])
def test_a_pickled_module_is_refused_with_the_way_to_hand_it_over(local, known):
    import torch

    if known:
        torch.save(torch.nn.Linear(4, 2), local.folder / "m.pth")
    else:
        code = "import torch, sys; sys.path.insert(0, '.'); import gone; torch.save(gone.Net(), 'm.pth')"
        (local.folder / "gone.py").write_text(ONE)
        subprocess.run([sys.executable, "-c", code], cwd=local.folder, check=True)
    architecture = {"factory": "torchvision.models.resnet18"}
    model = {"uri": "m.pth", "trust": "Executable", "architecture": architecture, "signature": SIGNATURE}
    assert "save model.state_dict() and name its code" in _refused(local, Reason.MODEL_INVALID, model)


def _archive(local, *arguments, handler="image_classifier"):
    """`torch-model-archiver` itself."""
    tool = Path(sys.executable).with_name("torch-model-archiver")
    command = [tool, "--model-name", "m", "--version", "1.0", "--handler", handler, "--export-path", local.folder]
    subprocess.run([*command, *arguments], check=True, cwd=local.folder, capture_output=True)
    return {"uri": "m.mar", "trust": "Executable", "signature": SIGNATURE}


def test_an_archive_of_torchserve_with_its_model_file(local):
    original = _folder(local)
    (local.folder / "net" / "model.py").write_text(ONE)
    handler = local.folder / "handler.py"
    handler.write_text(f"import os\nos.mkdir({str(local.folder / 'bitten')!r})\n")
    model = _archive(
        local, "--serialized-file", "net/weights.pth", "--model-file", "net/model.py", handler=str(handler)
    )
    message = local.run(model, optimization=ONNX_ONLY)

    x = np.random.default_rng(1).random((5, 4), np.float32)
    np.testing.assert_allclose(_served(local, message, x=x), original(x), atol=1e-5)
    assert message.source.format == "TorchServeArchive"
    assert any("handler" in note and "is not run" in note for note in local.report(message)["notes"])
    assert not (local.folder / "bitten").exists()
    untrusted = {key: value for key, value in model.items() if key != "trust"}
    assert "a TorchServe archive, which brings code" in _refused(local, Reason.UNSAFE_MODEL, untrusted)


def test_an_archive_of_torchserve_with_torchscript(local):
    import torch

    module = torch.nn.Linear(4, 2).eval()
    torch.jit.trace(module, torch.randn(2, 4)).save(str(local.folder / "net.pt"))
    message = local.run(_archive(local, "--serialized-file", "net.pt"), optimization=ONNX_ONLY)

    x = np.random.default_rng(1).random((5, 4), np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(_served(local, message, x=x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("manifest", "reason", "says"),
    [
        (b"{}", Reason.MODEL_INVALID, "cannot be read"),
        (b"{", Reason.MODEL_INVALID, "cannot be read"),
        ({"handler": "h"}, Reason.MODEL_INVALID, "names no serializedFile"),
        ({"serializedFile": "../../up.pt"}, Reason.UNSAFE_MODEL, "outside the archive"),
        ({"serializedFile": "/etc/passwd"}, Reason.UNSAFE_MODEL, "outside the archive"),
        ({"serializedFile": "gone.pt"}, Reason.MODEL_INVALID, "not in the archive"),
        ({"serializedFile": "w.pth"}, Reason.ARCHITECTURE_INVALID, "no modelFile names their class"),
        ({"serializedFile": "w.pth", "modelFile": "two.py"}, Reason.ARCHITECTURE_INVALID, "two.py#A"),
        ({"serializedFile": "w.pth", "modelFile": "broken.py"}, Reason.ARCHITECTURE_INVALID, "is no Python"),
        ({"serializedFile": "inner.zip"}, Reason.UNSUPPORTED_FORMAT, "an archive again"),
    ],
)
def test_archives_that_lie(local, manifest, reason, says):
    import torch

    torch.save(torch.nn.Linear(4, 2).state_dict(), local.folder / "w.pth")
    with zipfile.ZipFile(local.folder / "inner.zip", "w") as inner:
        inner.writestr("a", b"")
    text = manifest if isinstance(manifest, bytes) else json.dumps({"model": manifest})
    with zipfile.ZipFile(local.folder / "m.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", text)
        archive.writestr("two.py", "class A: pass\nclass B: pass\n")
        archive.writestr("broken.py", "class A(:\n")
        for name in ("w.pth", "inner.zip"):
            archive.write(local.folder / name, name)
    message = _refused(local, reason, {"uri": "m.mar", "trust": "Executable", "signature": SIGNATURE})
    assert says in message


@pytest.mark.parametrize("name", ["../up.py", "/up.py", "MAR-INF/../../up.py"])
@pytest.mark.parametrize("ending", ["mar", "keras"])
def test_archives_that_climb(local, name, ending):
    first = {"mar": ["MAR-INF/MANIFEST.json"], "keras": ["config.json", "metadata.json", "model.weights.h5"]}[ending]
    with zipfile.ZipFile(local.folder / f"m.{ending}", "w") as archive:
        for each in [*first, name]:
            archive.writestr(each, b"{}")
    _refused(local, Reason.UNSAFE_MODEL, {"uri": f"m.{ending}", "trust": "Executable"})
    assert not list(local.folder.rglob("up.py"))


@pytest.mark.parametrize("ending", ["mar", "keras"])
def test_archives_that_explode(local, ending):
    first = {"mar": ["MAR-INF/MANIFEST.json"], "keras": ["config.json", "metadata.json"]}[ending]
    with zipfile.ZipFile(local.folder / f"m.{ending}", "w", zipfile.ZIP_DEFLATED) as archive:
        for each in first:
            archive.writestr(each, b"{}")
        archive.writestr("model.weights.h5", bytes(200 * 1024 * 1024))
    assert "would unpack to" in _refused(local, Reason.UNSAFE_MODEL, {"uri": f"m.{ending}", "trust": "Executable"})


FACTORIES = pytest.mark.parametrize(
    ("factory", "arguments", "inputs"),
    [
        ("timm.create_model", {"model_name": "resnet10t", "num_classes": 7}, {"image": [3, 64, 64]}),
        (
            "transformers.BertForSequenceClassification",
            {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 16, "num_labels": 3},
            {"input_ids": [8], "attention_mask": [8]},
        ),
    ],
    ids=["timm", "transformers"],
)  # fmt: skip


def _random(local, factory, arguments, inputs):
    """Random weights as safetensors; the model's part of the spec, inputs for it, and what torch answers."""
    import torch
    from safetensors.torch import save_file

    from pilotfish.api.model import Architecture
    from pilotfish.optimizer.pytorch.factories import build

    torch.manual_seed(5)
    original = build(Architecture(factory=factory, arguments=arguments))
    save_file({n: t.clone().contiguous() for n, t in original.state_dict().items()}, local.folder / "m.safetensors")
    kinds = {"image": "FP32", "input_ids": "INT64", "attention_mask": "INT64"}
    signature = {"inputs": [{"name": n, "dtype": kinds[n], "shape": s} for n, s in inputs.items()]}
    architecture = {"factory": factory, "arguments": arguments}
    rng = np.random.default_rng(1)
    feeds = {
        n: rng.random((3, *s), np.float32) if n == "image" else np.ones((3, *s), np.int64) for n, s in inputs.items()
    }
    with torch.no_grad():
        expected = original(*(torch.from_numpy(a) for a in feeds.values()))
    model = {"uri": "m.safetensors", "architecture": architecture, "signature": signature}
    return model, feeds, getattr(expected, "logits", expected).numpy()


@FACTORIES
def test_factories_of_libraries_take_safetensors(local, factory, arguments, inputs):
    model, feeds, expected = _random(local, factory, arguments, inputs)
    found = identify(local.folder / "m.safetensors", work=local.folder)
    loaded = load_model(found, ModelSpec.model_validate(model), threads=1, recorded=None)

    (answer,) = loaded.runner.run(feeds).values()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.soak
@FACTORIES
def test_factories_of_libraries_go_the_whole_way(local, factory, arguments, inputs):
    model, feeds, expected = _random(local, factory, arguments, inputs)
    message = local.run(model, optimization=ONNX_ONLY)

    np.testing.assert_allclose(_served(local, message, **feeds), expected, atol=1e-4)


def _as_mxnet(path, *, batch):
    """Opset 9 and IR 4 as mx2onnx wrote them: weights are inputs too, shapes come from constants, names from layers."""
    rng = np.random.default_rng(4)
    weights = {
        "conv0_weight": rng.normal(size=(4, 1, 3, 3)), "conv0_bias": np.zeros(4),
        "bn0_gamma": np.ones(4), "bn0_beta": np.zeros(4),
        "bn0_moving_mean": rng.normal(size=4), "bn0_moving_var": np.ones(4),
        "fc0_weight": rng.normal(size=(3, 64)), "fc0_bias": np.zeros(3),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0, -1], np.int64), "reshape_attr_tensor0"))
    bn = ["conv0", "bn0_gamma", "bn0_beta", "bn0_moving_mean", "bn0_moving_var"]
    nodes = [
        helper.make_node("Conv", ["data", "conv0_weight", "conv0_bias"], ["conv0"], "conv0", kernel_shape=[3, 3],
                         strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1),
        helper.make_node("BatchNormalization", bn, ["bn0"], "bn0", epsilon=1e-3, momentum=0.9),
        helper.make_node("Relu", ["bn0"], ["relu0"], "relu0"),
        helper.make_node("MaxPool", ["relu0"], ["pool0"], "pool0", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        helper.make_node("Reshape", ["pool0", "reshape_attr_tensor0"], ["flat0"], "flat0"),
        helper.make_node("Gemm", ["flat0", "fc0_weight", "fc0_bias"], ["fc0"], "fc0", alpha=1.0, beta=1.0, transA=0, transB=1),
        helper.make_node("Softmax", ["fc0"], ["softmax0"], "softmax0", axis=1),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 1, 8, 8])]
    inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    outputs = [helper.make_tensor_value_info("softmax0", TensorProto.FLOAT, [batch, 3])]
    graph = helper.make_graph(nodes, "mxnet_converted_model", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], producer_name="", ir_version=4)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@pytest.mark.parametrize(("batch", "batched"), [("batch", True), (1, False)])
def test_onnx_as_mxnet_wrote_it(local, batch, batched):
    _as_mxnet(local.folder / "m.onnx", batch=batch)
    message = local.run({"uri": "m.onnx"}, optimization={"precisions": ["FP32", "INT8"]})

    assert message.signature.batched is batched
    assert [t.name for t in message.signature.inputs] == ["data"]
    verdicts = {c.variant: c.verdict.value for c in message.summary.candidates}
    assert verdicts["onnx-fp32"] == "Accepted"
    assert verdicts["onnx-int8-dynamic"] in {"Accepted", "Refused"}, message.summary.candidates
