"""Models that have learned something, with inputs that they have not seen and the right answers to them.

The data comes inside packages: scikit-learn's digits, and the word lists of pyspellchecker as a text set (of which
language is this word?).
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from support.models import learn, train_cnn, train_lstm, train_mlp

Array = np.ndarray[Any, Any]
SEED = 3
LANGUAGES = ("de", "en", "es", "fr", "it", "pt", "nl", "lv")
_LETTERS = "abcdefghijklmnopqrstuvwxyzàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿāčēģīķļņšūžßœ'"
_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A classifier in evaluation mode; `calibration` are inputs it was trained on, `unseen` those it was not."""

    module: nn.Module
    input: str
    calibration: Array
    labels: Array
    unseen: Array
    answers: Array


class Resnet(nn.Module):
    """ResNet18 over digits of 8 x 8 pixels made 32 x 32, in three equal colours."""

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        self.net = torchvision.models.resnet18(num_classes=10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 3, 32, 32) float32 to (batch, 10)."""
        answer: torch.Tensor = self.net(image)
        return answer


class Words(nn.Module):
    """A small transformer over the letters of a word."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(_LETTERS) + 1, 64)
        self.position = nn.Parameter(torch.zeros(_LENGTH, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(64, len(LANGUAGES))

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        """(batch, 16) int64, 0 where the word has ended, to (batch, languages)."""
        answer: torch.Tensor = self.head(self.encoder(self.embed(letters) + self.position).mean(1))
        return answer


def resnet18() -> Trained:
    """All of ResNet18's weights, trained for a few epochs."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    images = nn.functional.interpolate(small, size=32, mode="bilinear").expand(-1, 3, -1, -1).contiguous().numpy()
    x, unseen, y, answers = train_test_split(images, digits.target.astype(np.int64), test_size=0.25, random_state=SEED)
    return _fit(Resnet, "image", (x, y), (unseen, answers), epochs=4, rate=1e-3)


def words() -> Trained:
    """3,000 common words of each language; accents give much away, the rest must be learned."""
    import spellchecker

    folder = Path(spellchecker.__file__).parent / "resources"
    rows, labels = [], []
    for label, language in enumerate(LANGUAGES):
        counts = json.loads(gzip.decompress((folder / f"{language}.json.gz").read_bytes()))
        common = sorted((w for w in counts if 4 <= len(w) <= _LENGTH), key=lambda w: (-counts[w], w))[:3000]  # noqa: PLR2004
        rows += [[_LETTERS.find(c) + 1 for c in word] + [0] * (_LENGTH - len(word)) for word in common]
        labels += [label] * len(common)
    order = np.random.default_rng(SEED).permutation(len(rows))
    x, y = np.array(rows, np.int64)[order], np.array(labels, np.int64)[order]
    cut = len(x) * 3 // 4
    return _fit(Words, "letters", (x[:cut], y[:cut]), (x[cut:], y[cut:]), epochs=6, rate=2e-3)


def _digits(train: Callable[[], Any], name: str) -> Callable[[], Trained]:
    def build() -> Trained:
        module, _, x, y = train()
        half = len(x) // 2
        return Trained(
            module=module, input=name, calibration=x[:half], labels=y[:half], unseen=x[half:], answers=y[half:]
        )

    return build


def _fit(
    kind: Callable[[], nn.Module],
    name: str,
    seen: tuple[Array, Array],
    unseen: tuple[Array, Array],
    *,
    epochs: int,
    rate: float,
) -> Trained:
    torch.manual_seed(SEED)
    module = kind().train()
    features, labels = torch.from_numpy(seen[0]), torch.from_numpy(seen[1])
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate)
    steps = epochs * -(-len(features) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)

    def step() -> None:
        optimizer.step()
        schedule.step()

    learn(module, features, labels, epochs=epochs, step=step)
    return Trained(
        module=module.eval(),
        input=name,
        calibration=seen[0][:128],
        labels=seen[1][:128],
        unseen=unseen[0],
        answers=unseen[1],
    )


MODELS: dict[str, Callable[[], Trained]] = {
    "mlp": _digits(train_mlp, "pixels"),
    "cnn": _digits(train_cnn, "image"),
    "lstm": _digits(train_lstm, "rows"),
    "resnet18": resnet18,
    "words": words,
}
