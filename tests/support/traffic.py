"""Requests in the small world: as many a second as a test says, spread over the pods behind the traffic Service.

Counters are what Triton would count. A model's behaviour decides how its requests end.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pilotfish import names
from pilotfish.core.health.samples import Health, PodSeries, Sample

ERRING = "erring"  # one request in five fails
SLUGGISH = "sluggish"  # four times as slow as the others
_KEPT = 400


@dataclass(slots=True)
class Traffic:
    """Counters per pod, and the samples that were taken of them."""

    behaviour: Callable[[dict[str, Any]], str]
    rate: float = 0.0
    """Requests a second."""
    since: datetime | None = None
    """When the looking began; set anew when the operator starts again."""
    _counters: dict[str, dict[str, int]] = field(default_factory=dict)
    _series: dict[str, list[Sample]] = field(default_factory=dict)

    def flow(self, by: timedelta, pods: Iterable[dict[str, Any]]) -> None:
        """Requests of that stretch of time, evenly over the pods."""
        reached = list(pods)
        if not reached:
            return
        each = int(self.rate * by.total_seconds() / len(reached))
        for pod in reached:
            self._answer(pod, each)

    def _answer(self, pod: dict[str, Any], requests: int) -> None:
        counted = self._counters.setdefault(pod["metadata"]["uid"], {"success": 0, "failed": 0, "us": 0})
        behaviour = self.behaviour(pod)
        failed = requests // 5 if behaviour == ERRING else 0
        each = 4_000 if behaviour == SLUGGISH else 1_000
        counted["success"] += requests - failed
        counted["failed"] += failed
        counted["us"] += each * (requests - failed)

    def look(self, pods: Iterable[dict[str, Any]], now: datetime) -> Health:
        """One more sample of each pod, and all that is known."""
        found = [pod for pod in pods if names.REVISION_LABEL in pod["metadata"]["labels"]]
        for pod in found:
            series = self._series.setdefault(pod["metadata"]["uid"], [])
            if not series or series[-1].at < now:
                series.append(self._sample(pod["metadata"]["uid"], now))
                del series[:-_KEPT]
        return Health(
            since=self.since,
            pods=tuple(
                PodSeries(
                    uid=pod["metadata"]["uid"],
                    revision=pod["metadata"]["labels"][names.REVISION_LABEL],
                    samples=tuple(self._series[pod["metadata"]["uid"]]),
                )
                for pod in found
            ),
        )

    def forget(self, now: datetime) -> None:
        """The operator starts again and remembers nothing."""
        self._series.clear()
        self.since = now

    def _sample(self, uid: str, now: datetime) -> Sample:
        counted = self._counters.get(uid, {"success": 0, "failed": 0, "us": 0})
        return Sample(
            at=now,
            success=counted["success"],
            failures={"BACKEND": counted["failed"]} if counted["failed"] else {},
            inferences=counted["success"],
            executions=counted["success"],
            request_us=counted["us"],
            compute_us=counted["us"],
        )
