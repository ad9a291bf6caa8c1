"""The run inside the Job: load → train → samples → convert → verify → benchmark → select → package, and its message.

A recipe whose artifact is complete returns at once; anything that broke off starts over in fresh temporary folders.
"""

from contextlib import ExitStack
from pathlib import Path

from pilotfish.api.report import OptimizerReason, TerminationMessage
from pilotfish.optimizer.benchmark import Measured, benchmark
from pilotfish.optimizer.candidates import Workshop, build_candidates
from pilotfish.optimizer.compress.graph import BESIDE_FROM
from pilotfish.optimizer.conclude import conclude
from pilotfish.optimizer.errors import OptimizerError, from_os_error
from pilotfish.optimizer.model import Candidate
from pilotfish.optimizer.package import find_artifact
from pilotfish.optimizer.prepare import prepare
from pilotfish.optimizer.prove import Proof, Prover
from pilotfish.optimizer.retreat import retreat
from pilotfish.optimizer.run import Prepared, Run
from pilotfish.optimizer.tensors import sample_count
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import KILLED, Worker, WorkerError


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
        ready = prepare(run)
        return _compete(run, ready)
    except OSError as error:
        raise from_os_error(error, doing="writing the artifact") from error
    except WorkerError as error:
        out_of_memory = str(error).startswith(KILLED)
        reason = OptimizerReason.OPTIMIZER_OUT_OF_MEMORY if out_of_memory else OptimizerReason.INTERNAL_ERROR
        raise OptimizerError(reason, f"the original could not be measured: {error}") from error


def _compete(run: Run, ready: Prepared) -> TerminationMessage:
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
    return conclude(run, ready, proofs, measured)


def _start_original(run: Run, ready: Prepared, prover: Prover) -> Worker | None:
    """A worker with the original, loading while candidates are built.

    None where a candidate may be the original, and for a large one: the memory is the exporters' then.
    """
    own_onnx = ready.model.onnx is not None and not ready.model.converted
    subject = _original_subject(run, ready, prover)
    if own_onnx or ready.model.torchscript is not None or subject.bytes() > BESIDE_FROM:
        return None
    return prover.start(subject)


def _measure(
    run: Run, ready: Prepared, proofs: list[Proof], *, prover: Prover, original: Worker | None
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


def _original_subject(run: Run, ready: Prepared, prover: Prover) -> Subject:
    source = {
        "format": ready.found.format.value,
        "pack": str(ready.found.pack) if ready.found.pack else None,
        "spec": run.job.model.to_wire(),
    }
    return prover.subject("original", ready.found.path, source=source)
