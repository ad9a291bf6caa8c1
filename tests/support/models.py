"""Small real models, trained in seconds on scikit-learn's digits: what the tests, the demo and e2e put through Pilotfish.

Every trainer returns (model, example input, X_test, y_test): the model in evaluation mode, the example a batch of two,
X_test float32 in the model's input shape, y_test int64 class numbers. Equal seeds give equal weights on one machine.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 7
Trained = tuple[nn.Module, torch.Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]]


class Mlp(nn.Module):
    """64 pixels to 10 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.net(pixels)


class Cnn(nn.Module):
    """One 8 x 8 image to 10 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).flatten(1))


class Lstm(nn.Module):
    """The image's eight rows as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(rows)[0][:, -1])


class Transformer(nn.Module):
    """The image's eight rows as tokens of a small encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.position = nn.Parameter(torch.zeros(8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(rows) + self.position).mean(1))


@cache
def train_mlp() -> Trained:
    """About 97 % on unseen digits."""
    return _train(Mlp, (64,), epochs=30)


@cache
def train_cnn() -> Trained:
    """About 99 % on unseen digits."""
    return _train(Cnn, (1, 8, 8), epochs=8)


@cache
def train_lstm() -> Trained:
    """About 97 % on unseen digits."""
    return _train(Lstm, (8, 8), epochs=20)


@cache
def train_transformer() -> Trained:
    """About 97 % on unseen digits."""
    return _train(Transformer, (8, 8), epochs=20)


def accuracy(model: nn.Module, inputs: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Share of right answers."""
    with torch.no_grad():
        return float((model(torch.from_numpy(inputs)).argmax(1).numpy() == labels).mean())


def _train(kind: type[nn.Module], shape: tuple[int, ...], *, epochs: int) -> Trained:
    torch.manual_seed(SEED)
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32).reshape(-1, *shape)
    x, x_test, y, y_test = train_test_split(images, digits.target.astype(np.int64), test_size=0.25, random_state=SEED)
    model = kind()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    features, labels = torch.from_numpy(x), torch.from_numpy(y)
    learn(model, features, labels, epochs=epochs, step=optimizer.step)
    return model.eval(), features[:2].clone(), x_test, y_test


def learn(
    model: nn.Module, features: torch.Tensor, labels: torch.Tensor, *, epochs: int, step: Callable[[], object]
) -> None:
    """Cross entropy in batches of 64; `step` follows each backward pass, whose gradients start from nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small only lose by being shared out
    for _ in range(epochs):
        for batch in torch.randperm(len(features)).split(64):
            model.zero_grad()
            nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
            step()
    torch.set_num_threads(threads)
