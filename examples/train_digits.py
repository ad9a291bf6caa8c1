"""Train a small convolutional network on handwritten digits and pack it for Pilotfish.

    python examples/train_digits.py OUT [--channels 16] [--seed 0]

Takes a few seconds on one core. OUT becomes a folder that `spec.model.uri` can name: the model as a clean exported
program, its signature, and samples of the test set with their labels.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import pilotfish

EPOCHS = 12
SAMPLES = 64


def make_network(channels: int) -> nn.Module:
    """Two convolutions and a linear layer: FP32 [batch, 1, 8, 8] to FP32 logits [batch, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * channels * 16, 10),
    )


def train(channels: int = 16, seed: int = 0) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A trained network with the images, FP32 [n, 1, 8, 8], and labels, INT64 [n], that it has not seen."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # a network this small only loses by sharing its work
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    network = make_network(channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.from_numpy(x[batch])), torch.from_numpy(y[batch])).backward()
            optimizer.step()
    return network.eval(), x_test, y_test


def main() -> None:
    """Train, say how good it is, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network, images, labels = train(options.channels, options.seed)
    with torch.no_grad():
        accuracy = (network(torch.from_numpy(images)).argmax(1).numpy() == labels).mean()
    samples = torch.from_numpy(images[:SAMPLES])
    pilotfish.pack(
        network,
        (samples[:2],),
        options.out,
        input_names=["image"],
        output_names=["logits"],
        samples=(samples,),
        labels=torch.from_numpy(labels[:SAMPLES]),
    )
    print(f"accuracy {accuracy:.3f} on {len(images)} images it has not seen; packed into {options.out}")


if __name__ == "__main__":
    main()
