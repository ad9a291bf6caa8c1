"""Keras, HDF5, SavedModel and TFLite, written by TensorFlow itself, through the conversion and through the whole run.

TensorFlow lives in a Python of its own (hack/tensorflow); nothing here imports it.
"""

import os
import shutil
import subprocess

import numpy as np
import onnxruntime as ort
import pytest

from pilotfish.api.model import ModelSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model
from support.tf_python import ROOT, tensorflow_environment, tensorflow_models, tensorflow_python

CONVERTED = {
    "circle.h5": "Keras",  # a group that holds itself ends as well
    "cnn.keras": "Keras",
    "cnn.h5": "Keras",
    "lstm.keras": "Keras",
    "lstm.h5": "Keras",
    "attention.keras": "Keras",
    "two-inputs.keras": "Keras",
    "mlp": "SavedModel",
    "cnn": "SavedModel",
    "mlp.tflite": "TFLite",
    "cnn.tflite": "TFLite",
    "cnn-int8.tflite": "TFLite",
}
NAMES = {
    "cnn.keras": (["image"], ["logits"]),
    "attention.keras": (["rows"], ["digit", "size"]),
    "two-inputs.keras": (["left", "right"], ["sum"]),
    "cnn": (["image"], ["output_0"]),
    "cnn.tflite": (["image"], ["output_0"]),
}


@pytest.fixture(autouse=True)
def tensorflow(monkeypatch):
    for name, value in tensorflow_environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def give(local):
    """Puts a model of TensorFlow's into the test's folder and returns its uri."""

    def copy(name, *, to=None):
        source, target = tensorflow_models() / name, local.folder / (to or name)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        return target.name

    return copy


def _convert_all(out):
    """ONNX files and the originals' answers, all made in one process: TensorFlow takes three seconds to start."""
    wanted = [f"{kind}={name}" for name, kind in CONVERTED.items()]
    script = ROOT / "tests" / "support" / "tensorflow_parity.py"
    done = subprocess.run(
        [tensorflow_python(), script, tensorflow_models(), out, *wanted],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **tensorflow_environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def _worst(session, kept):
    """The largest difference at batch 1, 2 and 5."""
    found = 0.0
    for batch in (1, 2, 5):
        answers = session.run(None, {i.name: kept[f"{batch}/in/{i.name}"] for i in session.get_inputs()})
        for output, answer in zip(session.get_outputs(), answers, strict=True):
            expected = kept[f"{batch}/out/{output.name}"]
            assert answer.shape == expected.shape
            found = max(found, float(np.abs(answer - expected).max()))
    return found


def test_converted_models_answer_as_the_originals_at_every_batch_under_the_same_names(tmp_path):
    _convert_all(tmp_path)
    sessions = {name: ort.InferenceSession(tmp_path / f"{name}.onnx") for name in CONVERTED}
    errors = {name: _worst(session, np.load(tmp_path / f"{name}.npz")) for name, session in sessions.items()}
    assert {name: error for name, error in errors.items() if not error < 2e-5} == {}
    for name, expected in NAMES.items():
        session = sessions[name]
        assert ([i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]) == expected, name


def test_a_trained_keras_model_goes_the_whole_way(local, give, monkeypatch):
    home = local.folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    answers = np.load(tensorflow_models() / "answers.npz")
    np.savez(local.folder / "samples.npz", image=answers["cnn"][:64], labels=answers["labels"][:64])
    # The ending says nothing: a .keras file under another name is one all the same.
    message = local.run({"uri": give("cnn.keras", to="model.bin"), "samples": {"uri": "samples.npz"}})

    report = local.report(message)
    assert message.source.format == "Keras"
    assert report["baseline"]["variant"] == "original-keras"
    assert report["baseline"]["runtime"].startswith("keras 3.")
    assert report["baseline"]["measurements"][0]["latencyMs"]["median"] > 0
    served = local.artifact(message) / "model_repository" / "m" / "1" / "model.onnx"
    logits = ort.InferenceSession(served).run(None, {"image": answers["cnn"]})[0]
    assert float(message.summary.max_abs_error) < 1e-4
    assert (logits.argmax(1) == answers["cnn_answers"].argmax(1)).all()
    assert (logits.argmax(1) == answers["labels"]).mean() > 0.93
    assert not list(home.rglob("*"))  # neither Keras' settings nor anything else of the libraries


@pytest.mark.soak
def test_a_saved_model_that_is_trusted_goes_the_whole_way(local, give):
    message = local.run({"uri": give("mlp"), "trust": "Executable"}, optimization={"precisions": ["FP32", "INT8"]})

    assert message.source.format == "SavedModel"
    assert local.report(message)["baseline"]["runtime"].startswith("tensorflow 2.")
    assert [t.name for t in message.signature.inputs] == ["pixels"]
    assert {c.variant for c in message.summary.candidates} > {"onnx-fp32", "onnx-int8-dynamic"}


@pytest.mark.soak
def test_lambda_layers_run_where_they_are_trusted(local, give):
    found = identify(local.folder / give("lambda.keras"), work=local.folder)
    spec = ModelSpec(uri="x", trust="Executable")
    model = load_model(found, spec, threads=1, recorded=None, work=local.folder)
    rows = {"x": np.random.default_rng(2).random((3, 4), np.float32)}
    expected = model.runner.run(rows)
    model.release()
    answers = ort.InferenceSession(model.onnx).run(None, rows)
    np.testing.assert_allclose(answers[0], next(iter(expected.values())), atol=1e-5)


@pytest.mark.soak
def test_a_trusted_graph_that_calls_python_cannot_be_converted(local, give):
    said = _refused(local, {"uri": give("reader"), "trust": "Executable"}, Reason.CONVERSION_FAILED)
    assert "PyFunc" in said or "ReadFile" in said


def _refused(local, model, reason):
    """Everything a run may write to is below the test's folder; what is outside of the store and the spec is counted."""
    before = {p for p in local.folder.rglob("*") if local.out not in p.parents}
    with pytest.raises(OptimizerError) as caught:
        local.run(model)
    assert caught.value.reason is reason, f"{caught.value.reason}: {caught.value.message}"
    assert {p for p in local.folder.rglob("*") if local.out not in p.parents} - before <= {
        local.folder / "m.yaml", local.out,
    }  # fmt: skip
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("lambda.keras", Reason.UNSAFE_MODEL, "Lambda layer; set spec.model.trust: Executable"),
        ("lambda.h5", Reason.UNSAFE_MODEL, "Lambda layer; set spec.model.trust: Executable"),
        ("module.keras", Reason.UNSAFE_MODEL, "builds os.system, which is no part of Keras"),
        ("reads.keras", Reason.UNSAFE_MODEL, "reads the file '/etc/passwd'"),
        ("linked.h5", Reason.UNSAFE_MODEL, "links 'more' to '/etc/passwd'"),
        ("external.h5", Reason.UNSAFE_MODEL, "keeps 'more' in another file"),
        ("bomb.h5", Reason.UNSAFE_MODEL, "would grow to 4"),
        ("custom.keras", Reason.MODEL_INVALID, "mine>Doubled, whose code is not in the file"),
        ("only.weights.h5", Reason.MODEL_INVALID, "model.save('model.keras')"),
        ("reader", Reason.UNSAFE_MODEL, "this one names PyFunc, ReadFile"),
        ("mlp", Reason.UNSAFE_MODEL, "is a SavedModel, whose graph may read and write files"),
    ],
)
def test_a_hostile_file_is_refused_before_tensorflow_sees_it(local, give, name, reason, says):
    assert says in _refused(local, {"uri": give(name)}, reason)


