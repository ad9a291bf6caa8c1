"""What happened in a stretch of time: differences of counters per pod, merged per revision. Pure, total.

A counter that falls belongs to a server that started again: it counts from zero. Nothing before `since` counts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import inf, isnan

from pilotfish.api.report import one_line
from pilotfish.core.health.figures import Figure
from pilotfish.core.health.samples import CANCELED, Health, PodSeries, Sample, ShadowCounters

Buckets = tuple[tuple[float, int], ...]
"""Upper bound in milliseconds (the last is infinite), requests up to it."""

_FAILURE = "failure/"
_US_PER_MS = 1000


SUMMARY_MEMORY = timedelta(seconds=60)
"""How far back the quantiles of a server's summary reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Answers that a shadow compared in so much time, and how many were equal."""

    compared: int
    agreed: int
    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One pod's own quantiles in milliseconds, and its requests in the window."""

    requests: int
    quantiles: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One revision in one stretch of time."""

    success: int = 0
    failures: int = 0
    """Without those whose client went away."""
    inferences: int = 0
    executions: int = 0
    request_us: int = 0
    queue_us: int = 0
    compute_us: int = 0
    buckets: Buckets = ()
    """Empty where a pod has no histogram, or pods have different ones."""
    summaries: tuple[Summary, ...] = ()
    """Of the pods whose summary holds nothing from before `since`."""
    early: bool = False
    """Whether a pod's summary still does."""
    measured: int = 0
    """Pods with two samples or more."""
    silent: int = 0
    """Pods with fewer, though nothing went wrong."""
    errors: tuple[str, ...] = ()
    """Why pods did not answer, each sentence once, sorted."""

    @property
    def requests(self) -> int:
        """All that count: answered and failed."""
        return self.success + self.failures

    @property
    def error_rate(self) -> Figure | None:
        """Failed requests as a share of all."""
        return _ratio(self.failures, self.requests)

    @property
    def mean_latency(self) -> Figure | None:
        """Milliseconds of a request that succeeded."""
        return _ratio(self.request_us, self.success * _US_PER_MS)

    @property
    def queue_time(self) -> Figure | None:
        """Milliseconds that a request waited."""
        return _ratio(self.queue_us, self.success * _US_PER_MS)

    @property
    def compute_time(self) -> Figure | None:
        """Milliseconds of the execution that a request was part of.

        Divided by requests, not by executions: Triton adds the time of an execution once for each request in it.
        """
        return _ratio(self.compute_us, self.success * _US_PER_MS)

    @property
    def batch_size(self) -> Fraction | None:
        """Mean number of inferences in an execution."""
        return Fraction(self.inferences, self.executions) if self.inferences and self.executions else None

    def tail(self, share: Fraction, *, least: int) -> Figure | None:
        """A quantile of the request times in milliseconds.

        From the histogram where there is one. Quantiles of several pods cannot be merged: else it is the worst of the
        pods that had their part of `least` requests, and of each pod the nearest quantile that is not lower.
        """
        if self.buckets:
            return self.quantile(share)
        busy = [s for s in self.summaries if s.requests and s.requests * self.measured >= least]
        told = [_nearest(summary.quantiles, share) for summary in busy]
        return max((Figure(value=time) for time in told if time is not None), key=lambda f: f.value, default=None)

    def quantile(self, share: Fraction) -> Figure | None:
        """Milliseconds, linear inside a bucket; of the open last bucket only the lower bound is known."""
        total = self.buckets[-1][1] if self.buckets else 0
        if not total:
            return None
        rank = min(max(share, Fraction(0)), Fraction(1)) * total
        low, below = Fraction(0), 0
        for bound, upto in self.buckets:
            if upto >= rank and upto > below:
                if bound == inf:
                    break
                inside = Fraction(rank - below) / (upto - below)
                return Figure(value=low + inside * (_exact(bound) - low))
            if bound != inf:
                low, below = _exact(bound), upto
        return Figure(value=low, at_least=True)


def look(health: Health, revision: str, *, since: datetime, length: timedelta, now: datetime) -> Window:
    """The revision's pods over the last `length` of time, and only since `since`.

    To cover all of it, a pod's last sample before the stretch counts too, unless it is older than another `length`.
    """
    pods = health.of_revision(revision)
    start = max(since, now - length)
    earliest = max(since, start - length)
    chosen = [_choose(pod, earliest=earliest, start=start, now=now) for pod in pods]
    measured = [samples for samples in chosen if len(samples) > 1]
    grown = [_grown(samples) for samples in measured]
    counts = sum(grown, Counter[str]())
    settled = [samples[-1].at - since >= SUMMARY_MEMORY for samples in measured]
    return Window(
        success=counts["success"],
        failures=_failures(counts),
        inferences=counts["inferences"],
        executions=counts["executions"],
        request_us=counts["request_us"],
        queue_us=counts["queue_us"],
        compute_us=counts["compute_us"],
        buckets=_merge_buckets(_pod_buckets(samples) for samples in measured),
        summaries=tuple(
            Summary(requests=counts["success"] + _failures(counts), quantiles=samples[-1].quantiles)
            for samples, counts, is_settled in zip(measured, grown, settled, strict=True)
            if is_settled
        ),
        early=any(samples[-1].quantiles and not done for samples, done in zip(measured, settled, strict=True)),
        measured=len(measured),
        silent=sum(pod.error is None and len(samples) < 2 for pod, samples in zip(pods, chosen, strict=True)),  # noqa: PLR2004
        errors=tuple(sorted({one_line(pod.error, limit=200) for pod in pods if pod.error is not None})),
    )


