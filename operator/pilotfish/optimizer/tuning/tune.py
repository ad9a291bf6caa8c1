"""Tuning from an order to a report: which settings are free, the search on the server, what is recorded."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from pilotfish.api.base import parse_duration
from pilotfish.api.job_input import JobTuning
from pilotfish.api.optimization import Objective
from pilotfish.api.report import ModelSignature
from pilotfish.api.serving_settings import GivenServing, resolve_serving
from pilotfish.api.tuning import Accelerator, PointVerdict, Tunable, TunedServing, TuningReport, TuningSpec
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.tuning.bench import Prove, Render, TritonBench, make_requests
from pilotfish.optimizer.tuning.figures import Goal
from pilotfish.optimizer.tuning.load import LoadPlan, Patience
from pilotfish.optimizer.tuning.search import Outcome, PointError, Search, SearchPlan, TuningError
from pilotfish.optimizer.tuning.server import ControlledServer
from pilotfish.optimizer.tuning.settings import Setting, Space
from pilotfish.optimizer.tuning.telling import tell_story

_GIVEN = {
    Tunable.MAX_BATCH_SIZE: "max_batch_size",
    Tunable.PREFERRED_SIZES: "preferred_sizes",
    Tunable.MAX_QUEUE_DELAY: "max_queue_delay_microseconds",
    Tunable.INSTANCES: "instances",
    Tunable.THREADS: "intra_op_threads",
}
_OF_THE_BATCHER = frozenset({Tunable.MAX_BATCH_SIZE, Tunable.PREFERRED_SIZES, Tunable.MAX_QUEUE_DELAY})
_SEARCH_SHARE = 0.85
_PATIENCE_SHARE = 0.05
"""Shares of the time; the rest is for the start of the server and the last check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOrder:
    """What is tuned. `files` by their path in the model's folder; answers were compared up to `largest_batch`.

    `merges`: the backend takes requests of several clients as one batch.
    """

    name: str
    spec: TuningSpec
    objective: Objective
    where: JobTuning
    signature: ModelSignature
    inputs: Mapping[str, Array]
    files: Mapping[str, Path]
    largest_batch: int
    render: Render
    prove: Prove
    merges: bool = True
    gpu: bool = False
    accelerators: tuple[Accelerator, ...] = ()
    load: LoadPlan = field(default_factory=LoadPlan)
    plan: SearchPlan = field(default_factory=SearchPlan)
    """Its time is the spec's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What came out: the report, and what is recorded with the artifact."""

    report: TuningReport
    serving: TunedServing
    story: str


def tune(order: TuningOrder, say: Callable[[float, str], None]) -> Tuned:
    """Measure and choose.

    Raises:
        TuningError: nothing could be measured; the text says why.
    """
    began = time.monotonic()
    space = make_space(order)
    if not space.free and not space.accelerators:
        raise TuningError("spec.serving says every setting")
    budget = parse_duration(order.spec.time).total_seconds()
    with ControlledServer(
        address=order.where.address,
        name=order.name,
        files=order.files,
        folder=Path(order.where.folder) if order.where.folder else None,
    ) as server:
        bench = TritonBench(
            server=server,
            signature=order.signature,
            render=order.render,
            prove=order.prove,
            requests=make_requests(order.name, order.signature, order.inputs),
            gpu=order.gpu,
            inter_op_threads=order.where.given.inter_op_threads or 0,
            plan=order.load,
            patience=Patience(seconds=_PATIENCE_SHARE * budget),
        )
        search = Search(
            space=space,
            goal=make_goal(order),
            bench=bench,
            plan=replace(order.plan, seconds=_SEARCH_SHARE * budget),
            clock=lambda: time.monotonic() - bench.patience.spent,
            say=say,
        )
        try:
            outcome = confirm_answers(search.run(), bench)
            version = server.version()
        except PointError as error:
            raise TuningError(str(error)) from error
    return Tuned(
        report=TuningReport(
            objective=cast("Literal['Latency', 'Throughput']", order.objective.value),
            server=version,
            cores=order.where.cores,
            seconds=round(time.monotonic() - began, 1),
            budget_seconds=budget,
            complete=outcome.complete,
            concurrency=order.spec.concurrency,
            max_latency_ms=round(outcome.bound_ms, 3) if order.objective is Objective.THROUGHPUT else None,
            points=outcome.points,
            winner=outcome.tried.index(outcome.winner),
            why=outcome.why,
        ),
        serving=space.result(outcome.winner.setting),
        story=tell_story(outcome),
    )


def make_goal(order: TuningOrder) -> Goal:
    """What is best, by the objective."""
    bound = order.spec.max_latency
    return Goal(
        objective=Objective.THROUGHPUT if order.objective is Objective.THROUGHPUT else Objective.LATENCY,
        top=order.spec.concurrency,
        bound_ms=None if bound is None else parse_duration(bound).total_seconds() * 1e3,
    )


def make_space(order: TuningOrder) -> Space:
    """What may be tried: the settings that the user left out and allows, from what would serve without tuning."""
    given, cores = order.where.given, order.where.cores
    config = resolve_serving(given, cores=cores, gpu=order.gpu).config
    batched = order.signature.batched and order.merges and config.max_batch_size > 1
    start = Setting(
        max_batch=config.max_batch_size if batched else 1,
        preferred=config.preferred_batch_sizes if batched else (),
        delay_us=config.max_queue_delay_us,
        instances=config.instances,
        threads=config.intra_op_threads,
    )
    free = frozenset(what for what in order.spec.settings if getattr(given, _GIVEN[what]) is None)
    return Space(
        start=start,
        free=free if batched else free - _OF_THE_BATCHER,
        cores=cores,
        largest_batch=max(start.max_batch, order.largest_batch),
        batched=batched,
        gpu=order.gpu,
        fixed_threads=given.intra_op_threads is not None,
        accelerators=order.accelerators if order.gpu else (),
    )


def largest_batch(spec: TuningSpec, given: GivenServing, default: int) -> int:
    """The batch up to which answers must be compared so that tuning may choose it."""
    if given.max_batch_size is not None or Tunable.MAX_BATCH_SIZE not in spec.settings:
        return default
    return max(default, min(64, spec.concurrency))


def confirm_answers(outcome: Outcome, bench: TritonBench) -> Outcome:
    """The winner answers like the original; the default serves where it does not."""
    start = outcome.tried[0]
    if outcome.winner is start:
        return outcome
    try:
        bench.open(outcome.winner.setting)
        bench.check(outcome.winner.setting)
    except PointError as error:
        why = f"{outcome.winner.setting} was the best, but {error}"
        refused = {"verdict": PointVerdict.FAILED, "reason": str(error)}
        kept = {"verdict": PointVerdict.WON, "reason": why}
        points = tuple(
            point.model_copy(update=refused if tried is outcome.winner else kept if tried is start else {})
            for tried, point in zip(outcome.tried, outcome.points, strict=True)
        )
        return replace(outcome, winner=start, why=why, points=points)
    return outcome
