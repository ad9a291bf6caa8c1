"""What a run in the Job is given, and the original once it is made ready."""

from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.job_input import JobInput
from pilotfish.api.report import SourceRecord
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.fetch import Fetched
from pilotfish.optimizer.identify import Identified
from pilotfish.optimizer.metrics import Task
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.retraining import Lessons, Trained
from pilotfish.optimizer.seal import Seal
from pilotfish.optimizer.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's input and places."""

    job: JobInput
    source: Fetched
    samples: Path | None
    store: Path
    work: Path
    plan: BenchmarkPlan
    progress: Progress
    lessons: Lessons


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
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
