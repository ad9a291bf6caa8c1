"""A child process that holds one model in its serving runtime and answers requests on stdin, one JSON line each.

A candidate that crashes its runtime kills this process and nothing else; its peak memory is its own.
Commands: `run` (a batch of samples through the model, outputs to a file), `time` (one round of timing) and `load`
(several callers at once).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from pilotfish.api.report import Backend
from pilotfish.optimizer.memory import peak_bytes
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.tensors import Array, sample_count, take


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a worker loads.

    `kind`: onnx, openvino, torchscript, original (the source again, through its loader), or export:<format> (an export,
    by its module). `parameters` are the artifact's for its backend.
    """

    kind: str
    path: str
    threads: int
    inputs: str
    outputs: tuple[str, ...]
    batched: bool
    source: dict[str, Any] | None = None
    parameters: dict[str, str] = field(default_factory=dict)

    def bytes(self) -> int:
        """Size of its file, or of all files of its folder."""
        path = Path(self.path)
        return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


KINDS = {Backend.ONNXRUNTIME: "onnx", Backend.OPENVINO: "openvino", Backend.PYTORCH: "torchscript"}
"""A subject's kind by what serves the artifact."""


def load_runner(subject: Subject) -> Runner:
    """The runner for a subject. torch is imported only for what needs it."""
    if subject.kind == "onnx":
        from pilotfish.optimizer.onnx_runtime import OnnxRunner

        return OnnxRunner(Path(subject.path), threads=subject.threads)
    if subject.kind == "openvino":
        from pilotfish.optimizer.openvino_runtime import PRECISION, OpenVinoRunner

        return OpenVinoRunner(Path(subject.path), threads=subject.threads, precision=subject.parameters[PRECISION])
    if subject.kind.startswith("export:"):
        from pilotfish.optimizer.exports.frame import load_export

        return load_export(subject)
    if subject.kind == "original":
        from pilotfish.optimizer.load import reload_runner

        return reload_runner(subject)
    from pilotfish.optimizer.pytorch.runtime import TorchScriptRunner, set_threads

    set_threads(subject.threads)
    names = [t["name"] for t in (subject.source or {})["inputs"]]
    return TorchScriptRunner(Path(subject.path), inputs=names, outputs=list(subject.outputs))


def main(load: Callable[[Subject], Runner] = load_runner) -> None:
    """Serve requests until stdin ends. Replies go to the original stdout; whatever libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subject = Subject(**json.loads(sys.stdin.readline()))
    runner = load(subject)
    samples = load_file(subject.inputs)
    _reply(replies, {"runtime": runner.runtime})
    for line in sys.stdin:
        request = json.loads(line)
        act = {"run": _run, "time": _time, "load": _load}[request["do"]]
        _reply(replies, act(runner, samples, request, batched=subject.batched))


def feed(samples: dict[str, Array], *, start: int, batch: int, batched: bool) -> dict[str, Array]:
    """The inputs of one call: `batch` samples, or one sample as it is when the model is not batched."""
    taken = take(samples, start, batch if batched else 1)
    return taken if batched else {name: np.asarray(array[0]) for name, array in taken.items()}


def run_all(runner: Runner, samples: dict[str, Array], *, batch: int, pad_to: int, batched: bool) -> dict[str, Array]:
    """All samples in calls of `batch`; with `pad_to` every call is filled with zeros up to that size and cut again.

    Answers have one entry per sample first, in the samples' order.
    """
    total = sample_count(samples)
    rows: dict[str, list[Array]] = {}
    for start in range(0, total, batch):
        count = min(batch, total - start)
        inputs = feed(samples, start=start, batch=count, batched=batched)
        if batched and pad_to > count:
            inputs = {n: _padded(a, pad_to) for n, a in inputs.items()}
        for name, value in runner.run(inputs).items():
            rows.setdefault(name, []).append(value[:count] if batched else value[None])
    return {name: _join(parts) for name, parts in rows.items()}


def _padded(array: Array, size: int) -> Array:
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


def _join(parts: list[Array]) -> Array:
    return np.ascontiguousarray(np.concatenate(parts))


def _run(runner: Runner, samples: dict[str, Array], request: dict[str, Any], *, batched: bool) -> dict[str, Any]:
    try:
        out = run_all(runner, samples, batch=request["batch"], pad_to=request["pad_to"], batched=batched)
    except Exception as error:  # noqa: BLE001 - whatever the runtime says goes into the report
        return {"error": f"{type(error).__name__}: {error}"}
    save_file(out, request["to"])
    return {"names": list(out)}


def _time(runner: Runner, samples: dict[str, Array], request: dict[str, Any], *, batched: bool) -> dict[str, Any]:
    """Times one round: at least `min_runs` calls and `min_seconds`, at most `max_seconds`."""
    feeds = [feed(samples, start=i, batch=request["batch"], batched=batched) for i in range(4)]
    for one in feeds[: request["warmup"]]:
        runner.run(one)
    times: list[float] = []
    delay, began = waiting_seconds(), time.perf_counter()
    ends, at_most = began + request["min_seconds"], began + request["max_seconds"]
    while True:
        start = time.perf_counter()
        runner.run(feeds[len(times) % len(feeds)])
        now = time.perf_counter()
        times.append(now - start)
        if now >= at_most or (now >= ends and len(times) >= request["min_runs"]):
            break
    waited, wall = waiting_seconds() - delay, time.perf_counter() - began
    return {"times": times, "waiting": waited / wall, "peak": peak_bytes()}


def _load(runner: Runner, samples: dict[str, Array], request: dict[str, Any], *, batched: bool) -> dict[str, Any]:
    """`callers` threads that ask again as soon as they are answered, for `seconds`; at least one call of each."""
    feeds = [feed(samples, start=i, batch=request["batch"], batched=batched) for i in range(4)]
    runner.run(feeds[0])  # a worker that was parked starts cold
    began = time.perf_counter()
    ends = began + request["seconds"]

    def call(caller: int) -> list[float]:
        times: list[float] = []
        start = time.perf_counter()
        while start < ends or not times:
            runner.run(feeds[(caller + len(times)) % len(feeds)])
            now = time.perf_counter()
            times.append(now - start)
            start = now
        return times

    try:
        with ThreadPoolExecutor(request["callers"]) as pool:
            found = [times for caller in pool.map(call, range(request["callers"])) for times in caller]
    except Exception as error:  # noqa: BLE001 - a runtime that takes one caller at a time says so in its own way
        return {"error": f"{type(error).__name__}: {error}"}
    return {"times": found, "seconds": time.perf_counter() - began}


def waiting_seconds(tasks: Iterable[Path] | None = None) -> float:
    """Seconds that threads wanted a CPU and did not get one: `/proc/self/task/*`, this process's own unless said."""
    total = 0
    for task in Path("/proc/self/task").iterdir() if tasks is None else tasks:
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):  # the thread ended, or the kernel keeps no such figures
            continue
    return total / 1e9


def _reply(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
