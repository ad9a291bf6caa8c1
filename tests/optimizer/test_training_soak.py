"""What pruning and distillation are worth, measured: ResNet18 without half of its channels, a student over five seeds."""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pilotfish.api.model import Architecture
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.generate import SEED
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.pytorch.export_onnx import export_onnx
from pilotfish.optimizer.pytorch.factories import build
from support.training import (
    CNN,
    DATA,
    SHAPES,
    TEST,
    TRAIN,
    accuracy,
    digits,
    open_model,
    school,
    train,
    write_source,
)

pytestmark = [pytest.mark.torch, pytest.mark.soak]
RESNET = {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}}
SMALL = {**CNN, "arguments": {**CNN["arguments"], "channels": [16, 16, 16, 16]}}


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def large_digits(part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Digits as ResNet18 takes them: 32 pixels wide, three channels."""
    x, y = digits(CNN, part)
    return np.ascontiguousarray(np.repeat(x.repeat(4, axis=2).repeat(4, axis=3), 3, axis=1)), y


def exported(model: LoadedModel, path: Path) -> onnxruntime.InferenceSession:
    """The model's ONNX file, loaded with one thread."""
    (name,) = (t.name for t in model.signature.inputs)
    inputs = {name: np.random.default_rng(1).standard_normal((8, *model.signature.inputs[0].shape)).astype(np.float32)}
    export_onnx(model, Samples(inputs=inputs, labels=None, given=False, seed=SEED), path, max_batch=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def latencies(sessions: list[onnxruntime.InferenceSession], batch: int, *, rounds: int) -> list[float]:
    """Each one's median CPU time of a call in milliseconds, in turns; with one thread a busy machine changes it little."""
    x = np.random.default_rng(2).standard_normal((batch, 3, 224, 224)).astype(np.float32)
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds):
        for session, own in zip(sessions, times, strict=True):
            began = time.thread_time()
            session.run(None, {"x": x})
            own.append((time.thread_time() - began) * 1000)
    return [statistics.median(own) for own in times]


def test_resnet18_without_half_of_its_channels(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, RESNET["factory"], [3, 224, 224])
    x, y = large_digits(TRAIN)
    blank = write_source(tmp_path / "blank", build(Architecture.model_validate(RESNET)), RESNET)
    small = {**blank, "signature": {"inputs": [{"name": "x", "dtype": "FP32", "shape": [3, 32, 32]}]}}
    np.savez(tmp_path / "blank" / "train.npz", x=x, labels=y)
    source = school(tmp_path / "blank", small, fineTune={"epochs": 3, "data": DATA})
    folder = tmp_path / "trained"
    write_source(folder, source.model.module, RESNET, x=x, labels=y)
    repair = {"epochs": 4, "data": DATA}
    done = school(folder, small, prune={"ratio": "0.5", "fineTune": repair})
    unseen, numbers = large_digits(TEST)
    before, after = accuracy(source.model, unseen, numbers), accuracy(done.model, unseen, numbers)
    whole = open_model(folder, {**small, "signature": blank["signature"]})
    sessions = [exported(whole, tmp_path / "whole.onnx")]
    pruned = LoadedModel(
        format=whole.format, variant=whole.variant, runner=done.model.runner, signature=whole.signature,
        module=done.model.module,
    )  # fmt: skip
    sessions.append(exported(pruned, tmp_path / "pruned.onnx"))
    ratios = {}
    for batch, rounds in ((1, 60), (8, 10)):
        a, b = latencies(sessions, batch, rounds=rounds)
        ratios[batch] = a / b
        tell(f"batch {batch}: {a:.1f} ms to {b:.1f} ms, {a / b:.2f}x")
    (stage,) = done.stages
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size / 1e6 for name in ("whole", "pruned")]
    tell(f"accuracy on unseen digits {before:.4f} to {after:.4f}; held out {stage.metric_before:.4f} to "
          f"{stage.metric_after:.4f}; {stage.notes[0]} {sizes[0]:.1f} MB to {sizes[1]:.1f} MB")  # fmt: skip
    assert done.refused is None
    assert stage.parameters_after < 0.3 * stage.parameters_before
    assert min(ratios.values()) > 3


def margins(folder: Path, teacher: torch.nn.Module, *, labelled: int) -> list[tuple[float, float]]:
    """Accuracy on unseen digits of the student alone and with the teacher, per seed."""
    found = []
    for seed in range(5):
        here = folder / f"{labelled}-{seed}"
        x, y = digits(CNN, TRAIN)
        y[np.random.default_rng(100 + seed).permutation(len(y))[labelled:]] = -100
        spec = write_source(here, train(SMALL, epochs=0, seed=seed), SMALL, x=x, labels=y)
        taught_by = open_model(here / "teacher", write_source(here / "teacher", teacher, CNN))
        said = {"epochs": 8, "learningRate": "5e-3", "data": DATA}
        alone = school(here, spec, seed=seed, fineTune=said)
        Checkpoints(here, "key").discard()
        distill = {**said, "teacher": {"uri": "s3://a/b"}}
        taught = school(here, spec, seed=seed, teacher=taught_by, distill=distill)
        found.append((accuracy(alone.model, *digits(CNN, TEST)), accuracy(taught.model, *digits(CNN, TEST))))
    return found


@pytest.mark.parametrize(("labelled", "least"), [(1300, -0.02), (130, 0.1)])
def test_a_student_with_and_without_its_teacher(tmp_path, labelled, least):
    """With every label a student this good has nothing to learn from a teacher that is no better; with few, a lot."""
    torch.set_num_threads(1)
    teacher = train(CNN, epochs=14)
    found = margins(tmp_path, teacher, labelled=labelled)
    gains = [taught - alone for alone, taught in found]
    tell(f"{labelled} labels: alone {statistics.mean(a for a, _ in found):.4f}, "
          f"taught {statistics.mean(t for _, t in found):.4f}, margin {statistics.mean(gains):+.4f} "
          f"+- {statistics.stdev(gains):.4f} over 5 seeds {[round(g, 4) for g in gains]}")  # fmt: skip
    assert statistics.mean(gains) > least
