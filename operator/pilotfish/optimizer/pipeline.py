"""The run inside the Job: load → train → samples → convert → verify → benchmark → select → package, and its message.

A recipe whose artifact is complete returns at once; anything that broke off starts over in fresh temporary folders.
"""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pilotfish.api.job_input import JobInput
from pilotfish.api.report import (
    Baseline,
    CandidateReport,
    Manifest,
    OptimizerReason,
    Report,
    SourceRecord,
    TerminationMessage,
    Verdict,
    one_line,
)
from pilotfish.api.report_sections import Export, TaskMetric
from pilotfish.optimizer.benchmark import BenchmarkPlan, Measured, available_threads, benchmark
from pilotfish.optimizer.candidates import BASE, Workshop, build_candidates
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.environment import describe_environment
from pilotfish.optimizer.errors import OptimizerError, from_os_error
from pilotfish.optimizer.exports.frame import ExportShop, export_all
from pilotfish.optimizer.fetch import Fetched
from pilotfish.optimizer.identify import Identified, identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.metrics import Task, find_task
from pilotfish.optimizer.model import Candidate, LoadedModel, Samples
from pilotfish.optimizer.package import find_artifact, finish, write_golden, write_repository
from pilotfish.optimizer.progress import OPTIMIZE_STAGES, Progress
from pilotfish.optimizer.prove import Proof, Prover
from pilotfish.optimizer.reference import ask_original
from pilotfish.optimizer.report.traces import profile_run
from pilotfish.optimizer.retraining import Lessons, Schooling, Trained, check_trainable, train
from pilotfish.optimizer.retreat import retreat
from pilotfish.optimizer.samples import check_samples, generate_samples, read_samples
from pilotfish.optimizer.seal import Seal, seal
from pilotfish.optimizer.select import select
from pilotfish.optimizer.summary import make_message
from pilotfish.optimizer.tensors import Array, sample_count
from pilotfish.optimizer.tuning.settled import Settled
from pilotfish.optimizer.tuning.winner import Winner, proven_batch, settle
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import KILLED, Worker, WorkerError

