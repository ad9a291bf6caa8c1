"""Training's parts by themselves: every way in which data do not fit, losses, what pruning leaves whole, schedules."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pilotfish.api.job_input import JobInput
from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import TensorSpec
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import Identified
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.pytorch.infer import Entry, infer_signature
from pilotfish.optimizer.pytorch.training.data import make_training_set, read_training_set
from pilotfish.optimizer.pytorch.training.loop import batches, rate_at
from pilotfish.optimizer.pytorch.training.losses import DistillationLoss, TaskLoss, soft_loss
from pilotfish.optimizer.pytorch.training.pruning import choose_rounding, prune_channels
from pilotfish.optimizer.pytorch.training.trainee import Trainee, check_loaded
from pilotfish.optimizer.retraining import check_trainable
from support.models import Lstm, Transformer

pytestmark = pytest.mark.torch


def loaded(module: nn.Module, shape: tuple[int, ...]) -> LoadedModel:
    torch.manual_seed(0)
    inputs = (TensorSpec(name="x", dtype="FP32", shape=shape),)
    signature, runner = infer_signature(module.eval(), Entry(inputs=inputs, bounds={}))
    return LoadedModel(
        format=ModelFormat.SAFE_TENSORS, variant="original-torch", runner=runner, signature=signature, module=module
    )


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


LINEAR = loaded(nn.Linear(4, 3), (4,))
X, Y = noise(20, 4), np.arange(20) % 3


# Data


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"labels": Y}, "lack 'x'; give one array per input: x"),
        ({"x": X}, "lack 'labels'; add class numbers"),
        ({"x": X, "labels": Y, "mask": Y}, "hold 'mask', which is no input"),
        ({"x": X[:, :3], "labels": Y}, r"'x' has shape \[20, 3\], but the model takes \[samples, 4\]"),
        ({"x": X.astype(np.int64), "labels": Y}, "'x' is int64, but the model takes FP32"),
        ({"x": np.where(X > 1, np.nan, X), "labels": Y}, "'x' holds NaN or infinity; remove those samples"),
        ({"x": X, "labels": Y[:19]}, r"differ in their number of samples \(x 20, labels 19\)"),
        ({"x": X[:0], "labels": Y[:0]}, "differ in their number of samples"),
        ({"x": X[:9], "labels": Y[:9]}, "hold 9 samples, fewer than 10"),
        (
            {"x": X, "labels": Y + 1},
            "'labels' holds 3, but output 'output' has 3 classes, 0 to 2; .*architecture.fresh",
        ),
        ({"x": X, "labels": Y - 1}, "'labels' holds -1; classes are counted from 0"),
        ({"x": X, "labels": Y * 0 + 2}, "'labels' is 2 everywhere; there is nothing to tell apart"),
        ({"x": X, "labels": Y * 0 - 100}, "'labels' holds nothing but -100"),
        ({"x": X, "labels": np.where(np.arange(20) < 9, Y, -100)}, "hold 9 samples with a label, fewer than 10"),
        ({"x": X, "labels": np.stack([Y, Y], 1)}, r"'labels' is int64 \[20, 2\], which are no class numbers"),
        ({"x": X, "labels": Y.astype(str)}, "'labels' is <U.*; save class numbers as integers"),
        ({"x": X, "labels": Y > 0}, "'labels' is bool; save class numbers as integers"),
        (
            {"x": X, "labels": Y.astype(np.float32)},
            r"'labels' is float32 \[20\], but output 'output' is \[20, 3\]; save",
        ),
        ({"x": X, "labels": noise(20, 3) * np.inf}, "'labels' holds NaN or infinity; remove those samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_do_not_fit_are_named(arrays, says):
    with pytest.raises(OptimizerError, match=f"^the training data.*{says}") as caught:
        make_training_set(arrays, LINEAR)
    assert caught.value.reason is Reason.TRAINING_DATA_INVALID


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04broken", b"\x08" + b"\0" * 7 + b"notjson!"])
def test_files_that_hold_no_arrays_are_named(tmp_path: Path, content: bytes):
    (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(OptimizerError, match=r"^the training data: .*train.npz") as caught:
        read_training_set(tmp_path / "train.npz", LINEAR)
    assert caught.value.reason is Reason.TRAINING_DATA_INVALID


def test_pickles_in_the_data_are_not_opened(tmp_path: Path):
    np.savez(tmp_path / "train.npz", x=X, labels=np.array([{}] * 20, dtype=object))
    with pytest.raises(OptimizerError, match="holds objects") as caught:
        read_training_set(tmp_path / "train.npz", LINEAR)
    assert caught.value.reason is Reason.TRAINING_DATA_INVALID


def test_a_model_that_fails_on_the_data_is_told():
    table = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 2)).eval()
    inputs = (TensorSpec(name="ids", dtype="INT64", shape=(2,)),)
    signature, runner = infer_signature(table, Entry(inputs=inputs, bounds={"ids": 5}))
    model = LoadedModel(format=ModelFormat.SAFE_TENSORS, variant="o", runner=runner, signature=signature, module=table)
    with pytest.raises(OptimizerError, match="the model fails on the training data: index out of range"):
        make_training_set({"ids": np.where(np.arange(40).reshape(20, 2) == 37, 7, 1), "labels": Y % 2}, model)


def test_a_model_that_answers_infinity_to_the_data_is_told():
    steep = nn.Linear(4, 3)
    with torch.no_grad():
        steep.weight.fill_(1e30)
    with pytest.raises(OptimizerError, match="the model answers NaN or infinity on the training data"):
        make_training_set({"x": X * np.float32(1e30), "labels": Y}, loaded(steep, (4,)))


def test_a_fifth_is_held_out_and_never_learned():
    data = make_training_set({"x": X, "labels": Y.astype(np.uint8)}, LINEAR)
    assert (len(data.learned), len(data.held_out)) == (16, 4)
    assert sorted([*data.learned, *data.held_out]) == list(range(20))
    again = make_training_set({"x": X, "labels": Y[:, None]}, LINEAR)
    np.testing.assert_array_equal(data.held_out, again.held_out)
    np.testing.assert_array_equal(data.labels, again.labels)
    other = make_training_set({"x": X, "labels": Y}, LINEAR, seed=1)
    assert not np.array_equal(data.held_out, other.held_out)


def test_those_without_a_label_are_split_by_themselves():
    labels = np.where(np.arange(100) < 15, np.arange(100) % 3, -100)
    data = make_training_set({"x": noise(100, 4), "labels": labels}, LINEAR)
    assert (labels[data.learned] >= 0).sum() == 12
    assert (labels[data.held_out] >= 0).sum() == 3
    assert len(data.held_out) == 20


# Losses


def task_of(model: LoadedModel, labels: np.ndarray = Y) -> TaskLoss:
    return TaskLoss(data=make_training_set({"x": X, "labels": labels}, model))


def test_the_soft_loss_is_divided_by_samples_and_keeps_its_size_at_any_temperature():
    torch.manual_seed(1)
    student, teacher = torch.randn(50, 10, requires_grad=True), torch.randn(50, 10)
    everyone = torch.ones(50, dtype=torch.bool)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    by_hand = 9 * (p * (p / q).log()).sum(1).mean()
    assert soft_loss(student, teacher, temperature=3, counted=everyone).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )
    norms = []
    for temperature in (2.0, 4.0, 16.0):
        student.grad = None
        soft_loss(student, teacher, temperature=temperature, counted=everyone).backward()
        norms.append(student.grad.norm().item())
    assert max(norms) < 1.3 * min(norms)


def test_alpha_weighs_the_teacher_against_the_labels():
    task = task_of(LINEAR)
    picked = np.arange(5)
    scores = torch.from_numpy(noise(5, 3))

    def loss(alpha: float, teacher: np.ndarray) -> float:
        both = DistillationLoss(task=task, answers=teacher, teacher_probabilities=False, temperature=2.0, alpha=alpha)
        return both(scores, picked).item()

    assert loss(0.0, noise(20, 3) + 5) == pytest.approx(task(scores, picked).item())
    same = np.concatenate([scores.numpy(), noise(15, 3)])
    assert loss(1.0, same) == pytest.approx(0, abs=1e-6)
    other = np.roll(same, 1, axis=0)
    assert loss(0.7, other) == pytest.approx(0.7 * loss(1.0, other) + 0.3 * loss(0.0, other), rel=1e-5)


def test_a_sample_without_a_label_is_learned_from_the_teacher_alone():
    labels = np.where(np.arange(20) < 12, Y, -100)
    task = task_of(LINEAR, labels)
    unknown = np.arange(14, 18)
    scores = torch.from_numpy(noise(4, 3)).requires_grad_()
    assert task(scores, unknown).item() == 0
    both = DistillationLoss(
        task=task, answers=noise(20, 3) + 3, teacher_probabilities=False, temperature=2.0, alpha=0.5
    )
    assert both(scores, unknown).item() > 0
    assert task(scores, np.array([0, 15, 16, 17])).item() == pytest.approx(task(scores[:1], np.array([0])).item())


def test_a_model_that_ends_in_softmax_is_not_softened_twice():
    torch.manual_seed(3)
    bare = nn.Linear(4, 3)
    plain, shares = loaded(bare, (4,)), loaded(nn.Sequential(bare, nn.Softmax(-1)), (4,))
    picked = np.arange(6)
    x = torch.from_numpy(X[picked])
    assert task_of(shares).data.probabilities
    assert task_of(plain)(plain.module(x), picked).item() == pytest.approx(
        task_of(shares)(shares.module(x), picked).item(), rel=1e-5
    )


def test_words_have_labels_of_their_own_and_some_do_not_count():
    model = loaded(nn.Linear(4, 3), (5, 4))
    labels = np.random.default_rng(2).integers(0, 3, (20, 5))
    labels[:, 3:] = -100
    data = make_training_set({"x": noise(20, 5, 4), "labels": labels}, model)
    assert data.class_axis == 2
    picked = np.arange(4)
    answer = model.module(torch.from_numpy(data.inputs["x"][picked]))
    counted = nn.functional.cross_entropy(
        answer[:, :3].reshape(-1, 3), torch.from_numpy(labels[picked][:, :3]).reshape(-1)
    )
    assert TaskLoss(data=data)(answer, picked).item() == pytest.approx(counted.item(), rel=1e-5)


# Pruning


class Heads(nn.Module):
    """Two answers, one of them behind a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.more = nn.Linear(8, 64), nn.Linear(64, 64)
        self.first, self.second = nn.Linear(64, 3), nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> Any:
        seen = self.more(self.body(x).relu()).relu()
        return self.first(seen).softmax(-1), self.second(seen)