def compared_answers(shadow: Sequence[ShadowCounters], *, since: datetime, now: datetime) -> Comparison | None:
    """Answers compared since then and how many were equal; an answer that the candidate did not give is not equal.

    None with fewer than two samples.
    """
    samples = sorted((s for s in shadow if since <= s.at <= now), key=lambda s: s.at)
    if len(samples) < 2:  # noqa: PLR2004
        return None
    compared = agreed = 0
    for before, after in pairwise(samples):
        old, new = _shadow_counts(before), _shadow_counts(after)
        fell = any(b > a for b, a in zip(old, new, strict=True))
        both, equal, failed = new if fell else tuple(a - b for b, a in zip(old, new, strict=True))
        compared += both + failed
        agreed += equal
    return Comparison(compared=compared, agreed=min(agreed, compared), length=samples[-1].at - samples[0].at)


def _choose(pod: PodSeries, *, earliest: datetime, start: datetime, now: datetime) -> list[Sample]:
    samples = sorted((s for s in pod.samples if earliest <= s.at <= now), key=lambda s: s.at)
    inside = [s for s in samples if s.at >= start]
    if not inside or inside[0].at == start:
        return inside
    return [s for s in samples if s.at < start][-1:] + inside


def _grown(samples: Sequence[Sample]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for before, after in pairwise(samples):
        counts.update(_difference(before, after))
    return counts


def _failures(counts: Counter[str]) -> int:
    return sum(n for key, n in counts.items() if key.startswith(_FAILURE) and key != _FAILURE + CANCELED)


def _difference(before: Sample, after: Sample) -> Counter[str]:
    old, new = _counters(before), _counters(after)
    return new if _restarted(before, after) else Counter({key: n - old[key] for key, n in new.items()})


def _counters(sample: Sample) -> Counter[str]:
    counts = {
        "success": sample.success,
        "inferences": sample.inferences,
        "executions": sample.executions,
        "request_us": sample.request_us,
        "queue_us": sample.queue_us,
        "compute_us": sample.compute_us,
        **{f"{_FAILURE}{reason}": n for reason, n in sample.failures.items()},
    }
    return Counter({key: max(0, n) for key, n in counts.items()})


def _restarted(before: Sample, after: Sample) -> bool:
    new = _counters(after)
    if any(new[key] < n for key, n in _counters(before).items()):
        return True
    upto = dict(_usable(after.buckets))
    return any(upto.get(bound, n) < n for bound, n in _usable(before.buckets))


def _pod_buckets(samples: Sequence[Sample]) -> Buckets:
    """Differences of the histograms; none where one of the samples has no histogram or another one."""
    found = []
    for before, after in pairwise(samples):
        old, new = dict(_usable(before.buckets)), _usable(after.buckets)
        if _restarted(before, after):
            found.append(new)
        elif not new or old.keys() != dict(new).keys():
            return ()
        else:
            found.append(tuple((bound, n - old[bound]) for bound, n in new))
    return _merge_buckets(found)


def _merge_buckets(histograms: Iterable[Buckets]) -> Buckets:
    """Their sum, never falling; none where their bounds are not the same."""
    found = list(histograms)
    if not found or any([b for b, _ in h] != [b for b, _ in found[0]] for h in found):
        return ()
    merged: list[tuple[float, int]] = []
    for column in zip(*found, strict=True):
        upto = sum(n for _, n in column)
        merged.append((column[0][0], max(upto, merged[-1][1] if merged else 0)))
    return tuple(merged)


def _usable(buckets: Buckets) -> Buckets:
    """The histogram, or none where bounds do not ascend to infinity."""
    bounds = [bound for bound, _ in buckets]
    ascending = all(one < other for one, other in pairwise(bounds))
    if not bounds or bounds[-1] != inf or bounds[0] <= 0 or not ascending or any(isnan(b) for b in bounds):
        return ()
    return tuple((bound, max(0, n)) for bound, n in buckets)


def _shadow_counts(sample: ShadowCounters) -> tuple[int, int, int]:
    return max(0, sample.compared), max(0, sample.agreed), max(0, sample.failed)


def _nearest(quantiles: Mapping[float, float], share: Fraction) -> Fraction | None:
    known = sorted((_exact(q), time) for q, time in quantiles.items() if 0 <= q <= 1 and 0 <= time < inf)
    return next((_exact(time) for quantile, time in known if quantile >= share), None)


def _ratio(part: int, whole: int) -> Figure | None:
    return Figure(value=Fraction(part, whole)) if whole else None


def _exact(bound: float) -> Fraction:
    return Fraction(repr(float(bound)))
