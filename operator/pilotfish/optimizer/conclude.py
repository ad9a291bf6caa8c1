"""The run's end: select → settle → package, and the message that the operator reads."""

import shutil
from dataclasses import dataclass

from pilotfish.api.report import Baseline, CandidateReport, Manifest, Report, TerminationMessage, Verdict, one_line
from pilotfish.api.report_sections import Explanation, Export, Profile, TaskMetric
from pilotfish.optimizer.benchmark import Measured
from pilotfish.optimizer.candidates import BASE
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.environment import describe_environment
from pilotfish.optimizer.exports.frame import ExportShop, export_all
from pilotfish.optimizer.model import Candidate
from pilotfish.optimizer.package import Packed, find_tokenizer, finish, write_golden, write_repository
from pilotfish.optimizer.prove import Proof
from pilotfish.optimizer.report.explain import explain_original
from pilotfish.optimizer.report.traces import profile_run
from pilotfish.optimizer.run import Prepared, Run
from pilotfish.optimizer.select import select
from pilotfish.optimizer.summary import make_message
from pilotfish.optimizer.tensors import sample_count
from pilotfish.optimizer.tuning.settled import Settled
from pilotfish.optimizer.tuning.winner import Winner, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class _Race:
    """What was measured, and who won."""

    reports: tuple[CandidateReport, ...]
    measured: dict[str, Measured]
    chosen: Candidate
    why: str


def conclude(run: Run, ready: Prepared, proofs: list[Proof], measured: dict[str, Measured]) -> TerminationMessage:
    """Select the winner, settle how it is served, and write its artifact. Raises OptimizerError."""
    baseline = measured[ready.model.variant]
    reports = tuple(p.report(measured.get(p.variant), baseline) for p in proofs)
    plain = tuple(p.variant for p in proofs if p.variant.endswith("-fp32"))
    winner, why = select(reports, run.job.optimization, fallback=plain)
    chosen = next(p.built for p in proofs if p.variant == winner)
    if not isinstance(chosen, Candidate):
        raise TypeError(f"{winner} was never built")
    race = _Race(reports=reports, measured=measured, chosen=chosen, why=why)
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
    explanation = _explanation(run, ready, baseline)
    with run.progress.stage("package", f"{winner} wins"):
        return _package(run, ready, race, settled, explanation)


def _explanation(run: Run, ready: Prepared, baseline: Measured) -> Explanation | None:
    asked = run.job.optimization.explanations
    if asked is None:
        return None
    with run.progress.stage("explain", f"{asked.method.value} on at most {asked.samples} samples"):
        found = explain_original(asked, baseline.subject, variant=ready.model.variant)
    notes = ("The model as it came is explained, before it was trained.",) if run.job.optimization.trains else ()
    return found.model_copy(update={"notes": notes})


def _package(
    run: Run, ready: Prepared, race: _Race, settled: Settled, explanation: Explanation | None
) -> TerminationMessage:
    job, artifacts = run.job, run.store / "artifacts"
    partial = artifacts / f".partial-{job.recipe_key}"
    packed = write_repository(
        race.chosen,
        name=job.name,
        recipe_key=job.recipe_key,
        signature=ready.model.signature,
        samples=ready.samples,
        settled=settled,
        folder=partial,
        tokenizer=find_tokenizer(run.source.path),
    )
    packed = write_golden(packed, samples=ready.samples, reference=ready.reference)
    report = _report(run, ready, race, settled, packed).model_copy(update={"explanation": explanation})
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
    finish(packed, report=report, manifest=manifest, target=artifacts / job.recipe_key)
    shutil.rmtree(run.work / "candidates", ignore_errors=True)
    Checkpoints(run.store, job.recipe_key).discard()
    return message


def _report(run: Run, ready: Prepared, race: _Race, settled: Settled, packed: Packed) -> Report:
    """Profiles and exports are made here, beside the artifact: they are told of as they are found."""
    job, task, variant = run.job, ready.task, ready.model.variant
    baseline = race.measured[variant]
    return Report(
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
            variant=variant,
            runtime=ready.model.runner.runtime,
            measurements=baseline.measurements,
            peak_memory_bytes=baseline.peak_memory_bytes,
        ),
        candidates=race.reports,
        winner=race.chosen.variant,
        why=race.why,
        artifact=packed.record,
        files=packed.files,
        notes=(*ready.model.notes, *ready.trained.notes, *race.chosen.notes),
        tuning=settled.report,
        training=ready.trained.stages,
        profile=_profile(run, ready, race, packed),
        exports=_exports(run, ready, race, packed),
        stages=tuple(run.progress.timings),
        metric=TaskMetric(name=task.metric.value, reference=round(task.reference, 6)) if task else None,
    )


def _profile(run: Run, ready: Prepared, race: _Race, packed: Packed) -> tuple[Profile, ...]:
    winner, baseline = race.chosen.variant, ready.model.variant
    return profile_run(
        {"winner": race.measured.get(winner), "baseline": race.measured[baseline]},
        names={"winner": winner, "baseline": baseline},
        batch=ready.batch_sizes[0],
        folder=packed.folder if run.job.optimization.profile else None,
    )


def _exports(run: Run, ready: Prepared, race: _Race, packed: Packed) -> tuple[Export, ...]:
    formats = run.job.optimization.exports
    if not formats:
        return ()
    proven = any(r.variant == BASE and r.verdict is Verdict.ACCEPTED for r in race.reports)
    shop = ExportShop(
        model=ready.model,
        samples=ready.samples,
        reference=ready.reference,
        onnx=run.work / "candidates" / BASE / "model.onnx" if proven else None,
        max_batch=ready.max_batch,
        threads=ready.threads,
        work=run.work,
    )
    return export_all(formats, shop, artifact=packed.folder, say=lambda what: run.progress.step(0.5, what, force=True))
