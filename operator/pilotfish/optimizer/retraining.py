"""Where training meets the rest of the run: what can be trained, what it was told, and the teacher.

torch is imported only for a recipe that trains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.api.job_input import JobInput
from pilotfish.api.model import ModelFormat, ModelSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report_sections import TrainingStage
from pilotfish.optimizer.benchmark import available_threads
from pilotfish.optimizer.checkpoints import Checkpoints
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Fetched
from pilotfish.optimizer.identify import Identified, identify
from pilotfish.optimizer.load import load_model
from pilotfish.optimizer.model import LoadedModel
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.tensors import Array, take

if TYPE_CHECKING:
    from pilotfish.optimizer.pytorch.training.data import TrainingSet

_TRAINABLE = frozenset(
    {
        ModelFormat.EXPORTED_PROGRAM,
        ModelFormat.SAFE_TENSORS,
        ModelFormat.STATE_DICT,
        ModelFormat.HUGGING_FACE,
        ModelFormat.TORCH_SERVE_ARCHIVE,
    }
)
_INSTEAD = "weights as SafeTensors or StateDict with spec.model.architecture, or a HuggingFace folder"
_EXAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What was fetched to train with."""

    data: Fetched | None = None
    teacher: Fetched | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The model that goes on to conversion, and what was done to it. `refused` says why compression was taken back.

    `samples` are held out of the training data: for a golden set where none were recorded.
    """

    model: LoadedModel
    samples: dict[str, Array] | None = None
    stages: tuple[TrainingStage, ...] = ()
    refused: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        told = tuple(note for stage in self.stages for note in stage.notes)
        return told if self.refused is None else (*told, self.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """One run's part that trains: its input, and where it works and keeps what is done so far."""

    job: JobInput
    found: Identified
    source: Fetched
    recorded: Mapping[str, Array] | None
    lessons: Lessons
    threads: int
    store: Path
    work: Path
    progress: Progress


def check_trainable(found: Identified, job: JobInput) -> None:
    """Say before anything is opened what cannot be trained, and what to hand over instead.

    Raises:
        OptimizerError: UnsupportedFormat.
    """
    if not job.optimization.trains:
        return
    if found.format not in _TRAINABLE:
        raise OptimizerError(
            Reason.UNSUPPORTED_FORMAT,
            f"a model as {found.format.value} cannot be trained; for fineTune, prune and distill give {_INSTEAD}",
        )
    if job.optimization.prune is not None and found.format is ModelFormat.EXPORTED_PROGRAM:
        raise OptimizerError(
            Reason.UNSUPPORTED_FORMAT,
            f"the sizes of an exported program are fixed, so no channel can be removed; for prune give {_INSTEAD}",
        )


def train(school: Schooling, model: LoadedModel) -> Trained:
    """fineTune, prune and distill as the spec asks for them, or the model as it is.

    Raises:
        OptimizerError: TrainingDataInvalid, TrainingFailed, NoCandidateWithinTolerance; the teacher's own failures.
    """
    job = school.job
    if not job.optimization.trains:
        return Trained(model=model)
    if school.lessons.data is None:
        raise OptimizerError(Reason.INPUT_INVALID, "no training data were fetched; run `pilotfish-job fetch` first")
    import torch

    from pilotfish.optimizer.pytorch.training.recipe import Order, retrain

    threads = available_threads(None)  # all that the Job has: it trains alone
    architecture = job.model.architecture
    done = retrain(
        Order(
            spec=job.optimization,
            load=lambda: load_model(
                school.found, job.model, threads=school.threads, recorded=school.recorded, work=school.work
            ),
            teacher=(lambda data: _load_teacher(school, data)) if school.lessons.teacher else None,
            data=school.lessons.data.entry,
            identity=_identity(school, threads),
            checkpoints=Checkpoints(school.store, job.recipe_key),
            progress=school.progress,
            threads=threads,
            fallback=architecture is None or not architecture.fresh,
        ),
        model,
    )
    torch.set_num_threads(school.threads)
    return Trained(model=done.model, samples=done.samples, stages=done.stages, refused=done.refused)


def _identity(school: Schooling, threads: int) -> dict[str, str]:
    """What the trained weights depend on beside the recipe."""
    import torch

    lessons = school.lessons
    return {
        "source": school.source.record.digest,
        "model": school.job.model.model_dump_json(),
        "data": lessons.data.record.digest if lessons.data else "",
        "teacher": lessons.teacher.record.digest if lessons.teacher else "",
        "threads": str(threads),
        "torch": torch.__version__,
    }


def _load_teacher(school: Schooling, data: "TrainingSet") -> LoadedModel:
    """The teacher like any model; its inputs are the student's, so the training data say their shapes and types."""
    distill, fetched = school.job.optimization.distill, school.lessons.teacher
    if distill is None or fetched is None:
        raise OptimizerError(Reason.INPUT_INVALID, "no teacher was fetched; run `pilotfish-job fetch` first")
    teacher = distill.teacher
    spec = ModelSpec(uri=teacher.uri, format=teacher.format, trust=teacher.trust, architecture=teacher.architecture)
    folder = school.work / "teacher"
    folder.mkdir(parents=True, exist_ok=True)
    found = identify(fetched.entry, work=folder)
    return load_model(found, spec, threads=school.threads, recorded=take(data.inputs, 0, _EXAMPLES), work=folder)
