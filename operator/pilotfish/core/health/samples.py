"""What was measured, as it comes from outside: counters of pods, answers of Prometheus, comparisons of shadows.

Plain values. Counters grow from the server's start; whoever wants a rate takes the difference of two samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

CANCELED = "CANCELED"
"""The client went away: no failure of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Counters of one pod's model (`nv_inference_*`) at one moment.

    Times are microseconds, summed over the requests that succeeded; each request of a batch is told the time of its
    whole execution.
    """

    at: datetime
    """Aware."""
    success: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """By Triton's reason: REJECTED, CANCELED, BACKEND, OTHER."""
    inferences: int = 0
    """Inferences, each sample of a batch counted."""
    executions: int = 0
    """Runs of the model, each batch counted once."""
    request_us: int = 0
    queue_us: int = 0
    compute_us: int = 0
    """Input, inference and output together."""
    buckets: tuple[tuple[float, int], ...] = ()
    """Histogram of request times: upper bound in milliseconds (the last is infinite), requests up to it. Empty where
    the server has none."""
    quantiles: Mapping[float, float] = field(default_factory=dict)
    """Request times in milliseconds by quantile (0.5, 0.9, 0.95, 0.99, 0.999), over about the last minute and not since
    the start: the server's own summary. Empty where nothing was answered in that time. Quantiles of several pods cannot
    be merged: judge the worst pod that had enough requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeries:
    """What is known of one pod, oldest sample first."""

    uid: str
    revision: str
    samples: tuple[Sample, ...] = ()
    error: str | None = None
    """Why the last look at it failed; None when it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswer:
    """What Prometheus said to one query: a number, or nothing, or an error."""

    value: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCounters:
    """Requests that both revisions answered, since the shadow began, and how many answers were equal."""

    at: datetime
    compared: int = 0
    agreed: int = 0
    failed: int = 0
    """The candidate gave no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All that was measured when the pass looked."""

    pods: tuple[PodSeries, ...] = ()
    queries: Mapping[str, QueryAnswer] = field(default_factory=dict)
    """By the name of the check."""
    baselines: Mapping[str, QueryAnswer] = field(default_factory=dict)
    """The same queries asked about the stable revision, where they can be."""
    since: datetime | None = None
    """When the looking began, such as the operator's start: what happened before is not known. None: long ago."""
    shadow: tuple[ShadowCounters, ...] = ()
    """Oldest first; of one shadow process."""

    def of_revision(self, revision: str) -> tuple[PodSeries, ...]:
        """The series of a revision's pods."""
        return tuple(pod for pod in self.pods if pod.revision == revision)
