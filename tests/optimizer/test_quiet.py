"""Libraries that would send events home do not: they keep their state in files, and there are none."""

import os
import subprocess
import sys

from support.onnx_models import save_mlp


def test_onnx_runtime_leaves_no_device_number(tmp_path):
    model = save_mlp(tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
from pathlib import Path
from pilotfish.optimizer.onnx_runtime import OnnxRunner
import numpy as np
OnnxRunner(Path({str(model)!r}), threads=1).run({{"x": np.zeros((1, 16), np.float32)}})
"""
    clean = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    subprocess.run([sys.executable, "-c", code], check=True, env=clean | folders)
    assert not list(home.rglob("*"))
