"""The run's first half: load → train → samples, and what the original answers to them."""

from pilotfish.optimizer.benchmark import available_threads
from pilotfish.optimizer.identify import identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.metrics import Task, find_task
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.reference import ask_original
from pilotfish.optimizer.retraining import Schooling, check_trainable, train
from pilotfish.optimizer.run import Prepared, Run
from pilotfish.optimizer.samples import check_samples, generate_samples, read_samples
from pilotfish.optimizer.seal import seal
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.tuning.winner import proven_batch

DEFAULT_MAX_BATCH = 8


def prepare(run: Run) -> Prepared:
    """The original, checked and loaded, with its golden set. Raises OptimizerError."""
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
    samples, reference, task = _golden_set(run, model, trained.samples if recorded is None else recorded)
    asked = run.job.serving.max_batch_size
    max_batch = max(1, DEFAULT_MAX_BATCH if asked is None else asked) if model.signature.batched else 1
    sizes = tuple(b for b in run.job.optimization.batch_sizes if b <= max_batch) or (1,)
    max_batch = proven_batch(run.job, max_batch) if model.signature.batched else 1
    return Prepared(
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


def _golden_set(
    run: Run, model: LoadedModel, recorded: dict[str, Array] | None
) -> tuple[Samples, dict[str, Array], Task | None]:
    """Samples, what the original answers to them, and the task they are labelled for. Lets go of the original."""
    with run.progress.stage("samples", "recorded" if recorded else "generated from the signature, seeded"):
        if recorded is not None:
            samples = check_samples(recorded, model.signature, where="the samples")
        else:
            samples = generate_samples(model.signature, bounds=model.bounds)
        reference = ask_original(model, samples)
        model.release()
        task = find_task(run.job.optimization.tolerance, samples, reference, model.signature)
    return samples, reference, task
