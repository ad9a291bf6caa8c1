"""Fine-tuning, pruning and distillation of real digits models: what they gain, keep, refuse and tell."""

import io
import multiprocessing
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import pilotfish
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel
from support.models import train_mlp
from support.training import (
    CNN,
    DATA,
    TEST,
    TRAIN,
    accuracy,
    digits,
    mlp,
    open_model,
    recipe,
    same,
    school,
    train,
    trained_cnn,
    until_killed,
    weights,
    write_source,
)

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def perceptron():
    """A trained source of 64-128-64-10."""
    return train(mlp(128, 64), epochs=12)


@pytest.fixture
def source(tmp_path, perceptron):
    x, y = digits(mlp(), TRAIN)
    return tmp_path, write_source(tmp_path, perceptron, mlp(128, 64), x=x, labels=y)


def file_size(model: LoadedModel) -> int:
    """Bytes of its TorchScript file."""
    stream = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.trace(model.module, torch.zeros(2, 1, 8, 8))), stream)
    return len(stream.getvalue())


# Gains


def test_a_pruned_cnn_is_smaller_and_as_good(tmp_path):
    x, y = digits(CNN, TRAIN)
    spec = write_source(tmp_path, trained_cnn(), CNN, x=x, labels=y)
    unseen, numbers = digits(CNN, TEST)
    original = open_model(tmp_path, spec)
    before, size = accuracy(original, unseen, numbers), file_size(original)
    repair = {"epochs": 5, "data": DATA, "learningRate": "3e-3"}
    done = school(tmp_path, spec, prune={"ratio": "0.5", "fineTune": repair}, tolerance={"maxMetricDrop": "0.03"})
    (stage,) = done.stages
    assert done.refused is None
    assert before > 0.95
    assert accuracy(done.model, unseen, numbers) > before - 0.03  # 497 digits that no run has seen; the gate saw others
    assert stage.metric_before - stage.metric_after <= 0.03
    assert stage.parameters_after < 0.35 * stage.parameters_before
    assert file_size(done.model) < 0.4 * size
    assert [e.epoch for e in stage.epochs] == [1, 2, 3, 4, 5]
    assert stage.epochs[-1].loss < stage.epochs[0].loss
    assert (stage.samples, stage.held_out) == (1040, 260)
    assert "Pruned from" in stage.notes[0]


def test_a_cnn_learns_other_labels_and_what_is_frozen_stays(tmp_path):
    x, y = digits(CNN, TRAIN)
    halves = {**CNN, "arguments": {**CNN["arguments"], "num_classes": 2}, "fresh": ["fc.*"]}
    spec = write_source(tmp_path, trained_cnn(), CNN, x=x, labels=y % 2) | {"architecture": halves}
    kept = ("conv1.", "bn1.", "layer1.", "layer2.")
    before = weights(open_model(tmp_path, spec))
    done = school(tmp_path, spec, fineTune={"epochs": 3, "data": DATA, "freeze": [f"{name}*" for name in kept]})
    after = weights(done.model)
    frozen = [name for name in before if name.startswith(kept)]
    assert any("running_var" in name for name in frozen)
    assert all(np.array_equal(before[name], after[name]) for name in frozen)
    assert all(not np.array_equal(before[n], after[n]) for n in before if n not in frozen and "weight" in n)
    (stage,) = done.stages
    assert stage.metric_before < 0.7
    assert stage.metric_after > 0.93
    unseen, numbers = digits(CNN, TEST)
    assert accuracy(done.model, unseen, numbers % 2) > 0.93


def test_a_small_cnn_learns_from_a_larger_one(tmp_path):
    small = {**CNN, "arguments": {**CNN["arguments"], "channels": [16, 16, 16, 16]}}
    x, y = digits(CNN, TRAIN)
    spec = write_source(tmp_path, train(small, epochs=0), small, x=x, labels=y)
    large = write_source(tmp_path / "teacher", trained_cnn(), CNN)
    done = school(
        tmp_path,
        spec,
        teacher=open_model(tmp_path / "teacher", large),
        distill={"teacher": {"uri": "s3://a/b"}, "data": DATA, "epochs": 4, "learningRate": "5e-3"},
    )
    (stage,) = done.stages
    assert stage.metric_before < 0.3
    assert stage.metric_after > 0.9
    assert accuracy(done.model, *digits(CNN, TEST)) > 0.9
    assert stage.parameters_after < 60_000
    assert "The teacher's Accuracy" in stage.notes[0]


def test_a_packed_model_learns_and_says_in_which_mode(tmp_path):
    model, example, x, y = train_mlp()
    pilotfish.pack(model, example, tmp_path / "model", input_names=["x"], output_names=["logits"])
    np.savez(tmp_path / "train.npz", x=x, labels=(9 - y))  # the digits count backwards now
    done = school(tmp_path, {"uri": "model"}, fineTune={"epochs": 25, "data": DATA, "learningRate": "1e-2"})
    assert done.stages[0].metric_before < 0.2
    assert done.stages[0].metric_after > 0.9
    assert "without dropout" in done.stages[0].notes[0]


def test_numbers_of_the_output_s_shape_are_answers_to_come_close_to(source):
    folder, spec = source
    x, _ = digits(mlp(), TRAIN)
    wanted = np.random.default_rng(3).standard_normal((64, 10)).astype(np.float64)
    np.savez(folder / "train.npz", x=x, labels=x @ wanted)
    done = school(folder, spec, fineTune={"epochs": 8, "data": DATA})
    assert done.stages[0].metric == "MeanSquaredError"
    assert done.stages[0].metric_after < 0.2 * done.stages[0].metric_before


# Gates


