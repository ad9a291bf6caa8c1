"""How the winner will be served: measured where tuning is asked for and a Triton is at hand, else the defaults.

Whatever goes wrong with measuring is told in the report and never ends the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from pilotfish.api.job_input import JobInput, JobTuning
from pilotfish.api.model_config import ServingConfig, render_model_config
from pilotfish.api.optimization import Objective, Precision
from pilotfish.api.report import Backend, ModelSignature, one_line
from pilotfish.api.serving_settings import resolve_serving
from pilotfish.api.tuning import Accelerator, TunedServing, TuningReport, TuningSpec
from pilotfish.optimizer.model import Candidate, Samples
from pilotfish.optimizer.package import served_files
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.triton_client import TritonRunner
from pilotfish.optimizer.tuning.search import TuningError
from pilotfish.optimizer.tuning.settled import Settled
from pilotfish.optimizer.tuning.tune import TuningOrder, largest_batch, tune
from pilotfish.optimizer.verify import bounds_for, check_answers, judge, measure_error, other_batches
from pilotfish.optimizer.worker import run_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The chosen candidate and what it was compared with, in batches up to `max_batch`."""

    job: JobInput
    chosen: Candidate
    signature: ModelSignature
    samples: Samples
    reference: Mapping[str, Array]
    threads: int
    max_batch: int


def proven_batch(job: JobInput, default: int) -> int:
    """The largest batch in which answers are compared: tuning may choose no larger one."""
    asked, where = job.optimization.tuning, job.serving.tuning
    if asked is None or where is None:
        return default
    return largest_batch(asked, where.given, default)


def settle(winner: Winner, progress: Progress) -> Settled:
    """Find the settings that the winner will be served with."""
    job = winner.job
    if job.optimization.tuning is None:
        return Settled(
            config=ServingConfig(
                max_batch_size=winner.max_batch, gpu=job.serving.gpus > 0, intra_op_threads=winner.threads
            )
        )
    with progress.stage("tune", f"serving settings, within {job.optimization.tuning.time}"):
        return _measured(winner, job.optimization.tuning, progress)


def _measured(winner: Winner, asked: TuningSpec, progress: Progress) -> Settled:
    job = winner.job
    try:
        tuned = tune(_order(winner, asked, _place(job)), progress.step)
    except Exception as error:  # noqa: BLE001 - the model is proven: it is served with the defaults, whatever broke here
        reason = str(error) if isinstance(error, TuningError) else f"unexpected {type(error).__name__}: {error}"
        why = one_line(f"nothing was tuned: {reason}", limit=300)
        progress.step(1.0, why, force=True)
        return Settled(config=_config(job, winner, None), report=_nothing(job, asked, why))
    for line in tuned.story.splitlines():
        progress.step(1.0, line, force=True)
    return Settled(config=_config(job, winner, tuned.serving), serving=tuned.serving, report=tuned.report)


def _place(job: JobInput) -> JobTuning:
    """The Triton to measure; raises TuningError where measuring would say nothing."""
    if job.serving.tuning is None:
        raise TuningError("there is no Triton to measure; give --triton HOST:PORT or put tritonserver on PATH")
    if job.optimization.objective not in {Objective.LATENCY, Objective.THROUGHPUT}:
        raise TuningError(f"the objective is {job.optimization.objective.value}")
    if job.serving.gpus > 0 and not _has_gpus(job):
        raise TuningError("the pods serve on GPUs and this Job has none")
    return job.serving.tuning


def _config(job: JobInput, winner: Winner, tuned: TunedServing | None) -> ServingConfig:
    where = job.serving.tuning or JobTuning(address="", cores=winner.threads)
    return resolve_serving(where.given, cores=where.cores, gpu=job.serving.gpus > 0, tuned=tuned).config


def _nothing(job: JobInput, asked: TuningSpec, why: str) -> TuningReport:
    objective = "Throughput" if job.optimization.objective is Objective.THROUGHPUT else "Latency"
    return TuningReport(
        objective=cast("Literal['Latency', 'Throughput']", objective), concurrency=asked.concurrency, why=why
    )


def _has_gpus(job: JobInput) -> bool:
    return job.optimization.gpus is not None and job.optimization.gpus.count > 0


def _order(winner: Winner, asked: TuningSpec, where: JobTuning) -> TuningOrder:
    job, chosen = winner.job, winner.chosen

    def render(config: ServingConfig) -> str:
        return render_model_config(
            name=job.name,
            backend=chosen.backend,
            signature=winner.signature,
            serving=config,
            parameters=chosen.parameters,
        )

    return TuningOrder(
        name=job.name,
        spec=asked,
        objective=job.optimization.objective,
        where=where,
        signature=winner.signature,
        inputs=winner.samples.inputs,
        files={f"1/{file.name}": file for file in served_files(chosen)},
        largest_batch=winner.max_batch,
        merges=chosen.backend is not Backend.OPENVINO,
        render=render,
        prove=lambda runner, accelerator: _problem(winner, runner, accelerator),
        gpu=job.serving.gpus > 0,
        accelerators=_accelerators(winner),
    )


def _accelerators(winner: Winner) -> tuple[Accelerator, ...]:
    """TensorRT takes ONNX; half precision where the user allows it."""
    if winner.job.serving.gpus == 0 or winner.chosen.backend is not Backend.ONNXRUNTIME:
        return ()
    half = Precision.FP16 in winner.job.optimization.precisions
    return (Accelerator.TENSORRT_FP32, *((Accelerator.TENSORRT_FP16,) if half else ()))


def _problem(winner: Winner, runner: TritonRunner, accelerator: Accelerator | None) -> str | None:
    """How the loaded server's answers differ from the original's by more than they may."""
    batched, inputs = winner.signature.batched, winner.samples.inputs
    # A batched model without a limit takes its batches as clients make them.
    top = min(runner.max_batch_size() or winner.max_batch, winner.max_batch) if batched else 1
    answers = []
    for batch, pad_to in ((1, 0), *other_batches(top)):
        answers.append(run_all(runner, inputs, batch=batch, pad_to=pad_to, batched=batched))
        if problem := check_answers(answers[-1], winner.reference):
            return problem
    spec = winner.job.optimization
    precision = Precision.FP16 if accelerator is Accelerator.TENSORRT_FP16 else winner.chosen.precision
    bounds = bounds_for(precision, spec.tolerance, given=winner.samples.given, batching=batched and top > 1)
    return judge(measure_error(answers[0], winner.reference, answers[1:]), bounds)
