"""How much memory a whole run takes: `python -m bench_optimizer.memory [MEGABYTES]`, as root.

An ONNX file and a packed PyTorch model of that size (1,024 MiB of FP32 weights unless said) each go through
`pilotfish optimize` with FP32, BF16 and INT8, inside a memory cgroup of three times the model and 2 GiB: what a Job's
limit is. Prints the most that was held in anonymous memory, the most that the kernel counted with the page cache, and
whether anything was killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import pilotfish

CGROUPS = Path("/sys/fs/cgroup")
WIDTH = 4096
LAYER_MIB = WIDTH * WIDTH * 4 / 2**20
ALLOWED = 2 << 30
SECONDS_BETWEEN_LOOKS = 0.1
SEED = 3


@dataclass(frozen=True, slots=True)
class Files:
    """How a version of cgroups names what is needed, below the folder where it is mounted."""

    root: Path
    limit: str
    anonymous: str
    peak: str
    kills: str


V1 = Files(CGROUPS / "memory", "memory.limit_in_bytes", "total_rss", "memory.max_usage_in_bytes", "memory.oom_control")
V2 = Files(CGROUPS, "memory.max", "anon", "memory.peak", "memory.events")


class Cage:
    """A memory cgroup that a command runs in and takes for the machine's own."""

    def __init__(self, limit: int) -> None:
        self.files = V1 if V1.root.is_dir() else V2
        self.folder = self.files.root / "pilotfish-bench"
        self.folder.mkdir(exist_ok=True)
        (self.folder / self.files.limit).write_text(str(limit))
        self.most = 0

    def run(self, *command: str) -> int:
        """The command's exit code; `most` is then the most anonymous memory that was seen, in bytes."""
        inside = 'echo $$ > "$0/cgroup.procs" && mount --bind "$0" "$1" && shift && exec "$@"'
        shell = ["unshare", "--mount", "sh", "-c", inside, str(self.folder), str(self.files.root), *command]
        with subprocess.Popen(shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
            watch = threading.Thread(target=self._watch, args=(started,))
            watch.start()
            started.wait()
            watch.join()
        return started.returncode

    def number(self, name: str, key: str | None = None) -> int:
        """A figure of the cgroup; `key` names its line where there are several."""
        lines = (self.folder / name).read_text().splitlines()
        return int(lines[0] if key is None else next(line.split()[1] for line in lines if line.startswith(key)))

    def _watch(self, started: subprocess.Popen[bytes]) -> None:
        while started.poll() is None:
            self.most = max(self.most, self.number("memory.stat", self.files.anonymous))
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def close(self) -> None:
        """What a killed program left running ends, and the cgroup goes."""
        while left := (self.folder / "cgroup.procs").read_text().split():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self.folder.rmdir()


def main() -> None:
    """Both models, one row each."""
    mebibytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    layers = max(1, round(mebibytes / LAYER_MIB))
    model = round(layers * LAYER_MIB * 2**20)
    print(f"{'from':<8} {'model':>9} {'allowed':>9} {'held':>9} {'+ cache':>9} {'killed':>6} {'exit':>4} {'s':>5}")
    for kind, make in (("ONNX", make_onnx), ("packed", make_packed)):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            make(work, layers)
            manifest = work / "model.yaml"
            spec = {"model": {"uri": "model"}, "optimization": {"precisions": ["FP32", "BF16", "INT8"]}}
            manifest.write_text(yaml.safe_dump({"kind": "ModelDeployment", "metadata": {"name": "big"}, "spec": spec}))
            began, cage = time.monotonic(), Cage(3 * model + ALLOWED)
            program = [str(Path(sys.executable).with_name("pilotfish")), "optimize"]
            code = cage.run(*program, "-f", str(manifest), "--out", str(work / "out"))
            seconds, kills = time.monotonic() - began, cage.number(cage.files.kills, "oom_kill ")
            sizes = (model, 3 * model + ALLOWED, cage.most, cage.number(cage.files.peak))
            cage.close()
            row = " ".join(f"{size / 2**20:5.0f} MiB" for size in sizes)
            print(f"{kind:<8} {row} {kills:>6} {code:>4} {seconds:5.0f}", flush=True)


def make_onnx(work: Path, layers: int) -> None:
    """A chain of square matrices in one file of the folder `model`."""
    draw = np.random.default_rng(SEED)
    nodes, weights = [], []
    for index in range(layers):
        matrix = draw.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
        weights.append(numpy_helper.from_array(matrix, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    (work / "model").mkdir()
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(proto, str(work / "model" / "model.onnx"))


def make_packed(work: Path, layers: int) -> None:
    """The same chain as `pilotfish.pack` writes it."""
    torch.manual_seed(SEED)
    module = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers))).eval()
    pilotfish.pack(module, (torch.randn(2, WIDTH),), work / "model", input_names=["x"], output_names=["y"])


if __name__ == "__main__":
    main()