def test_what_pruning_broke_is_taken_back(source):
    folder, spec = source
    unseen, _ = digits(mlp(), TEST)
    original = open_model(folder, spec).runner.run({"x": unseen})["output"]
    taken = school(folder, spec, prune={"ratio": "0.8", "fineTune": {"epochs": 1, "data": DATA, "freeze": ["*weight"]}})
    assert "prune was taken back: Accuracy falls from" in taken.refused
    assert "maxMetricDrop" in taken.refused
    np.testing.assert_array_equal(taken.model.runner.run({"x": unseen})["output"], original)
    assert taken.stages[0].metric_after < taken.stages[0].metric_before - 0.01


def test_taken_back_to_what_fine_tuning_made(source):
    folder, spec = source
    tuned = school(folder, spec, fineTune={"epochs": 2, "data": DATA})
    expected = weights(tuned.model)
    Checkpoints(folder, "key").discard()
    prune = {"ratio": "0.8", "fineTune": {"epochs": 1, "freeze": ["*weight"]}}
    done = school(folder, spec, fineTune={"epochs": 2, "data": DATA}, prune=prune)
    assert done.refused
    assert same(weights(done.model), expected)


def test_fail_means_fail_and_a_wide_tolerance_lets_it_pass(source):
    folder, spec = source
    prune = {"ratio": "0.8", "fineTune": {"epochs": 1, "data": DATA, "freeze": ["*weight"]}}
    with pytest.raises(OptimizerError, match=r"after prune Accuracy falls from .* compress less") as caught:
        school(folder, spec, prune=prune, onNoCandidate="Fail")
    assert caught.value.reason is Reason.NO_CANDIDATE_WITHIN_TOLERANCE
    wide = school(folder, spec, prune=prune, onNoCandidate="Fail", tolerance={"maxMetricDrop": "1"})
    assert wide.refused is None


def test_zeros_are_told_as_what_they_are(source):
    folder, spec = source
    done = school(folder, spec, prune={"method": "Unstructured", "fineTune": {"epochs": 3, "data": DATA}})
    (stage,) = done.stages
    assert stage.parameters_after == stage.parameters_before
    assert done.refused is None
    layers = [value for name, value in weights(done.model).items() if name.endswith("weight")]
    assert sum((w == 0).sum() for w in layers) / sum(w.size for w in layers) == pytest.approx(0.5, abs=0.01)
    assert not any("mask" in name or "orig" in name for name in weights(done.model))
    assert "neither smaller nor faster" in stage.notes[0]


# Breaking off


def test_killed_in_every_stage_and_the_same_in_the_end(tmp_path, monkeypatch):
    dropping = mlp(128, 64, dropout=0.2)
    x, y = digits(dropping, TRAIN)
    model = train(dropping, epochs=3)
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        spec = write_source(folder, model, dropping, x=x, labels=y)
        write_source(folder / "teacher", train(mlp(128), epochs=3), mlp(128))
    whole = recipe(tmp_path / "whole", spec)
    context = multiprocessing.get_context("forkserver")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    context.set_forkserver_preload(["support.training", "torch_pruning"])
    told = tmp_path / "told"
    for at in (("fineTune", 1), ("prune", 1), ("distill", 1)):
        process = context.Process(target=until_killed, args=(tmp_path / "broken", spec, at, str(told)))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    steps = [f"{stage} {epoch}" for stage in ("fineTune", "prune", "distill") for epoch in (1, 2)]
    assert told.read_text().splitlines() == steps[:5]  # no epoch twice, the last one is still to come
    again = recipe(tmp_path / "broken", spec)
    assert same(weights(again.model), weights(whole.model))
    assert [s.metric_after for s in again.stages] == [s.metric_after for s in whole.stages]
    assert [[e.loss for e in s.epochs] for s in again.stages] == [[e.loss for e in s.epochs] for s in whole.stages]


def test_other_input_does_not_find_the_checkpoints(source):
    folder, spec = source
    first = school(folder, spec, fineTune={"epochs": 2, "data": DATA})
    other = school(folder, spec, fineTune={"epochs": 2, "data": DATA, "learningRate": "2e-3"})
    assert not same(weights(first.model), weights(other.model))


# What cannot be


@pytest.mark.parametrize(
    ("tune", "says"),
    [
        (
            {"freeze": ["conv1.*"]},
            r"fineTune.freeze names 'conv1.\*', but no parameter is called so; they are like 0.bias",
        ),
        ({"freeze": ["*"]}, "fineTune.freeze leaves no parameter to train"),
    ],
)
def test_training_that_cannot_work_says_why(source, tune, says):
    folder, spec = source
    with pytest.raises(OptimizerError, match=says) as caught:
        school(folder, spec, fineTune={"data": DATA, **tune})
    assert caught.value.reason is Reason.TRAINING_FAILED


def test_a_loss_that_runs_away_ends_the_stage(source):
    folder, spec = source
    x, y = digits(mlp(), TRAIN)
    np.savez(folder / "train.npz", x=x, labels=np.repeat(y[:, None] * 1e30, 10, axis=1).astype(np.float32))
    with pytest.raises(OptimizerError, match="fineTune: the loss is no number any more in epoch 1; lower learningRate"):
        school(folder, spec, fineTune={"data": DATA})


@pytest.mark.parametrize(
    ("teacher", "says"),
    [(mlp(32, classes=5), r"distill.teacher answers \[5\] for a sample, the student \[10\]")],
)
def test_a_teacher_that_cannot_teach_says_why(source, teacher, says):
    folder, spec = source
    other = write_source(folder / "teacher", train(teacher, epochs=0), teacher)
    with pytest.raises(OptimizerError, match=says):
        school(
            folder,
            spec,
            teacher=open_model(folder / "teacher", other),
            distill={"teacher": {"uri": "s3://a/b"}, "data": DATA},
        )
