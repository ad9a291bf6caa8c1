"""fineTune, prune and distill in this order, each from its checkpoints, and the gate that all of them must pass.

What is compressed must do the task as well as the best uncompressed model, up to the tolerance; if it does not, that
uncompressed model is what goes on, or the run fails, as spec.optimization.onNoCandidate says.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from pilotfish.api.model import ModelFormat
from pilotfish.api.optimization import OnNoCandidate, OptimizationSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report_sections import Epoch, TrainingStage
from pilotfish.api.training import Distill, FineTune, PruneMethod
from pilotfish.optimizer.checkpoints import Checkpoints, input_digest
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import SEED
from pilotfish.optimizer.metrics import Task, find_task
from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.pytorch.training.data import TrainingSet, read_training_set
from pilotfish.optimizer.pytorch.training.loop import Course, Lesson, Loss, learn, restore_last
from pilotfish.optimizer.pytorch.training.losses import DistillationLoss, TaskLoss
from pilotfish.optimizer.pytorch.training.pruning import make_permanent, mask_weights, prune_channels
from pilotfish.optimizer.pytorch.training.teaching import Taught, ask_teacher
from pilotfish.optimizer.pytorch.training.trainee import Trainee, check_loaded, run_batches
from pilotfish.optimizer.tensors import Array

_NUMBERS = {"fineTune": 1, "prune": 2, "distill": 3}
_GRAPH_NOTE = (
    "The packed program is a graph of evaluation mode: it was trained without dropout and with the statistics of batch "
    "normalization as they were."
)
_RATE, _TRANSFORMER_RATE = 1e-3, 5e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to train: `load` opens the source again, `teacher` opens the teacher.

    `identity` is everything outside the spec that the result depends on: digests of source, data and teacher, threads
    and versions. `fallback` says whether the source may be served as it came: not with a head that nobody trained.
    """

    spec: OptimizationSpec
    load: Callable[[], LoadedModel]
    teacher: Callable[[TrainingSet], LoadedModel] | None
    data: Path
    identity: dict[str, str]
    checkpoints: Checkpoints
    progress: Progress
    threads: int
    fallback: bool = True
    seed: int = SEED
    after_epoch: Callable[[str, int], None] = field(default=lambda _stage, _epoch: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """What goes on to conversion, and what was done. `refused` says why compression was taken back.

    `samples` are held out and labelled: recorded ones, for whoever has none.
    """

    model: LoadedModel
    samples: dict[str, Array]
    stages: tuple[TrainingStage, ...]
    refused: str | None = None


def retrain(order: Order, model: LoadedModel) -> Retrained:
    """All stages of the recipe on a model that was just loaded; it is changed in place.

    Raises:
        OptimizerError: TrainingDataInvalid, TrainingFailed, NoCandidateWithinTolerance; the teacher's own failures.
    """
    check_loaded(model)
    torch.set_num_threads(order.threads)
    data = read_training_set(order.data, model, seed=order.seed)
    run = _Recipe(order, model, data)
    if order.spec.distill is not None:
        run.ask(order.spec.distill)
    if order.spec.fine_tune is not None and (problem := run.fine_tune(order.spec.fine_tune)):
        return run.take_back("fineTune", problem)
    if order.spec.prune is not None:
        run.prune()
    if order.spec.distill is not None:
        run.distill(order.spec.distill)
    return run.judge()


@dataclass(slots=True)
class _Part:
    """One stage on the way."""

    began: float
    metric_before: float
    parameters_before: int
    epochs: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()


class _Recipe:
    def __init__(self, order: Order, model: LoadedModel, data: TrainingSet) -> None:
        self._order, self._data = order, data
        self._trainee = Trainee(model)
        held = data.held()
        self._own_answers = run_batches(model, held.inputs)
        self._task = _task(order.spec, model, held, self._own_answers)
        self._course = Course(
            data=data,
            held=held,
            task=self._task,
            checkpoints=order.checkpoints,
            progress=order.progress,
            after_epoch=order.after_epoch,
        )
        self._stages: list[TrainingStage] = []
        self._metric = self._task.reference
        self._digest = input_digest(seed=order.seed, identity=order.identity)
        self._tuned: Lesson | None = None
        self._taught: Taught | None = None

    def fine_tune(self, spec: FineTune) -> str | None:
        """Transfer learning on the data; says when the source is better than what comes out."""
        self._advance(spec.to_wire())
        with self._stage("fineTune", self._amount()) as part:
            if self._trainee.is_graph:
                part.notes = (_GRAPH_NOTE,)
            with self._trainee.frozen(spec.freeze, field="fineTune.freeze"):
                part.epochs = self._teach("fineTune", spec, TaskLoss(data=self._data))
        if problem := self._task.judge(self._metric):
            return problem
        self._tuned = self._lesson("fineTune", spec)
        return None

    def prune(self) -> None:
        """Take weights out and repair what that broke."""
        spec = self._order.spec.prune
        if spec is None:
            return
        if self._trainee.is_graph:
            raise OptimizerError(Reason.TRAINING_FAILED, "prune: the sizes of an exported program are fixed; remove it")
        ratio, structured = float(spec.ratio), spec.method is PruneMethod.STRUCTURED
        self._advance(spec.to_wire())
        with self._stage("prune", f"{ratio:.0%} of the {'channels' if structured else 'weights'}") as part:
            if structured:
                part.notes = (prune_channels(self._trainee, self._data.inputs, ratio=ratio),)
            else:
                mask_weights(self._trainee, ratio=ratio)
            if (repair := spec.fine_tune) is not None:
                with self._trainee.frozen(repair.freeze, field="prune.fineTune.freeze"):
                    part.epochs = self._teach("prune", repair, TaskLoss(data=self._data))
            if not structured:
                part.notes = (make_permanent(self._trainee),)

    def ask(self, spec: Distill) -> None:
        """The teacher's answers, before anything is trained: a teacher that cannot teach is found at once."""
        load = self._order.teacher
        if load is None:
            raise OptimizerError(Reason.INPUT_INVALID, "no teacher was fetched; run `pilotfish-job fetch` first")
        with self._order.progress.stage("teacher", f"{len(self._data.labels)} samples"):
            self._taught = ask_teacher(
                lambda: load(self._data),
                self._data,
                self._own_answers[self._data.output],
                checkpoints=self._order.checkpoints,
                digest=input_digest(teacher=spec.teacher.to_wire(), identity=self._order.identity),
            )

    def distill(self, spec: Distill) -> None:
        """Learn from the teacher's answers and from the labels."""
        if self._taught is None:
            return
        self._advance(spec.to_wire())
        with self._stage("distill", self._amount()) as part:
            skill = self._task.measure({self._task.output: self._taught.answers[self._data.held_out]})
            part.notes = (f"The teacher's {self._task.metric.value} on the held-out data is {skill:.4g}.",)
            loss = DistillationLoss(
                task=TaskLoss(data=self._data),
                answers=self._taught.answers,
                teacher_probabilities=self._taught.probabilities,
                temperature=float(spec.temperature),
                alpha=float(spec.alpha),
            )
            with self._trainee.frozen((), field="distill"):
                part.epochs = self._teach("distill", spec, loss)

    def judge(self) -> Retrained:
        """The gate: against the source, or what fine-tuning made of it where that is better."""
        best = self._task
        tuned = self._stages[0].metric_after if self._tuned is not None else None
        if tuned is not None and best.drop(tuned) < 0:
            best = replace(best, reference=tuned)
        compressed = " and ".join(s.stage for s in self._stages if s.stage != "fineTune")
        if compressed and (problem := best.judge(self._metric)):
            return self.take_back(compressed, problem)
        return Retrained(model=self._trainee.model, samples=self._data.golden(), stages=tuple(self._stages))

    def take_back(self, stages: str, problem: str) -> Retrained:
        """The model as it was before these stages.

        Raises:
            OptimizerError: NoCandidateWithinTolerance where nothing but their result may be served.
        """
        serves = self._order.spec.on_no_candidate is OnNoCandidate.SERVE_ORIGINAL
        if not serves or not (self._order.fallback or self._tuned):
            raise OptimizerError(
                Reason.NO_CANDIDATE_WITHIN_TOLERANCE,
                f"after {stages} {problem}, on the held-out data; train longer, compress less or widen the tolerance",
            )
        sentence = f"{stages} was taken back: {problem}, on the held-out data"
        kept, samples = self._uncompressed(), self._data.golden()
        return Retrained(model=kept, samples=samples, stages=tuple(self._stages), refused=sentence)

    def _uncompressed(self) -> LoadedModel:
        del self._trainee  # not two models at once
        fresh = self._order.load()
        if self._tuned is not None:
            restore_last(Trainee(fresh), self._tuned, self._order.checkpoints)
        return fresh

    def _amount(self) -> str:
        return f"{len(self._data.learned)} samples, {len(self._data.held_out)} more held out"

    @contextmanager
    def _stage(self, name: str, what: str) -> Iterator[_Part]:
        with self._order.progress.stage(name, what):
            part = _Part(time.monotonic(), self._metric, self._trainee.parameters())
            yield part
            self._metric = self._task.measure(self._trainee.evaluate(self._course.held.inputs))
        self._stages.append(
            TrainingStage(
                stage=name,
                epochs=part.epochs,
                seconds=round(time.monotonic() - part.began, 3),
                samples=len(self._data.learned),
                held_out=len(self._data.held_out),
                metric=self._task.metric.value,
                metric_before=part.metric_before,
                metric_after=self._metric,
                parameters_before=part.parameters_before,
                parameters_after=self._trainee.parameters(),
                seed=self._order.seed,
                notes=part.notes,
            )
        )

    def _advance(self, said: dict[str, object]) -> None:
        """What a stage starts from is all that came before it, and what is asked of it."""
        self._digest = input_digest(before=self._digest, stage=said)

    def _teach(self, name: str, spec: FineTune | Distill, loss: Loss) -> tuple[Epoch, ...]:
        return learn(self._trainee, self._lesson(name, spec), self._course, loss)

    def _lesson(self, name: str, spec: FineTune | Distill) -> Lesson:
        usual = _TRANSFORMER_RATE if self._trainee.model.format is ModelFormat.HUGGING_FACE else _RATE
        return Lesson(
            stage=name,
            number=_NUMBERS[name],
            epochs=spec.epochs,
            learning_rate=usual if spec.learning_rate is None else float(spec.learning_rate),
            batch_size=spec.batch_size,
            seed=self._order.seed,
            digest=self._digest,
        )


def _task(spec: OptimizationSpec, model: LoadedModel, held: Samples, answers: dict[str, Array]) -> Task:
    try:
        task = find_task(spec.tolerance, held, answers, model.signature)
    except OptimizerError as error:
        raise OptimizerError(Reason.TRAINING_DATA_INVALID, f"the training data: {error.message}") from error
    if task is None:
        raise OptimizerError(
            Reason.TRAINING_DATA_INVALID, "the training data: no metric fits labels and output; set tolerance.metric"
        )
    return task