DEFAULT_MAX_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's input and places."""

    job: JobInput
    source: Fetched
    samples: Path | None
    store: Path
    work: Path
    plan: BenchmarkPlan = field(default_factory=BenchmarkPlan)
    progress: Progress = field(default_factory=lambda: Progress(OPTIMIZE_STAGES))
    lessons: Lessons = field(default_factory=Lessons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """The original with its golden set and what it answers."""

    seal: Seal
    found: Identified
    model: LoadedModel
    trained: Trained
    samples: Samples
    reference: dict[str, Array]
    task: Task | None
    threads: int
    max_batch: int
    batch_sizes: tuple[int, ...]
    source: SourceRecord


def finished(store: Path, recipe_key: str) -> TerminationMessage | None:
    """The result of a recipe that has its artifact already."""
    manifest = find_artifact(store, recipe_key)
    if manifest is None:
        return None
    return manifest.result.model_copy(update={"reason": OptimizerReason.ARTIFACT_REUSED})


def optimize(run: Run) -> TerminationMessage:
    """Everything from the source in the store to the artifact in the store.

    Raises:
        OptimizerError: with the reason and the sentence for the user.
    """
    if (result := finished(run.store, run.job.recipe_key)) is not None:
        return result
    run.work.mkdir(parents=True, exist_ok=True)
    try:
        ready = _prepare(run)
        return _compete(run, ready)
    except OSError as error:
        raise from_os_error(error, doing="writing the artifact") from error
    except WorkerError as error:
        out_of_memory = str(error).startswith(KILLED)
        reason = OptimizerReason.OPTIMIZER_OUT_OF_MEMORY if out_of_memory else OptimizerReason.INTERNAL_ERROR
        raise OptimizerError(reason, f"the original could not be measured: {error}") from error


def _prepare(run: Run) -> _Prepared:
    spec, threads = run.job.model, available_threads(run.job.serving.cpu_threads)
    with run.progress.stage("load", f"reading {run.source.entry.name}"):
        sealed = seal(run.source)
        found = identify(run.source.entry, work=run.work)
        check_trainable(found, run.job)
        recorded = read_samples(run.samples) if run.samples else None
        model = load_model(found, spec, threads=threads, recorded=recorded, work=run.work)
        if recorded is None and model.packed_samples:
            recorded = dict(model.packed_samples)
    trained = train(
        Schooling(
            job=run.job,
            found=found,
            source=run.source,
            recorded=recorded,
            lessons=run.lessons,
            threads=threads,
            store=run.store,
            work=run.work,
            progress=run.progress,
        ),
        model,
    )
    model = trained.model
    recorded = trained.samples if recorded is None else recorded
    with run.progress.stage("samples", "recorded" if recorded else "generated from the signature, seeded"):
        if recorded is not None:
            samples = check_samples(recorded, model.signature, where="the samples")
        else:
            samples = generate_samples(model.signature, bounds=model.bounds)
        reference = ask_original(model, samples)
        model.release()
        task = find_task(run.job.optimization.tolerance, samples, reference, model.signature)
    asked = run.job.serving.max_batch_size
    max_batch = max(1, DEFAULT_MAX_BATCH if asked is None else asked) if model.signature.batched else 1
    sizes = tuple(b for b in run.job.optimization.batch_sizes if b <= max_batch) or (1,)
    max_batch = proven_batch(run.job, max_batch) if model.signature.batched else 1
    return _Prepared(
        seal=sealed,
        found=found,
        model=model,
        trained=trained,
        samples=samples,
        reference=reference,
        task=task,
        threads=threads,
        max_batch=max_batch,
        batch_sizes=sizes,
        source=run.source.record.model_copy(update={"format": found.format.value}),
    )


def _compete(run: Run, ready: _Prepared) -> TerminationMessage:
    shop = Workshop(
        model=ready.model,
        samples=ready.samples,
        spec=run.job.optimization,
        serving=run.job.serving,
        folder=run.work / "candidates",
        max_batch=ready.max_batch,
    )
    with ExitStack() as stack:
        prover = Prover(ready, spec=run.job.optimization, work=run.work, stack=stack)
        original = _start_original(run, ready, prover)
        with run.progress.stage("convert"):
            built = build_candidates(shop, say=lambda v: run.progress.step(0.5, f"building {v}", force=True))
        with run.progress.stage("verify", f"{sample_count(ready.samples.inputs)} samples against the original"):
            proofs = prover.prove(built, run.progress)
            proofs += retreat(shop, proofs, prover, say=lambda what: run.progress.step(0.9, what, force=True))
        with run.progress.stage(
            "benchmark", f"{ready.threads} threads, batch {', '.join(map(str, ready.batch_sizes))}"
        ):
            measured = _measure(run, ready, proofs, prover=prover, original=original)
    return _conclude(run, ready, proofs, measured)


def _start_original(run: Run, ready: _Prepared, prover: Prover) -> Worker | None:
    """A worker with the original, loading while candidates are built; None where a candidate may be the original."""
    own_onnx = ready.model.onnx is not None and not ready.model.converted
    if own_onnx or ready.model.torchscript is not None:
        return None
    return prover.start(_original_subject(run, ready, prover))


def _measure(
    run: Run, ready: _Prepared, proofs: list[Proof], *, prover: Prover, original: Worker | None
) -> dict[str, Measured]:
    workers = {p.variant: p.worker for p in proofs if p.worker is not None}
    same = next(
        (p.variant for p in proofs if p.worker and isinstance(p.built, Candidate) and p.built.is_original), None
    )
    if same is None:
        workers[ready.model.variant] = original or prover.start(_original_subject(run, ready, prover))
    figures = benchmark(workers, batch_sizes=ready.batch_sizes, plan=run.plan, progress=run.progress)
    if same is not None:  # the served bytes are the original's own: one measurement, a speed-up of exactly 1
        figures[ready.model.variant] = figures[same]
    return figures


def _original_subject(run: Run, ready: _Prepared, prover: Prover) -> Subject:
    source = {
        "format": ready.found.format.value,
        "pack": str(ready.found.pack) if ready.found.pack else None,
        "spec": run.job.model.to_wire(),
    }
    return prover.subject("original", ready.found.path, source=source)


def _conclude(run: Run, ready: _Prepared, proofs: list[Proof], measured: dict[str, Measured]) -> TerminationMessage:
    baseline = measured[ready.model.variant]
    reports = tuple(p.report(measured.get(p.variant), baseline) for p in proofs)
    plain = tuple(p.variant for p in proofs if p.variant.endswith("-fp32"))
    winner, why = select(reports, run.job.optimization, fallback=plain)
    chosen = next(p.built for p in proofs if p.variant == winner)
    if not isinstance(chosen, Candidate):
        raise TypeError(f"{winner} was never built")
    settled = settle(
        Winner(
            job=run.job,
            chosen=chosen,
            signature=ready.model.signature,
            samples=ready.samples,
            reference=ready.reference,
            threads=ready.threads,
            max_batch=ready.max_batch,
        ),
        run.progress,
    )
    with run.progress.stage("package", f"{winner} wins"):
        return _package(run, ready, reports, chosen=chosen, why=why, measured=measured, settled=settled)


def _exports(run: Run, ready: _Prepared, reports: tuple[CandidateReport, ...], *, folder: Path) -> tuple[Export, ...]:
    formats = run.job.optimization.exports
    if not formats:
        return ()
    proven = any(r.variant == BASE and r.verdict is Verdict.ACCEPTED for r in reports)
    shop = ExportShop(
        model=ready.model,
        samples=ready.samples,
        reference=ready.reference,
        onnx=run.work / "candidates" / BASE / "model.onnx" if proven else None,
        max_batch=ready.max_batch,
        threads=ready.threads,
        work=run.work,
    )
    return export_all(formats, shop, artifact=folder, say=lambda what: run.progress.step(0.5, what, force=True))


def _package(
    run: Run,
    ready: _Prepared,
    reports: tuple[CandidateReport, ...],
    *,
    chosen: Candidate,
    why: str,
    measured: dict[str, Measured],
    settled: Settled,
) -> TerminationMessage:
    baseline = measured[ready.model.variant]
    task = ready.task
    job, partial = run.job, run.store / "artifacts" / f".partial-{run.job.recipe_key}"
    packed = write_repository(
        chosen,
        name=job.name,
        recipe_key=job.recipe_key,
        signature=ready.model.signature,
        samples=ready.samples,
        settled=settled,
        folder=partial,
    )
    packed = write_golden(packed, samples=ready.samples, reference=ready.reference)
    profile = profile_run(
        {"winner": measured.get(chosen.variant), "baseline": baseline},
        names={"winner": chosen.variant, "baseline": ready.model.variant},
        batch=ready.batch_sizes[0],
        folder=partial if job.optimization.profile else None,
    )
    exports = _exports(run, ready, reports, folder=partial)
    report = Report(
        name=job.name,
        recipe_key=job.recipe_key,
        source=ready.source,
        recipe={"model": job.model.to_wire(), "optimization": job.optimization.to_wire()},
        environment=describe_environment(ready.threads),
        samples="Given" if ready.samples.given else "Generated",
        sample_count=sample_count(ready.samples.inputs),
        seed=ready.samples.seed,
        signature=ready.model.signature,
        baseline=Baseline(
            variant=ready.model.variant,
            runtime=ready.model.runner.runtime,
            measurements=baseline.measurements,
            peak_memory_bytes=baseline.peak_memory_bytes,
        ),
        candidates=reports,
        winner=chosen.variant,
        why=why,
        artifact=packed.record,
        files=packed.files,
        notes=(*ready.model.notes, *ready.trained.notes, *chosen.notes),
        stages=tuple(run.progress.timings),
        tuning=settled.report,
        training=ready.trained.stages,
        profile=profile,
        exports=exports,
        metric=TaskMetric(name=task.metric.value, reference=round(task.reference, 6)) if task else None,
    )
    message = make_message(report)
    if ready.trained.refused is not None:
        message = message.model_copy(update={"message": one_line(f"{message.message}; {ready.trained.refused}")})
    manifest = Manifest(
        recipe_key=job.recipe_key,
        source=ready.source,
        artifact=packed.record,
        signature=ready.model.signature,
        files=packed.files,
        environment=report.environment,
        result=message,
    )
    ready.seal.check()
    finish(packed, report=report, manifest=manifest, target=run.store / "artifacts" / job.recipe_key)
    shutil.rmtree(run.work / "candidates", ignore_errors=True)
    Checkpoints(run.store, job.recipe_key).discard()
    return message
