"""Put each candidate into its serving runtime and compare its answers with the original's, in several batch sizes."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import save_file

from pilotfish.api.optimization import ArtifactFormat, OptimizationSpec
from pilotfish.api.report import CandidateReport, ErrorFigures, Verdict, one_line
from pilotfish.optimizer.benchmark import Measured
from pilotfish.optimizer.memory import Room, budget_for_workers
from pilotfish.optimizer.metrics import Task
from pilotfish.optimizer.model import Candidate, FailedCandidate, LoadedModel, Samples
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.verify import Bounds, bounds_for, check_answers, judge, measure_error, other_batches
from pilotfish.optimizer.worker import KINDS, Subject
from pilotfish.optimizer.workers import Worker, WorkerError

MOST_LAYERS = 64
"""Layers that the report lists: the worst ones."""


class Setting(Protocol):
    """The original with its answers, and how it will be served."""

    @property
    def model(self) -> LoadedModel:
        """The original."""

    @property
    def samples(self) -> Samples:
        """The golden set."""

    @property
    def reference(self) -> dict[str, Array]:
        """What the original answers to it."""

    @property
    def task(self) -> Task | None:
        """The task metric, where the samples have labels for one."""

    @property
    def threads(self) -> int:
        """Threads of a serving pod."""

    @property
    def max_batch(self) -> int:
        """Largest batch; 1 when requests are not batched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is known of one candidate before it is measured; `worker` runs only for an accepted one."""

    built: Candidate | FailedCandidate
    verdict: Verdict
    reason: str | None
    error: ErrorFigures | None = None
    metric: float | None = None
    worker: Worker | None = None
    runtime: str = ""

    @property
    def variant(self) -> str:
        """Its name."""
        return self.built.variant

    def report(self, measured: Measured | None, baseline: Measured) -> CandidateReport:
        """Its line in report.json."""
        figures = measured or Measured()
        speedup = None
        if figures.measurements:
            speedup = round(baseline.measurements[0].latency_ms.median / figures.measurements[0].latency_ms.median, 3)
        return CandidateReport(
            variant=self.variant,
            format=self.built.format,
            precision=self.built.precision,
            runtime=self.runtime or _default_runtime(self.built),
            bytes=self.built.bytes if isinstance(self.built, Candidate) else None,
            verdict=self.verdict,
            reason=self.reason,
            error=self.error,
            measurements=figures.measurements,
            peak_memory_bytes=figures.peak_memory_bytes or None,
            speedup=speedup,
            contended=figures.contended,
            metric=self.metric,
            layers=self.built.layers[:MOST_LAYERS] if isinstance(self.built, Candidate) else (),
        )


class Prover:
    """Runs candidates on the golden set. Workers of accepted candidates stay open until `stack` is left."""

    def __init__(
        self,
        setting: Setting,
        *,
        spec: OptimizationSpec,
        work: Path,
        stack: ExitStack,
    ) -> None:
        self._setting, self._spec, self._work, self._stack = setting, spec, work, stack
        self._model, self._samples, self._reference = setting.model, setting.samples, setting.reference
        self._room = Room(budget_for_workers())
        self._inputs = work / "samples.safetensors"
        save_file({n: np.ascontiguousarray(a) for n, a in self._samples.inputs.items()}, self._inputs)

    def subject(self, kind: str, path: Path, *, source: dict[str, Any] | None = None) -> Subject:
        """What a worker needs to load a file."""
        return Subject(
            kind=kind,
            path=str(path),
            threads=self._setting.threads,
            inputs=str(self._inputs),
            outputs=tuple(t.name for t in self._model.signature.outputs),
            batched=self._model.signature.batched,
            source=source,
        )

    def start(self, subject: Subject) -> Worker:
        """A worker that lives until the stack is left."""
        return self._stack.enter_context(Worker(subject, work=self._work, room=self._room))

    def prove(self, built: list[Candidate | FailedCandidate], progress: Progress) -> list[Proof]:
        """The verdict on every candidate, in order. All that fit load at once, each in its own process."""
        self._room.budget = budget_for_workers()  # building has changed what this process holds
        started = [(one, self._load(one)) for one in built]
        proofs = []
        for index, (one, worker) in enumerate(started):
            progress.step(index / len(built), one.variant, force=True)
            proofs.append(self._prove_one(one, worker))
        return proofs

    def prove_one(self, built: Candidate) -> Proof:
        """The verdict on a candidate that is an attempt: its worker ends unless it is accepted."""
        return self._prove_one(built, self._load(built))

    def _load(self, built: Candidate | FailedCandidate) -> Worker | None:
        if isinstance(built, FailedCandidate):
            return None
        source = {"inputs": [t.to_wire() for t in self._model.signature.inputs]}
        subject = self.subject(KINDS[built.backend], built.file, source=source)
        return self.start(replace(subject, parameters=dict(built.parameters)))

    def _prove_one(self, built: Candidate | FailedCandidate, worker: Worker | None) -> Proof:
        if isinstance(built, FailedCandidate) or worker is None:
            refused = getattr(built, "refused", False)
            verdict = Verdict.REFUSED if refused else Verdict.FAILED
            return Proof(built=built, verdict=verdict, reason=getattr(built, "reason", None))
        try:
            proof = self._examine(built, worker)
        except WorkerError as error:
            reason = one_line(f"it does not load or run: {error}", limit=300)
            proof = Proof(built=built, verdict=Verdict.FAILED, reason=reason)
        if proof.worker is None:
            worker.close()
        return proof

    def _examine(self, built: Candidate, worker: Worker) -> Proof:
        answers = worker.run(batch=1)
        if problem := check_answers(answers, self._reference):
            return Proof(built=built, verdict=Verdict.REFUSED, reason=problem, runtime=worker.runtime)
        batches = []
        for batch, pad_to in other_batches(self._setting.max_batch):
            others = worker.run(batch=batch, pad_to=pad_to)
            if problem := check_answers(others, self._reference):
                reason = f"in batches of {pad_to or batch} {problem}"
                return Proof(built=built, verdict=Verdict.REFUSED, reason=reason, runtime=worker.runtime)
            batches.append(others)
        error = measure_error(answers, self._reference, batches)
        task = self._setting.task
        metric = None if task is None else round(task.measure(answers), 6)
        problem = judge(error, self._bounds(built))
        if problem is None and task is not None and metric is not None:
            problem = task.judge(metric)
        return Proof(
            built=built,
            verdict=Verdict.REFUSED if problem else Verdict.ACCEPTED,
            reason=problem,
            error=error,
            metric=metric,
            worker=None if problem else worker,
            runtime=worker.runtime,
        )

    def _bounds(self, built: Candidate) -> Bounds:
        batching = self._setting.max_batch > 1
        return bounds_for(built.precision, self._spec.tolerance, given=self._samples.given, batching=batching)


def _default_runtime(built: Candidate | FailedCandidate) -> str:
    if built.variant.startswith("openvino-"):
        return "openvino"
    return "onnxruntime" if built.format is ArtifactFormat.ONNX else "torch"
