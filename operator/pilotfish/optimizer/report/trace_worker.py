"""A child process that runs one model under its runtime's profiler: one order on stdin, one answer on stdout.

Tracing slows a model down, so nothing that is measured here counts as its speed.
"""

import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from pilotfish.api.report_sections import OperatorTime
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.report.errand import obey
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.worker import Subject, feed, load_runner

WARMUP = 3
MOST_RUNS = 10
LEAST_RUNS = 2
SECONDS = 5.0
MOST_EVENTS = 20_000
MOST_OPERATORS = 64

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What a profiler saw: (operator, milliseconds) of every call, the trace's events, and how many runs it was."""

    tool: str
    calls: Iterable[tuple[str, float]]
    events: list[Event]
    runs: int


def trace(subject: Subject, *, batch: int, folder: Path) -> Traced:
    """Run the subject under the profiler of its runtime; scratch files go to `folder`."""
    inputs = feed(load_file(subject.inputs), start=0, batch=batch, batched=subject.batched)
    if subject.kind == "onnx":
        return _trace_onnx(subject, inputs, folder)
    if subject.kind == "openvino":
        return _trace_openvino(subject, inputs)
    return _trace_torch(load_runner(subject), inputs, folder)


def by_operator(calls: Iterable[tuple[str, float]], runs: int) -> tuple[OperatorTime, ...]:
    """Sums by type of operator, longest first; what is beyond the first 64 types is one line."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, milliseconds in calls:
        found[name].append(milliseconds)
    ordered = sorted(found.items(), key=lambda item: (-sum(item[1]), item[0]))
    rest = [ms for _, spent in ordered[MOST_OPERATORS - 1 :] for ms in spent]
    if len(ordered) > MOST_OPERATORS:
        ordered = [*ordered[: MOST_OPERATORS - 1], ("others", rest)]
    total = sum(sum(spent) for _, spent in ordered) or 1.0
    return tuple(
        OperatorTime(
            op=name,
            calls=round(len(spent) / runs, 3),
            milliseconds=round(sum(spent) / runs, 6),
            share=round(sum(spent) / total, 6),
        )
        for name, spent in ordered
    )


def write_trace(events: list[Event], target: Path) -> bool:
    """Chrome's format, compressed, bounded; whether events were left out."""
    kept = events[:MOST_EVENTS]
    with gzip.GzipFile(target, "wb", mtime=0) as packed:
        packed.write(json.dumps({"displayTimeUnit": "ms", "traceEvents": kept}).encode())
    return len(kept) < len(events)


def _repeat(run: Callable[[], object], *, warmup: int = WARMUP) -> int:
    """Run often enough; returns how many runs count."""
    for _ in range(warmup):
        run()
    return _runs(run)


def _runs(run: Callable[[], object]) -> int:
    ends, count = time.perf_counter() + SECONDS, 0
    while count < LEAST_RUNS or (count < MOST_RUNS and time.perf_counter() < ends):
        run()
        count += 1
    return count


def _trace_onnx(subject: Subject, inputs: dict[str, Array], folder: Path) -> Traced:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = subject.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "onnxruntime")
    session = ort.InferenceSession(subject.path, options, providers=["CPUExecutionProvider"])
    runs = _repeat(lambda: session.run(None, inputs))
    file = Path(session.end_profiling())
    events: list[Event] = json.loads(file.read_text())
    file.unlink()
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    since = starts[WARMUP]
    kept = [e for e in events if e.get("ph") != "X" or e["ts"] >= since]
    calls = [
        (str(e["args"]["op_name"]), e["dur"] / 1e3)
        for e in kept
        if e.get("cat") == "Node" and "op_name" in e.get("args", {}) and not str(e["name"]).endswith("fence_before")
    ]
    return Traced(tool="onnxruntime", calls=calls, events=kept, runs=runs)


def _trace_openvino(subject: Subject, inputs: dict[str, Array]) -> Traced:
    from pilotfish.optimizer import openvino_quiet
    from pilotfish.optimizer.openvino_runtime import PRECISION

    openvino_quiet.silence()
    import openvino as ov

    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": subject.threads, "NUM_STREAMS": 1, "PERF_COUNT": True}
    options |= {PRECISION: subject.parameters[PRECISION]} if PRECISION in subject.parameters else {}
    request = ov.Core().compile_model(subject.path, "CPU", options).create_infer_request()
    calls: list[tuple[str, float]] = []
    events: list[Event] = []
    origin = time.perf_counter()

    def look() -> None:
        at = (time.perf_counter() - origin) * 1e6
        request.infer(inputs)
        for node in request.profiling_info:
            spent = node.real_time.total_seconds() * 1e6
            if spent > 0:
                calls.append((str(node.node_type), spent / 1e3))
                events.append(
                    {
                        "name": node.node_name,
                        "cat": node.exec_type,
                        "ph": "X",
                        "ts": at,
                        "dur": spent,
                        "pid": 1,
                        "tid": 1,
                    }
                )
                at += spent

    for _ in range(WARMUP):
        request.infer(inputs)
    return Traced(tool="openvino", calls=calls, events=events, runs=_runs(look))


def _trace_torch(runner: Runner, inputs: dict[str, Array], folder: Path) -> Traced:
    if not runner.runtime.startswith("torch "):
        raise ValueError(f"there is no profiler for {runner.runtime}")
    from torch.profiler import ProfilerActivity, profile

    for _ in range(WARMUP):
        runner.run(inputs)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        runs = _runs(lambda: runner.run(inputs))
    file = folder / "torch.json"
    seen.export_chrome_trace(str(file))
    events: list[Event] = json.loads(file.read_text())["traceEvents"]
    file.unlink()
    calls = [
        (e.name, e.self_cpu_time_total / 1e3) for e in seen.events() if e.name.startswith(("aten::", "quantized::"))
    ]
    return Traced(tool="torch.profiler", calls=calls, events=events, runs=runs)


def obeyed(order: dict[str, Any]) -> str:
    """The trace is written where the order says; what it shows, as JSON."""
    target = Path(order["target"])
    found = trace(Subject(**order["subject"]), batch=order["batch"], folder=target.parent)
    cut = write_trace(found.events, target)
    operators = [o.to_wire() for o in by_operator(found.calls, found.runs)]
    return json.dumps({"tool": found.tool, "runs": found.runs, "operators": operators, "cut": cut})


if __name__ == "__main__":
    obey(obeyed)
