"""The example's digits network: trained and packed by the example's own script, answered by PyTorch itself."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from testbed.kubectl import ROOT

SCRIPT = ROOT / "examples" / "train_digits.py"


class TrainingError(Exception):
    """The example's script ended with an error; the text is its own."""


def train(out: Path, *, seed: int, say: Callable[[str], object] = print) -> Path:
    """Train and pack one version into `out`, which is returned; `say` gets what the script said.

    Raises:
        TrainingError: the script failed.
    """
    command = [sys.executable, str(SCRIPT), str(out), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(f"{' '.join(command)} failed:\n{done.stderr}")
    say(done.stdout.strip())
    return out


def torch_answers(packed: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch answers to FP32 images [n, 1, 8, 8]: FP32 logits [n, 10], from the packed program."""
    program = torch.export.load(str(next(packed.glob("*.pt2"))))
    with torch.no_grad():
        return {"logits": program.module()(torch.from_numpy(images)).numpy()}
