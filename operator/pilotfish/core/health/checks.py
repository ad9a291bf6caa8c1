"""The checks of spec.rollout.analysis: one function each, from what was measured to a verdict with a sentence. Pure.

Too little to judge is NoData, what could not be looked at is Error; neither hides a failure that is certain without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from math import inf, isfinite

from pilotfish.api.base import parse_duration
from pilotfish.api.report import one_line
from pilotfish.api.rollout import (
    AnalysisChecks,
    Check,
    CheckMode,
    PrometheusCheck,
    RestartCheck,
    Shadow,
    TailLatencyCheck,
    TimeCheck,
)
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.bounds import (
    Bound,
    Measurement,
    Subject,
    at_least,
    at_most,
    conclude,
    incomparable,
    missing_baseline,
    no_worse,
)
from pilotfish.core.health.figures import Figure, Unit, as_milliseconds, counted, decimal, parse_fraction, span
from pilotfish.core.health.samples import QueryAnswer
from pilotfish.core.health.window import Comparison, Window

ERROR_RATE = "errorRate"
MEAN_LATENCY = "meanLatency"
TAIL_LATENCY = "tailLatency"
QUEUE_TIME = "queueTime"
COMPUTE_TIME = "computeTime"
POD_RESTARTS = "podRestarts"
SHADOW_AGREEMENT = "shadowAgreement"

SAME_BATCH_SIZE = Fraction(1, 4)
"""Mean batch sizes that differ by more than this share of stable's make times of executions incomparable."""

