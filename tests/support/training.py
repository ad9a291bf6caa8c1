"""Recipes that train, on real digits: weights of library architectures with data beside them, ready for a run."""

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from pilotfish.api.model import Architecture, ModelSpec
from pilotfish.api.optimization import OptimizationSpec
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.progress import Progress, optimize_stages
from pilotfish.optimizer.pytorch.factories import build
from pilotfish.optimizer.pytorch.training.recipe import Order, Retrained, retrain

SEED = 11
CNN = {
    "factory": "timm.create_model",
    "arguments": {"model_name": "resnet10t", "in_chans": 1, "num_classes": 10, "channels": [32, 32, 64, 64]},
}
DATA = {"uri": "file:train.npz"}
SHAPES = {"timm.create_model": [1, 8, 8], "torchvision.ops.MLP": [64]}


def mlp(*widths: int, classes: int = 10, dropout: float = 0.0) -> dict[str, Any]:
    """A perceptron over 64 pixels."""
    arguments = {"in_channels": 64, "hidden_channels": [*widths, classes], "dropout": dropout}
    return {"factory": "torchvision.ops.MLP", "arguments": arguments}


def digits(architecture: dict[str, Any], part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled images in the architecture's shape, and their numbers."""
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.target))[part]
    images = (data.data / 16).astype(np.float32)[order]
    return images.reshape(-1, *SHAPES[architecture["factory"]]), data.target[order].astype(np.int64)


TRAIN, TEST = slice(0, 1300), slice(1300, None)


def train(architecture: dict[str, Any], *, epochs: int, seed: int = SEED) -> nn.Module:
    """A model of it, trained on the first 1300 digits."""
    torch.manual_seed(seed)
    model = build(Architecture.model_validate(architecture))
    x, y = map(torch.from_numpy, digits(architecture, TRAIN))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


@cache
def trained_cnn() -> nn.Module:
    """About 97 % on unseen digits; 212,000 parameters in layers wide enough to prune."""
    return train(CNN, epochs=6)


def write_source(folder: Path, model: nn.Module, architecture: dict[str, Any], **data: np.ndarray) -> dict[str, Any]:
    """Weights as safetensors and `train.npz` in the folder; `spec.model` for them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    if data:
        np.savez(folder / "train.npz", **data)
    tensor = {"name": "x", "dtype": "FP32", "shape": SHAPES[architecture["factory"]]}
    return {"uri": "model.safetensors", "architecture": architecture, "signature": {"inputs": [tensor]}}


After = Callable[[str, int], None] | None


def open_model(folder: Path, spec: dict[str, Any]) -> LoadedModel:
    found = identify(folder / spec["uri"], work=folder)
    return load_model(found, ModelSpec.model_validate(spec), threads=1, recorded=None)


def school(
    folder: Path,
    spec: dict[str, Any],
    *,
    teacher: LoadedModel | None = None,
    after: After = None,
    seed: int = SEED,
    **optimization: Any,
) -> Retrained:
    """The recipe on the folder's weights and data, checkpoints in the folder."""
    said = OptimizationSpec.model_validate(optimization)
    order = Order(
        spec=said,
        load=lambda: open_model(folder, spec),
        teacher=(lambda _data: teacher) if teacher else None,
        data=folder / "train.npz",
        identity={"source": "x"},
        checkpoints=Checkpoints(folder, "key"),
        progress=Progress(optimize_stages(said)),
        threads=1,
        seed=seed,
        fallback=not spec.get("architecture", {}).get("fresh"),
        after_epoch=after or (lambda _stage, _epoch: None),
    )
    return retrain(order, open_model(folder, spec))


def accuracy(model: LoadedModel, x: np.ndarray, y: np.ndarray) -> float:
    (answer,) = model.runner.run({model.signature.inputs[0].name: x}).values()
    return float((answer.argmax(1) == y).mean())


def weights(model: LoadedModel) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.module.state_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def recipe(folder: Path, spec: dict[str, Any], after: After = None) -> Retrained:
    """All three stages, two epochs each, with a teacher that lies in the folder."""
    teacher = open_model(folder / "teacher", {**spec, "architecture": mlp(128)})
    return school(
        folder,
        spec,
        teacher=teacher,
        after=after,
        fineTune={"epochs": 2, "data": DATA},
        prune={"ratio": "0.5", "fineTune": {"epochs": 2}},
        distill={"teacher": {"uri": "s3://a/b"}, "epochs": 2},
        tolerance={"maxMetricDrop": "1"},
    )


def until_killed(folder: Path, spec: dict[str, Any], at: tuple[str, int], told: str) -> None:
    """The recipe in a process that is killed after this stage's epoch; every epoch is told in a file."""
    torch.set_num_threads(1)

    def after(stage: str, epoch: int) -> None:
        with Path(told).open("a") as stream:
            stream.write(f"{stage} {epoch}\n")
        if (stage, epoch) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    recipe(folder, spec, after)
