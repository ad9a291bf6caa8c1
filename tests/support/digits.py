"""The example's digits network for end-to-end tests: trained by the example's own script, answered by PyTorch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from testbed.kubectl import ROOT


def train(out: Path, *, seed: int) -> Path:
    """Train and pack one version."""
    script = ROOT / "examples" / "train_digits.py"
    subprocess.run([sys.executable, str(script), str(out), "--seed", str(seed)], check=True)
    return out


def torch_answers(packed: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch itself says, FP32 logits [n, 10], from the packed program."""
    program = torch.export.load(str(next(packed.glob("*.pt2"))))
    with torch.no_grad():
        return {"logits": program.module()(torch.from_numpy(images)).numpy()}


def spec(uri: str, *, gpus: int = 1, memory: str = "", optimizer_memory: str = "", **model: Any) -> dict[str, Any]:
    """A spec that is quick to optimize; memory limits of the pods and of the Job where given."""
    optimization: dict[str, Any] = {"batchSizes": [1, 4]}
    serving: dict[str, Any] = {"gpus": {"count": gpus}}
    if optimizer_memory:
        optimization["resources"] = {"memory": optimizer_memory}
    if memory:
        serving["resources"] = {"memory": memory}
    source = {"uri": uri, "credentials": {"secretName": "store-credentials"}, **model}
    return {"model": source, "optimization": optimization, "serving": serving}
