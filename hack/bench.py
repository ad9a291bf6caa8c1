"""`make bench`: every model family through the optimizer with its full benchmark, as one table.

Each figure stands beside its peer of the same run: the original in PyTorch eager (ONNX Runtime for a model that comes
as ONNX), interleaved with the candidates. Latencies are medians at batch 1 and 8 in milliseconds, on as many threads
as the machine has cores.
"""

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

from pilotfish.api.report import Measurement, Report
from pilotfish.optimizer.benchmark import BenchmarkPlan
from support.families import SOURCES, optimize

BATCHES = [1, 8]
ROW = "{:<12} {:<20} {:>9} {:>9} {:>8} {:>8} {:>10} {:>7} {}"


def main() -> None:
    """Run the families named on the command line, or all."""
    print(ROW.format("family", "candidate", "b1 ms", "b8 ms", "b1 x", "b8 x", "max error", "MB", "verdict"), flush=True)
    for name in sys.argv[1:] or SOURCES:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            done = optimize(name, Path(folder), plan=BenchmarkPlan(), precisions=["FP32", "INT8"], batchSizes=BATCHES)
            report = Report.model_validate_json((done.artifact / "report.json").read_text())
        show(name, report)
        print(f"{'':<12} {time.monotonic() - started:.0f} s in all", flush=True)


def show(name: str, report: Report) -> None:
    """One row for the original and one for each candidate; the winner has a star."""
    base = medians(report.baseline.measurements)
    print(ROW.format(name, report.baseline.variant, *shown(base, base), "", "", "original"))
    for candidate in report.candidates:
        error = f"{candidate.error.max_abs:.1e}" if candidate.error else ""
        size = f"{candidate.bytes / 1e6:.1f}" if candidate.bytes else ""
        star = "*" if candidate.variant == report.winner else ""
        cells = shown(medians(candidate.measurements), base)
        print(ROW.format("", candidate.variant + star, *cells, error, size, candidate.reason or candidate.verdict))


def medians(measurements: tuple[Measurement, ...]) -> dict[int, float]:
    """Median latency in milliseconds by batch size."""
    return {m.batch: m.latency_ms.median for m in measurements}


def shown(figures: dict[int, float], base: dict[int, float]) -> list[str]:
    """Latencies, then ratios of the original's latency to them."""
    latencies = [f"{figures[b]:.3f}" if b in figures else "-" for b in BATCHES]
    ratios = [f"{base[b] / figures[b]:.2f}" if b in figures and b in base else "-" for b in BATCHES]
    return [*latencies, *ratios]


if __name__ == "__main__":
    main()