class Fixed(nn.Module):
    """A size that its code knows by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 32, 3, padding=1), nn.Linear(32 * 64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).view(-1, 32 * 64))


def test_answers_keep_their_sizes():
    model = loaded(Heads(), (8,))
    note = prune_channels(Trainee(model), {"x": noise(4, 8)}, ratio=0.5)
    assert note == "Pruned from 5,256 to 1,608 parameters, channels in multiples of 16."
    answers = model.runner.run({"x": noise(4, 8)})
    assert [a.shape for a in answers.values()] == [(4, 3), (4, 5)]
    assert (model.module.body.out_features, model.module.more.out_features) == (32, 32)


def test_attention_keeps_its_heads():
    model = loaded(Transformer(), (8, 8))
    layer = model.module.encoder.layers[0]
    prune_channels(Trainee(model), {"x": noise(4, 8, 8)}, ratio=0.5)
    assert layer.self_attn.in_proj_weight.shape == (96, 32)
    assert layer.linear1.out_features == 32
    assert model.runner.run({"x": noise(3, 8, 8)})["output"].shape == (3, 10)


@pytest.mark.parametrize(
    ("module", "shape", "says"),
    [
        (Fixed, (1, 8, 8), "channels cannot be removed from this model .*shapes cannot be multiplied"),
        (Lstm, (8, 8), "no channel can be removed at ratio 0.5: the layers are too narrow or bound"),
    ],
)
def test_what_cannot_be_pruned_says_why_and_what_to_do(module, shape, says):
    with pytest.raises(OptimizerError, match=f"{says}.*distill it into a smaller architecture") as caught:
        prune_channels(Trainee(loaded(module(), shape)), {"x": noise(4, *shape)}, ratio=0.5)
    assert caught.value.reason is Reason.TRAINING_FAILED


@pytest.mark.parametrize(
    ("widths", "ratio", "expected"),
    [
        ([(64, 9000), (512, 2_000_000)], 0.5, (16, frozenset())),
        ([(24, 300), (64, 9000)], 0.5, (16, frozenset({24}))),  # 12 left, and nobody misses them
        ([(16, 500), (32, 600)], 0.5, (8, frozenset())),
        ([(8, 500), (6, 400)], 0.5, (2, frozenset())),
        ([(64, 100)], 0.9, (4, frozenset())),
        ([], 0.5, (16, frozenset())),
    ],
)
def test_widths_decide_the_step(widths, ratio, expected):
    assert choose_rounding(widths, ratio=ratio) == expected


# Schedules and the door


def test_no_batch_of_one_and_every_sample_once():
    parts = batches(np.arange(33), 8, seed=5)
    assert [len(p) for p in parts] == [8, 8, 8, 9]
    assert sorted(np.concatenate(parts)) == list(range(33))
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(batches(np.arange(33), 8, seed=5)))
    assert not np.array_equal(np.concatenate(parts), np.concatenate(batches(np.arange(33), 8, seed=6)))
    assert [len(p) for p in batches(np.arange(1), 8, seed=5)] == [1]


def test_the_rate_rises_and_falls():
    rates = [rate_at(step, steps=100, top=1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[4] == rates[5] == 1.0
    assert all(a >= b for a, b in pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize(
    ("found", "stage", "says"),
    [
        (ModelFormat.ONNX, {"fineTune": {}}, "a model as ONNX cannot be trained; .* give weights as SafeTensors"),
        (ModelFormat.TORCH_SCRIPT, {"distill": {"teacher": {"uri": "s3://a/b"}}}, "a model as TorchScript cannot be"),
        (ModelFormat.EXPORTED_PROGRAM, {"prune": {}}, "the sizes of an exported program are fixed"),
        (ModelFormat.EXPORTED_PROGRAM, {"fineTune": {}}, None),
        (ModelFormat.ONNX, {}, None),
    ],
)
def test_what_cannot_be_trained_is_told_before_it_is_opened(found, stage, says):
    job = JobInput.model_validate(
        {"name": "m", "revision": "r", "recipeKey": "k", "model": {"uri": "s3://a/b"}, "optimization": stage}
    )
    known = Identified(format=found, path=Path("m"))
    if says is None:
        check_trainable(known, job)
        return
    with pytest.raises(OptimizerError, match=says) as caught:
        check_trainable(known, job)
    assert caught.value.reason is Reason.UNSUPPORTED_FORMAT


def test_a_module_without_parameters_has_nothing_to_train():
    with pytest.raises(OptimizerError, match="no parameter to train"):
        check_loaded(loaded(nn.Flatten(), (4, 2)))
