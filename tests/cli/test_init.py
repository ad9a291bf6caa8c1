"""`pilotfish init`: a manifest that lint takes without a word, sizes that follow the model, and no guess about code."""

import hashlib
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli.advice import advise
from pilotfish.cli.check import check
from pilotfish.cli.init.choices import GIB, MIB, Because, Said, choose, human, quantity
from pilotfish.cli.init.command import name_from
from pilotfish.cli.init.look import Seen
from pilotfish.cli.init.manifest import make_manifest
from pilotfish.cli.main import app
from support.onnx_models import save_mlp


def run(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def made(*arguments):
    """The object that was written; it is one that may be applied, without a warning."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    body = yaml.safe_load(done.stdout)
    assert check(body) == ()
    assert advise(body) == ()
    return body


@pytest.fixture
def digits(tmp_path):
    (tmp_path / "digits").mkdir()
    return save_mlp(tmp_path / "digits" / "model.onnx")


def zip_of(path: Path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def test_an_onnx_file(digits):
    done = run(digits)
    spec = made(digits)["spec"]
    assert spec["model"] == {"uri": "s3://models/digits/v1/model.onnx", "format": "ONNX"}
    assert spec["serving"]["gpus"] == {"count": 0}
    assert spec["serving"]["batching"] == {"maxBatchSize": 8}
    assert spec["rollout"]["steps"] == [{"weight": 50, "hold": "5m"}]
    assert "# In: x FP32 16. Out: y FP32 4. Shapes are of one sample; found by running the model." in done.stdout
    assert "uri is a proposal" in done.stderr
    assert f"aws s3 cp {digits} s3://models/digits/v1/model.onnx" in done.stderr
    assert "pilotfish lint -f digits.yaml" in done.stderr


def test_every_value_has_its_reason(digits):
    lines = run(digits, "--secret", "s", "--pin").stdout.splitlines()
    start = lines.index("spec:") + 1
    for number, line in enumerate(lines[start:], start):
        if ": " in line and "#" not in line:
            assert lines[number - 1].lstrip().startswith("# "), line


def test_what_the_user_says_goes_in(digits):
    body = made(digits, "--name", "mine", "--uri", "pvc://models/x.onnx", "--secret", "keys", "--gpus", 2, "--pin")
    assert body["metadata"]["name"] == "mine"
    assert body["spec"]["model"] == {
        "uri": "pvc://models/x.onnx",
        "format": "ONNX",
        "digest": "sha256:" + hashlib.sha256(digits.read_bytes()).hexdigest(),
        "credentials": {"secretName": "keys"},
    }
    assert body["spec"]["serving"]["gpus"] == {"count": 2}
    assert body["spec"]["optimization"]["precisions"] == ["FP32", "FP16"]


def test_a_model_without_a_free_batch_is_served_without_batching(tmp_path):
    spec = made(save_mlp(tmp_path / "fixed.onnx", batch=3))["spec"]
    assert spec["serving"]["batching"] == {"maxBatchSize": 0}
    assert spec["optimization"]["batchSizes"] == [1]


def test_a_file_that_is_no_whole_model_asks_for_its_folder(tmp_path):
    path = save_mlp(tmp_path / "big.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="big.data", size_threshold=0)
    done = run(path)
    assert done.exit_code == 1
    assert f"give the folder {tmp_path}" in done.output
    assert made(tmp_path, "--name", "big")["spec"]["model"]["uri"] == "s3://models/big/v1/"


def test_a_packed_model_tells_its_inputs_without_torch(tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    zip_of(folder / "model.pt2", ["m/archive_format", "m/models/x"])
    save_file({"image": np.zeros((4, 1, 28, 28), np.float32)}, str(folder / "samples.safetensors"))
    note = {"pack": 1, "model": "model.pt2", "inputs": ["image"], "outputs": ["y"], "batched": True}
    (folder / "pilotfish.json").write_text(json.dumps(note))
    done = run(folder)
    assert made(folder)["spec"]["model"]["format"] == "ExportedProgram"
    assert "# In: image FP32 1x28x28. Shapes are of one sample; pilotfish.pack wrote it down." in done.stdout
    assert "written by pilotfish.pack" in done.stdout


def test_a_hugging_face_folder(tmp_path):
    folder = tmp_path / "Sentence_Model.v2"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    save_file({"w": np.zeros((2, 2), np.float32)}, str(folder / "model.safetensors"))
    body = made(folder)
    assert body["metadata"]["name"] == "sentence-model-v2"
    assert body["spec"]["model"]["format"] == "HuggingFace"
    assert "HuggingFace (BertModel)" in run(folder).stdout


def test_bare_weights_need_their_code_and_their_inputs(tmp_path):
    path = tmp_path / "resnet.safetensors"
    save_file({"w": np.zeros((2, 2), np.float32)}, str(path))
    assert "--factory torchvision.models.resnet18" in run(path).output
    assert "--tensor image:FP32:3x224x224" in run(path, "--factory", "torchvision.models.resnet18").output
    model = made(path, "--factory", "torchvision.models.resnet18", "--tensor", "image:FP32:3x224x224")["spec"]["model"]
    assert model["architecture"] == {"factory": "torchvision.models.resnet18"}
    assert model["signature"] == {"inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 224, 224]}]}


def test_code_is_trusted_by_the_user_alone(tmp_path):
    path = zip_of(tmp_path / "net.pt", ["net/data.pkl", "net/constants.pkl", "net/code/net.py"])
    done = run(path, "--tensor", "x:FP32:4")
    assert done.exit_code == 1
    assert "give --trust-code if you trust where it comes from" in done.output
    assert made(path, "--tensor", "x:FP32:4", "--trust-code")["spec"]["model"]["trust"] == "Executable"


def test_a_tflite_file(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(struct.pack("<I", 28) + b"TFL3" + b"\0" * 64)
    assert "found by the optimization Job" in run(path).stdout
    assert made(path)["spec"]["optimization"]["resources"] == {"memory": "4Gi"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", b"hello", "notes.txt is no model format that is known; give ONNX"),
        ("empty.onnx", b"", "empty.onnx is empty; upload it again"),
        ("x.gguf", b"GGUF" + b"\0" * 32, "is GGUF, which Triton does not serve"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    done = run(tmp_path / name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / name}: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_not_there_or_not_meant(tmp_path, digits):
    assert run(tmp_path / "no").stderr == f"error: {tmp_path / 'no'}: No such file or directory\n"
    assert run(digits, "--tensor", "x").exit_code == 2
    assert run(digits, "--tensor", "x:FLOAT:3").exit_code == 2
    assert "metadata.name: use lower-case letters" in run(digits, "--name", "Big").stderr
    assert "spec.model.uri" in run(digits, "--uri", "models/x").stderr


def test_a_file_is_not_replaced_unasked(tmp_path, digits):
    target = tmp_path / "out.yaml"
    assert run(digits, "--out", target).exit_code == 0
    first = target.read_text()
    done = run(digits, "--out", target, "--name", "other")
    assert (done.exit_code, target.read_text()) == (1, first)
    assert "give --force" in done.stderr
    assert run(digits, "--out", target, "--name", "other", "--force").exit_code == 0
    assert CliRunner().invoke(app, ["lint", "-f", str(target)]).output == "1 ModelDeployment: nothing to correct\n"


def test_without_the_optimizer_it_says_what_to_install(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "pilotfish.cli.init.look", None)
    assert "pip install 'pilotfish[optimizer]'" in run(digits).stderr


def seen(size, *, kind=ModelFormat.ONNX, name="x"):
    spec = TensorSpec(name=name, dtype="FP32", shape=(-1,))
    signature = ModelSignature(inputs=(spec,), outputs=(), batched=True)
    return Seen(format=kind, size=size, is_folder=False, signature=signature, signature_from="said")


def values(tree):
    return {k: v.value if isinstance(v, Because) else values(v) for k, v in tree.items()}


@pytest.mark.parametrize(
    ("size", "gpus", "job", "pod", "claim"),
    [
        (1 * MIB, 0, "2Gi", "1Gi", "1Gi"),
        (100 * MIB, 0, "2Gi", "1Gi", "2Gi"),
        (200 * MIB, 0, "3Gi", "1280Mi", "4Gi"),
        (1 * GIB, 1, "9Gi", "4Gi", "15Gi"),
    ],
)
def test_sizes_follow_the_model(size, gpus, job, pod, claim):
    spec = values(choose(seen(size), Said(name="m", uri="s3://m/x")))
    assert spec["serving"]["gpus"]["count"] == gpus
    assert spec["optimization"]["resources"]["memory"] == job
    assert spec["serving"]["resources"]["memory"] == pod
    assert spec["storage"]["size"] == claim


def test_round_quantities():
    assert [quantity(n) for n in (1, 256 * MIB, GIB, GIB + 1, 2 * GIB, 2 * GIB + 1)] == [
        "256Mi", "256Mi", "1Gi", "1280Mi", "2Gi", "3Gi",
    ]  # fmt: skip
    assert [human(n) for n in (5, 2048, 3 * MIB, 5 * GIB // 2)] == ["5 bytes", "2.0 KiB", "3.0 MiB", "2.5 GiB"]


def test_a_strangers_names_stay_in_their_comment():
    hostile = seen(1, name="x\nspec: {paused: true}\n# ")
    spec = choose(hostile, Said(name="m", uri="s3://m/x"))
    text = make_manifest("no", spec, hostile, version="1")
    body = yaml.safe_load(text)
    assert "paused" not in body["spec"]
    assert body["metadata"]["name"] == "no"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m/Digits_V2.onnx", "digits-v2"),
        ("/srv/digits/model.onnx", "digits"),
        ("/srv/7b.safetensors", "model-7b"),
        ("/srv/" + "a" * 60 + ".pt", "a" * 40),
    ],
)
def test_a_name_from_a_path(path, name):
    assert name_from(Path(path)) == name
