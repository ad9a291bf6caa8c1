"""The container's commands as the pod runs them: fetch, optimize, install, and every message they leave."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from pilotfish.api.job_input import InstallInput
from pilotfish.api.report import OptimizerReason, Outcome
from pilotfish.optimizer import candidates
from pilotfish.optimizer.digest import folder_digest, hash_folder
from support.onnx_models import mlp_answers, save_mlp


def _optimized(pod, **more):
    save_mlp(pod.source / "model.onnx")
    pod.job({"uri": "pvc://claim/model.onnx"}, **more)
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    assert code == 0, message.message
    return message


def test_an_onnx_model_goes_the_whole_way(pod):
    message = _optimized(
        pod, optimization={"precisions": ["FP32", "INT8"]}, serving={"maxBatchSize": 4, "cpuThreads": 1}
    )
    assert message.outcome is Outcome.SUCCEEDED
    assert message.source.format == "ONNX"
    assert message.signature.batched
    assert [c.variant for c in message.summary.candidates] == [
        "onnx-fp32", "onnx-int8-dynamic", "onnx-int8-static", "onnx-int8-weights",
        "openvino-fp32", "openvino-int8", "openvino-int8-weights",
    ]  # fmt: skip
    folder = pod.store / message.artifact.path
    assert folder_digest(hash_folder(folder / "model_repository")) == message.artifact.digest
    model = folder / "model_repository" / "m" / "1" / "model.onnx"
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    answers = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})[0]
    np.testing.assert_allclose(answers, mlp_answers(pod.source / "model.onnx", x), rtol=1e-4, atol=1e-5)
    assert "max_batch_size: 4" in (folder / "model_repository" / "m" / "config.pbtxt").read_text()
    golden = load_file(folder / "golden" / "inputs.safetensors")
    np.testing.assert_allclose(
        load_file(folder / "golden" / "outputs.safetensors")["y"],
        mlp_answers(pod.source / "model.onnx", golden["x"]), rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["sampleCount"] == 32
    assert [m["batch"] for m in report["candidates"][0]["measurements"]] == [1]
    assert 1e6 < report["candidates"][0]["peakMemoryBytes"] < 3e8  # not the parent's


def test_a_finished_recipe_returns_at_once_and_fetches_nothing(pod):
    first = _optimized(pod)
    (pod.source / "model.onnx").unlink()
    code, again = pod.command("fetch")
    assert (code, again.reason) == (0, OptimizerReason.ARTIFACT_REUSED)
    code, again = pod.command("optimize")
    assert (code, again.reason) == (0, OptimizerReason.ARTIFACT_REUSED)
    assert again.artifact == first.artifact


def test_a_damaged_artifact_is_made_again(pod):
    first = _optimized(pod)
    model = pod.store / first.artifact.path / "model_repository" / "m" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert pod.command("fetch")[1].reason is OptimizerReason.SUCCEEDED
    code, again = pod.command("optimize")
    assert (code, again.artifact.digest) == (0, first.artifact.digest)


def _install(pod, message, **changes):
    order = {"artifact": message.artifact.path, "digest": message.artifact.digest, "model": "m"} | changes
    pod.environment.setenv("PILOTFISH_INSTALL", InstallInput(**order).to_json())
    return pod.command("install")


def test_install_copies_the_model_and_takes_the_config_map(pod):
    message = _optimized(pod)
    (pod.config / "config.pbtxt").write_text("from the ConfigMap")
    code, _ = _install(pod, message)
    assert code == 0
    assert (pod.models / "m" / "config.pbtxt").read_text() == "from the ConfigMap"
    assert (pod.models / "m" / "1" / "model.onnx").stat().st_size > 0
    assert _install(pod, message)[0] == 0


def test_install_leaves_nothing_of_an_artifact_that_was_changed(pod):
    message = _optimized(pod)
    target = pod.store / message.artifact.path / "model_repository" / "m" / "1" / "model.onnx"
    target.write_bytes(target.read_bytes() + b"x")
    code, result = _install(pod, message)
    assert (code, result.reason) == (10, OptimizerReason.ARTIFACT_DIGEST_MISMATCH)
    assert not (pod.models / "m").exists()


def test_install_of_what_is_not_there(pod):
    message = _optimized(pod)
    assert _install(pod, message, artifact="artifacts/other")[1].reason is OptimizerReason.ARTIFACT_MISSING


@pytest.mark.parametrize("claim", ["claim", "another"])
def test_samples_are_fetched_and_used(pod, claim):
    x = np.random.default_rng(1).standard_normal((40, 16))
    np.savez((pod.source if claim == "claim" else pod.samples) / "samples.npz", x=x)
    save_mlp(pod.source / "model.onnx")
    pod.job({"uri": "pvc://claim/model.onnx", "samples": {"uri": f"pvc://{claim}/samples.npz"}})
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    assert (code, message.summary.samples) == (0, "Given")
    golden = load_file(pod.store / message.artifact.path / "golden" / "inputs.safetensors")
    np.testing.assert_allclose(golden["x"], x.astype(np.float32))


@pytest.mark.parametrize("text", [None, "{", '{"name": "m"}'])
def test_input_that_cannot_be_read_says_where(pod, text):
    if text is None:
        pod.environment.delenv("PILOTFISH_JOB", raising=False)
    else:
        pod.environment.setenv("PILOTFISH_JOB", text)
    code, message = pod.command("fetch")
    assert (code, message.reason) == (10, OptimizerReason.INPUT_INVALID)
    assert "PILOTFISH_JOB" in message.message


def test_optimize_without_fetch(pod):
    pod.job({"uri": "pvc://claim/model.onnx"})
    assert pod.command("optimize")[1].reason is OptimizerReason.INPUT_INVALID


def test_a_full_store_and_an_unexpected_error_are_told_apart(pod, monkeypatch):
    pod.job({"uri": "pvc://claim/model.onnx"})
    save_mlp(pod.source / "model.onnx")
    monkeypatch.setattr("pilotfish.optimizer.fetch.hash_folder", _raise(OSError(28, "No space left on device")))
    assert pod.command("fetch")[1].reason is OptimizerReason.STORE_FULL
    monkeypatch.setattr("pilotfish.optimizer.fetch.hash_folder", _raise(RuntimeError("odd")))
    code, message = pod.command("fetch")
    assert (code, message.reason) == (1, OptimizerReason.INTERNAL_ERROR)


def _raise(error):
    def act(*_):
        raise error

    return act


def test_a_stopped_process_says_so(pod):
    silent = socket.create_server(("127.0.0.1", 0))  # accepts and never answers
    pod.job({"uri": f"http://127.0.0.1:{silent.getsockname()[1]}/model.onnx"})
    log = pod.folder / "termination-log"
    process = subprocess.Popen(
        [sys.executable, "-m", "pilotfish.optimizer.job", "fetch", f"--store={pod.store}", f"--termination-log={log}"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    process.stdout.readline()  # the first line of progress: the handler is in place
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode == 143
    assert json.loads(log.read_text())["reason"] == "Interrupted"
    process.stdout.close()
    silent.close()


@pytest.mark.parametrize("command", ["fetch", "install", "optimize"])
def test_the_light_image_imports_neither_torch_nor_transformers(command):
    check = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import pilotfish, pilotfish.optimizer.job, pilotfish.optimizer.install, pilotfish.optimizer.fetch\n"
        "heavy = {'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    if command == "optimize":
        check += "import pilotfish.optimizer.pipeline, pilotfish.optimizer.local\n"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_candidate_that_does_not_load_has_failed_and_no_more(pod, monkeypatch):
    save_mlp(pod.source / "model.onnx")
    pod.job({"uri": "pvc://claim/model.onnx"}, optimization={"precisions": ["FP32", "INT8"]})
    real = candidates.to_int8_dynamic

    def broken(order):
        made = real(order)
        order.target.write_bytes(order.target.read_bytes()[:-50])
        return made

    monkeypatch.setattr(candidates, "to_int8_dynamic", broken)
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    rows = {c.variant: c for c in message.summary.candidates}
    assert (code, rows["onnx-fp32"].verdict.value, rows["onnx-int8-dynamic"].verdict.value) == (0, "Accepted", "Failed")
    assert "does not load" in rows["onnx-int8-dynamic"].reason


def test_a_conversion_that_fails_leaves_the_plain_one_and_says_so(pod, monkeypatch):
    save_mlp(pod.source / "model.onnx")
    pod.job({"uri": "pvc://claim/model.onnx"}, optimization={"precisions": ["INT8"]})
    for recipe in ("to_int8_dynamic", "to_int8_weights"):
        monkeypatch.setattr(candidates, recipe, _raise(ValueError("cannot be quantized")))
    monkeypatch.setattr(candidates, "openvino_recipes", lambda *_: [])
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    assert (code, message.summary.winner) == (0, "onnx-fp32")
    assert "cannot be quantized" in {c.variant: c.reason for c in message.summary.candidates}["onnx-int8-dynamic"]