Read = Callable[[Window], Figure | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that the checks look at: both revisions in the same stretch of time of that `length`."""

    candidate: Window
    stable: Window | None
    length: timedelta
    min_requests: int
    baseline_required: bool = True
    """Whether a bound against stable needs stable's figure; else it is left out where there is none."""
    restarts: int = 0
    queries: Mapping[str, QueryAnswer] = field(default_factory=dict)
    baselines: Mapping[str, QueryAnswer] = field(default_factory=dict)
    compared: Comparison | None = None


def names_of(checks: AnalysisChecks, shadow: Shadow | None) -> tuple[tuple[str, CheckMode], ...]:
    """The checks that a measurement makes, in its order, with what a failure of each does."""
    fixed: tuple[tuple[str, Check | RestartCheck | None], ...] = (
        (ERROR_RATE, checks.error_rate),
        (MEAN_LATENCY, checks.mean_latency),
        (TAIL_LATENCY, checks.tail_latency),
        (QUEUE_TIME, checks.queue_time),
        (COMPUTE_TIME, checks.compute_time),
        (POD_RESTARTS, checks.pod_restarts),
    )
    named = [(name, check.mode) for name, check in fixed if check is not None]
    named += [(check.name, check.mode) for check in checks.prometheus]
    return (*named, *(((SHADOW_AGREEMENT, CheckMode.ENFORCE),) if shadow is not None else ()))


def measure(checks: AnalysisChecks, shadow: Shadow | None, scene: Scene) -> tuple[Measurement, ...]:
    """Every check that is asked for, in the order of names_of."""
    found = (
        None if checks.error_rate is None else check_error_rate(checks.error_rate, scene),
        None if checks.mean_latency is None else check_mean_latency(checks.mean_latency, scene),
        None if checks.tail_latency is None else check_tail_latency(checks.tail_latency, scene),
        None if checks.queue_time is None else check_queue_time(checks.queue_time, scene),
        None if checks.compute_time is None else check_compute_time(checks.compute_time, scene),
        check_pod_restarts(checks.pod_restarts, scene),
        *(check_prometheus(check, scene) for check in checks.prometheus),
        None if shadow is None else check_shadow_agreement(shadow, scene),
    )
    return tuple(measurement for measurement in found if measurement is not None)


def check_error_rate(check: Check, scene: Scene) -> Measurement:
    """Failed requests as a share of all; those whose client went away do not count."""
    subject = _subject(ERROR_RATE, check.mode, "error rate", scene, unit=Unit.SHARE)
    limit = None if check.max is None else parse_fraction(check.max)
    return _judge(subject, scene, lambda w: w.error_rate, limit=limit, growth=_growth(check))


def check_mean_latency(check: TimeCheck, scene: Scene) -> Measurement:
    """Mean time of a request that succeeded."""
    subject = _subject(MEAN_LATENCY, check.mode, "mean latency", scene)
    return _judge(subject, scene, lambda w: w.mean_latency, limit=_longest(check), growth=_growth(check))


def check_tail_latency(check: TailLatencyCheck, scene: Scene) -> Measurement:
    """A quantile of the time of a request: of all pods from their histograms, else of the worst pod by its summary."""
    share = parse_fraction(check.quantile)
    subject = _subject(TAIL_LATENCY, check.mode, f"p{decimal(share * 100, 6)} latency", scene)
    found = _judge(
        subject,
        scene,
        lambda w: w.tail(share, least=scene.min_requests),
        limit=_longest(check),
        growth=_growth(check),
        without="the pods tell no such quantile",
    )
    has_data = scene.candidate.requests >= scene.min_requests
    if found.verdict is Verdict.NO_DATA and found.value is None and has_data and scene.candidate.early:
        why = "the summaries of the pods still hold requests from before the step began"
        return subject.without_figure(Verdict.INCONCLUSIVE, why)
    return found


def check_queue_time(check: TimeCheck, scene: Scene) -> Measurement:
    """Mean time that a request waited for the model."""
    subject = _subject(QUEUE_TIME, check.mode, "queue time", scene)
    return _judge(subject, scene, lambda w: w.queue_time, limit=_longest(check), growth=_growth(check))


def check_compute_time(check: TimeCheck, scene: Scene) -> Measurement:
    """Mean time of an execution of the model; comparable with stable's at about the same batch size only."""
    subject = _subject(COMPUTE_TIME, check.mode, "compute time", scene)
    return _judge(
        subject,
        scene,
        lambda w: w.compute_time,
        limit=_longest(check),
        growth=_growth(check),
        differs=_batch_sizes_differ,
    )


def check_pod_restarts(check: RestartCheck, scene: Scene) -> Measurement:
    """Restarts of the candidate's pods since the step began."""
    subject = Subject(
        name=POD_RESTARTS, mode=check.mode, noun="pod restarts", unit=Unit.NUMBER, basis=" since the step began"
    )
    figure = Figure(value=Fraction(max(0, scene.restarts)))
    return conclude(subject, figure, (at_most(figure, Fraction(check.max), subject.unit),))


def check_prometheus(check: PrometheusCheck, scene: Scene) -> Measurement:
    """The number that a query of the user's gives."""
    subject = Subject(name=check.name, mode=check.mode, noun=check.name, unit=Unit.NUMBER)
    answer = scene.queries.get(check.name)
    if answer is None:
        return subject.without_figure(Verdict.ERROR, "Prometheus was not asked")
    if answer.error is not None:
        return subject.without_figure(Verdict.ERROR, one_line(answer.error, limit=200))
    if answer.value == inf:
        found = subject.without_figure(Verdict.FAIL, "the query gave +Inf, which is above every limit")
        return replace(found, value="+Inf")
    figure = _answered(answer)
    if figure is None:
        return subject.without_figure(Verdict.NO_DATA, "the query gave no number")
    bounds: list[Bound] = []
    if check.max is not None:
        bounds.append(at_most(figure, parse_fraction(check.max), subject.unit))
    growth = _growth(check)
    if growth is not None:
        stable = _answered(scene.baselines.get(check.name, QueryAnswer()))
        if stable is not None:
            bounds.append(no_worse(figure, stable, growth, subject.unit))
        elif scene.baseline_required:
            bounds.append(missing_baseline(figure, "the query gave no number for the stable revision", subject.unit))
    return conclude(subject, figure, bounds)


def check_shadow_agreement(shadow: Shadow, scene: Scene) -> Measurement:
    """Equal answers of both revisions as a share of all that were compared, as far back in the step as is known."""
    subject = Subject(
        name=SHADOW_AGREEMENT, mode=CheckMode.ENFORCE, noun="agreement with the stable revision", unit=Unit.SHARE
    )
    if scene.compared is None:
        return subject.without_figure(Verdict.NO_DATA, "no answers have been compared yet")
    seen, needed = scene.compared, max(1, scene.min_requests)
    if seen.compared < needed:
        answers = f"{counted(seen.compared, 'answer')} compared over {span(seen.length)}"
        return subject.without_figure(Verdict.NO_DATA, f"{answers}, at least {needed} are needed")
    subject = replace(subject, basis=f" over {span(seen.length)}, {counted(seen.compared, 'answer')} compared")
    figure = Figure(value=Fraction(seen.agreed, seen.compared))
    bound = at_least(figure, parse_fraction(shadow.min_agreement), subject.unit)
    return conclude(subject, figure, (bound,))


def _judge(
    subject: Subject,
    scene: Scene,
    read: Read,
    *,
    limit: Fraction | None,
    growth: Fraction | None,
    without: str = "no request succeeded",
    differs: Callable[[Window, Window], str | None] = lambda _candidate, _stable: None,
) -> Measurement:
    """A figure of the candidate's counters against its bounds."""
    seen, over = scene.candidate, span(scene.length)
    if not seen.measured:
        return subject.without_figure(Verdict.ERROR, _unseen(seen))
    figure = read(seen)
    if seen.requests < scene.min_requests or figure is None:
        too_few = f"{counted(seen.requests, 'request')} over {over}, at least {scene.min_requests} are needed"
        why = too_few if seen.requests < scene.min_requests else f"{without} over {over}"
        found = subject.without_figure(Verdict.NO_DATA, why)
    else:
        bounds = [at_most(figure, limit, subject.unit)] if limit is not None else []
        if growth is not None:
            bounds += _against_stable(subject, scene, read, figure, growth=growth, differs=differs)
        found = conclude(subject, figure, bounds)
    if seen.errors and found.verdict is not Verdict.FAIL:
        return replace(found, verdict=Verdict.ERROR, message=f"{subject.noun}: {_unseen(seen)}")
    return found


def _against_stable(
    subject: Subject,
    scene: Scene,
    read: Read,
    figure: Figure,
    *,
    growth: Fraction,
    differs: Callable[[Window, Window], str | None],
) -> Sequence[Bound]:
    """The bound against stable. A stable revision that cannot be looked at is missing data, no error of this one."""
    stable = scene.stable
    base = None if stable is None or stable.requests < scene.min_requests else read(stable)
    if stable is None or base is None:
        return [missing_baseline(figure, _no_baseline(scene), subject.unit)] if scene.baseline_required else []
    difference = differs(scene.candidate, stable)
    if difference is not None:
        return [incomparable(figure, difference, subject.unit, stable=base)]
    return [no_worse(figure, base, growth, subject.unit)]


def _no_baseline(scene: Scene) -> str:
    stable, needed = scene.stable, scene.min_requests
    if stable is None:
        return "there is no stable revision to compare with"
    if not stable.measured:
        return "no pod of the stable revision could be measured"
    if stable.requests < needed:
        return f"stable had {counted(stable.requests, 'request')}, at least {needed} are needed to compare"
    return "the stable revision has no such figure to compare with"


def _batch_sizes_differ(candidate: Window, stable: Window) -> str | None:
    ours, theirs = candidate.batch_size, stable.batch_size
    if ours is None or theirs is None:
        return "the batch sizes are not known"
    if abs(ours - theirs) <= SAME_BATCH_SIZE * theirs:
        return None
    return f"mean batch size {decimal(ours, 3)} is not comparable with stable's {decimal(theirs, 3)}"


def _unseen(seen: Window) -> str:
    if seen.errors:
        return f"a pod could not be measured ({seen.errors[0]})"
    return "no pod has two samples yet" if seen.silent else "there is no pod to measure"


def _subject(name: str, mode: CheckMode, noun: str, scene: Scene, *, unit: Unit = Unit.MILLISECONDS) -> Subject:
    basis = f" over {span(scene.length)}, {counted(scene.candidate.requests, 'request')}"
    return Subject(name=name, mode=mode, noun=noun, unit=unit, basis=basis)


def _growth(check: Check) -> Fraction | None:
    return None if check.max_regression is None else parse_fraction(check.max_regression)


def _longest(check: TimeCheck) -> Fraction | None:
    return None if check.max is None else as_milliseconds(parse_duration(check.max))


def _answered(answer: QueryAnswer) -> Figure | None:
    if answer.error is not None or answer.value is None or not isfinite(answer.value):
        return None
    return Figure(value=Fraction(repr(float(answer.value))))
