"""A recipe that trains, as the Job's containers run it: what is fetched from where, told in the message, and left."""

import json

import numpy as np
import pytest

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import Report
from support.training import TRAIN, digits, mlp, train, write_source

pytestmark = pytest.mark.torch


@pytest.fixture
def claims(pod, monkeypatch):
    """Model and data in one claim, the teacher in another."""
    for place in ("prepare", "retraining"):
        monkeypatch.setattr(f"pilotfish.optimizer.{place}.available_threads", lambda _asked: 1)
    x, y = digits(mlp(), TRAIN)
    spec = write_source(pod.source, train(mlp(32), epochs=3), mlp(32), x=x, labels=y)
    write_source(pod.teacher, train(mlp(64), epochs=4), mlp(64))
    return {**spec, "uri": "pvc://models/model.safetensors"}


def recipe(**more):
    teacher = {"uri": "pvc://teachers/model.safetensors", "architecture": mlp(64)}
    return {
        "formats": ["ONNX"],
        "batchSizes": [1],
        "prune": {"ratio": "0.5", "fineTune": {"epochs": 1, "data": {"uri": "pvc://models/train.npz"}}},
        "distill": {"teacher": teacher, "epochs": 1},
        **more,
    }


def test_the_job_fetches_trains_and_tells_what_it_took_back(pod, claims, capfd):
    pod.job(claims, optimization=recipe(), serving={"gpus": 1, "cpuThreads": 1})
    assert pod.command("fetch")[0] == 0
    notes = {path.name: json.loads(path.read_text()) for path in pod.work.glob("*.json")}
    assert {"source.json", "training.json", "teacher.json"} <= set(notes)
    code, told = pod.command("optimize")
    assert (code, told.reason) == (0, Reason.SUCCEEDED)
    assert "; prune and distill was taken back: Accuracy falls from" in told.message
    report = Report.model_validate_json((pod.store / told.artifact.path / "report.json").read_text())
    prune, distill = report.training
    assert prune.parameters_after == distill.parameters_before < prune.parameters_before
    assert (report.samples, report.sample_count, report.metric.name) == ("Given", 256, "Accuracy")  # held out, labelled
    assert any("taken back" in note for note in report.notes)
    assert not list((pod.store / "work").glob("*"))
    lines = capfd.readouterr().out
    assert "distill    epoch 1 of 1, loss" in lines
    assert "Accuracy" in lines
    assert "left in prune" in lines


def test_a_job_whose_training_data_are_gone_says_so(pod, claims):
    (pod.source / "train.npz").unlink()
    pod.job(claims, optimization=recipe())
    code, told = pod.command("fetch")
    assert (code, told.reason) == (10, Reason.SOURCE_NOT_FOUND)


def test_a_teacher_that_does_not_load_is_named_as_the_teacher(pod, claims):
    (pod.teacher / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"notjson!")
    pod.job(claims, optimization=recipe(), serving={"gpus": 1, "cpuThreads": 1})
    assert pod.command("fetch")[0] == 0
    code, told = pod.command("optimize")
    assert code == 10
    assert told.message.startswith("distill.teacher: ")


def test_data_that_do_not_fit_end_the_job_for_good(pod, claims):
    x, y = digits(mlp(), TRAIN)
    np.savez(pod.source / "train.npz", x=x, labels=y + 1)
    pod.job(claims, optimization=recipe())
    assert pod.command("fetch")[0] == 0
    code, told = pod.command("optimize")
    assert (code, told.reason) == (10, Reason.TRAINING_DATA_INVALID)
