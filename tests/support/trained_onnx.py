"""A network that scikit-learn trains on its digits, as an ONNX file written node by node: no torch, no exporter.

With `outliers` it answers as before and 8 bits hurt it: at the input (0) or behind a hidden layer (1, 2) some channels
become a thousand times as large, and the next layer's weights give that back. One range for the whole tensor then
leaves nothing for the others. Unscaled columns of a table do the same.
"""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from support.onnx_models import save

SEED = 7
FACTOR = 1000
LOUD = slice(20, 24)
"""Which channels: pixels in the middle of the image, any hidden ones."""


@cache
def train_digits() -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], np.ndarray, np.ndarray]:
    """Weights and biases of three layers, and 450 unseen images of 64 pixels with their classes; about 97 % right."""
    digits = load_digits()
    x, unseen, y, labels = train_test_split(
        digits.data.astype(np.float32) / 16, digits.target, test_size=0.25, random_state=SEED
    )
    network = MLPClassifier((64, 32), max_iter=40, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(x, y)
    layers = zip(network.coefs_, network.intercepts_, strict=True)
    return tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers), unseen, labels


def save_digits(folder: Path, *, outliers: tuple[int, ...] = (), count: int = 200) -> dict[str, dict[str, str] | str]:
    """`m.onnx` and `samples.npz` with labels in `folder`; returns spec.model."""
    layers, x, y = train_digits()
    scales = [np.ones(w.shape[0], np.float32) for w, _ in layers] + [np.ones(10, np.float32)]
    for place in outliers:
        scales[place][LOUD] = FACTOR
    nodes, weights, name = [], [], "pixels"
    for i, (w, b) in enumerate(layers):
        weights.append(numpy_helper.from_array((w / scales[i][:, None]) * scales[i + 1], f"w{i}"))
        weights.append(numpy_helper.from_array(b * scales[i + 1], f"b{i}"))
        last = i == len(layers) - 1
        out = "scores" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [out], f"layer{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"r{i}"], f"relu{i}"))
        name = f"r{i}"
    save(folder / "m.onnx", nodes, {"pixels": ["batch", 64]}, {"scores": ["batch", 10]}, weights)
    np.savez(folder / "samples.npz", pixels=x[:count] * scales[0], labels=y[:count])
    return {"uri": "m.onnx", "samples": {"uri": "samples.npz"}}
