"""Our winner against its peers: `make bench-optimizer [MODELS="lstm minilm"]`.

For each model: the whole optimizer with the precisions FP32, BF16 and INT8, then the artifact that won, timed together
with every peer, round by round in turn, on as many threads as the machine has cores. A peer that fails is a row, too.
Ratios are to PyTorch eager of the same run. Our row ends with our speed over that of the best peer whose answers would
pass our own default bounds for INT8: near the original's, and the same in every batch. Peers beyond them are marked.
"""

import io
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from bench_optimizer.made import Made, make
from bench_optimizer.peers import PEERS, Array
from bench_optimizer.subjects import SUBJECTS, Subject
from pilotfish.api.bounds import bounds_for
from pilotfish.api.optimization import Precision
from pilotfish.optimizer import worker
from pilotfish.optimizer.benchmark import BenchmarkPlan, Measured, available_threads, benchmark
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.workers import Worker, WorkerError

BATCHES = (1, 8)
OURS = "pilotfish"
BASE = "PyTorch eager"
PLAN = BenchmarkPlan(rounds=5, extra_rounds=5, concurrencies=())
ROW = "{:<10} {:<28} {:>9} {:>9} {:>7} {:>7} {:>10}  {}"


def main() -> None:
    """Compare the models named on the command line, or all."""
    print(ROW.format("model", "what", "b1 ms", "b8 ms", "b1 x", "b8 x", "rel error", ""), flush=True)
    for name in sys.argv[1:] or SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, Path(folder))


def compare(name: str, folder: Path) -> None:
    """One model: ours, then everybody in turn."""
    subject = SUBJECTS[name]()
    optimization = {"precisions": ["FP32", "BF16", "INT8"], "batchSizes": list(BATCHES)}
    made = make(name, subject.module, subject.inputs, folder, output=subject.output, optimization=optimization)
    inputs = folder / "inputs.safetensors"
    save_file({n: np.ascontiguousarray(a) for n, a in subject.inputs.items()}, inputs)
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        failed: dict[str, str] = {}
        for peer in PEERS:
            order = _order(f"{name}/{peer}", folder / peer.replace(" ", "-"), inputs, subject)
            started = stack.enter_context(Worker(order, work=folder, program="bench_optimizer.peers"))
            try:  # one after the other: building is not timed, but it needs the memory
                _ = started.runtime
                workers[peer] = started
            except WorkerError as error:
                failed[peer] = str(error)
        workers[OURS] = stack.enter_context(Worker(made.subject(inputs), work=folder))
        flaws = {who: flaw(one, workers[BASE], subject.output) for who, one in workers.items()}
        figures = benchmark(workers, batch_sizes=BATCHES, plan=PLAN, progress=Progress({"": 1}, out=io.StringIO()))
    show(name, made, figures, flaws)
    for peer, reason in failed.items():
        print(ROW.format("", peer, "-", "-", "-", "-", "", f"failed: {reason[:90]}"), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """How far answers are from eager's, and how far they move with the batch; both as a share of the answer's norm."""

    error: float
    parity: float

    @property
    def words(self) -> str:
        """Why nobody should serve this; empty where it is good enough."""
        bounds = bounds_for(Precision.INT8, None, given=False, batching=True)
        if bounds.max_rel is not None and self.error > bounds.max_rel:
            return "beyond the tolerance"
        if bounds.batch_parity is not None and self.parity > bounds.batch_parity:
            return f"answers depend on the batch ({self.parity:.1e})"
        return ""


def flaw(one: Worker, base: Worker, output: str) -> Flaw:
    """Compare with eager, and with itself in larger batches."""
    right, alone, together = base.run(batch=1)[output], one.run(batch=1)[output], one.run(batch=BATCHES[-1])[output]
    return Flaw(error=_distance(alone, right), parity=_distance(together, alone))


def _distance(answer: Array, right: Array) -> float:
    return float(np.linalg.norm(answer - right) / np.linalg.norm(right))


def show(name: str, made: Made, figures: dict[str, Measured], flaws: dict[str, Flaw]) -> None:
    """One row each, fastest at batch 1 first; then what our run cost."""
    medians = {who: {m.batch: m.latency_ms.median for m in f.measurements} for who, f in figures.items()}
    for who in sorted(medians, key=lambda w: medians[w][BATCHES[0]]):
        mine = medians[who]
        ratios = [f"{medians[BASE][b] / mine[b]:.2f}" for b in BATCHES]
        label, note = who, flaws[who].words
        if who == OURS:
            best = {b: min(m[b] for w, m in medians.items() if w != OURS and not flaws[w].words) for b in BATCHES}
            label = f"{OURS}: {made.report.winner}"
            note = "of the best peer's speed: " + ", ".join(f"{best[b] / mine[b]:.0%}" for b in BATCHES)
        cells = (*(f"{mine[b]:.3f}" for b in BATCHES), *ratios, f"{flaws[who].error:.1e}")
        row = ROW.format(name, label, *cells, note + (" (contended)" if figures[who].contended else ""))
        print(row, flush=True)
    print(f"{'':<10} our whole run {made.seconds:.0f} s, {len(made.report.candidates)} candidates", flush=True)
    for candidate in made.report.candidates:
        if candidate.reason:
            print(f"{'':<10} {candidate.variant}: {candidate.verdict.value}: {candidate.reason[:140]}", flush=True)


def _order(kind: str, path: Path, inputs: Path, subject: Subject) -> worker.Subject:
    return worker.Subject(
        kind=kind,
        path=str(path),
        threads=available_threads(None),
        inputs=str(inputs),
        outputs=(subject.output,),
        batched=True,
    )


if __name__ == "__main__":
    main()