def test_an_operator_without_counterpart_is_named(local, give):
    assert "Svd" in _refused(local, {"uri": give("odd"), "trust": "Executable"}, Reason.CONVERSION_FAILED)


def test_truncated_and_garbled_files(local, give):
    keras = (tensorflow_models() / "plain.keras").read_bytes()
    (local.folder / "cut.keras").write_bytes(keras[: len(keras) // 2])
    _refused(local, {"uri": "cut.keras"}, Reason.SOURCE_TRUNCATED)
    (local.folder / "cut.h5").write_bytes((tensorflow_models() / "plain.h5").read_bytes()[:900])
    assert "save it again" in _refused(local, {"uri": "cut.h5"}, Reason.MODEL_INVALID)
    (local.folder / "m.tflite").write_bytes(b"\x20\x00\x00\x00TFL3" + bytes(64))
    assert "m.tflite" in _refused(local, {"uri": "m.tflite"}, Reason.MODEL_INVALID)


def test_the_original_leaves_its_memory_and_comes_back(give, local):
    found = identify(local.folder / give("mlp.tflite"), work=local.folder)
    model = load_model(found, ModelSpec(uri="x"), threads=1, recorded=None, work=local.folder)
    rows = {"pixels": np.load(tensorflow_models() / "answers.npz")["mlp"][:3]}
    answers = []
    for _ in range(2):
        answers.append(model.runner.run(rows)["output_0"])
        model.release()
    np.testing.assert_array_equal(*answers)
    with pytest.raises(RuntimeError, match="pixels"):
        model.runner.run({})
    model.release()


def test_without_tensorflow_the_sentence_names_the_image(local, give, monkeypatch):
    monkeypatch.delenv("PILOTFISH_TENSORFLOW_PYTHON")
    message = _refused(local, {"uri": give("mlp.keras")}, Reason.WRONG_IMAGE)
    assert "set spec.model.format: Keras so that the optimizer-tf image is used" in message
