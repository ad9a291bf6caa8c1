"""How far the optimization Job is: which pod can be asked, and what status shows of its answers. Pure.

Status changes when the stage does or when the percentage has moved by some points, not with every answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.status import JobProgress
from pilotfish.core.job_outcome import OPTIMIZATION, is_finished
from pilotfish.core.objects import Body, is_deleting, label_of
from pilotfish.core.observed import Heard, Observed
from pilotfish.names import Component

GAP = timedelta(seconds=15)
"""Between two questions."""
EARLY_GAP, EARLY = timedelta(seconds=3), 5
"""A pod that has said nothing yet still starts: so often it is asked again sooner, lest a short Job be over first."""
LASTS = timedelta(seconds=60)
"""How long an answer counts when no other one comes."""
POINTS = 5
"""How far the percentage must move within a stage before it is told."""
_MINUTES_FROM = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A pod that may know how far its Job is."""

    job: str
    """Uid of the Job."""
    pod: str
    """Uid of the pod."""
    address: str


def find_asked(observed: Observed) -> Asked | None:
    """The running pod of the newest optimization Job that has not ended; None while there is nobody to ask."""
    if is_deleting(observed.body):
        return None
    jobs = (j for j in observed.of_kind("Job") if label_of(j, names.COMPONENT_LABEL) == Component.OPTIMIZE)
    going = [job for job in jobs if not is_finished(job) and not is_deleting(job)]
    return next(_asked(observed, going), None)


def _asked(observed: Observed, jobs: list[Body]) -> Iterator[Asked]:
    for job in sorted(jobs, key=lambda j: str(j["metadata"].get("creationTimestamp", "")), reverse=True):
        for pod in observed.pods_of_job(job):
            address = (pod.get("status") or {}).get("podIP")
            # A pod on its node's own network is none that we made: whoever forged it would have us ask the node.
            if address and _runs(pod) and not is_deleting(pod) and not pod.get("spec", {}).get("hostNetwork"):
                yield Asked(job=job["metadata"]["uid"], pod=str(pod["metadata"]["uid"]), address=str(address))


def _runs(pod: Body) -> bool:
    status: Mapping[str, Any] = pod.get("status") or {}
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return any(c.get("name") in OPTIMIZATION.containers and "running" in (c.get("state") or {}) for c in every)


def make_progress(heard: Heard | None, job: Body, *, stored: JobProgress | None) -> JobProgress | None:
    """What status shows of this Job: what it shows already, unless that is too far from what was heard."""
    if heard is None or heard.job != job["metadata"]["uid"]:
        return None
    note = heard.note
    if stored is not None and stored.stage == note.stage and abs(stored.percent - note.percent) < POINTS:
        return stored
    return JobProgress(
        stage=note.stage,
        percent=note.percent,
        message=note.message or None,
        remaining=None if note.remaining_seconds is None else _rough(note.remaining_seconds),
    )


def describe_progress(progress: JobProgress) -> str:
    """`benchmark, 55 %: round 3; about 2m left`."""
    said = f": {progress.message}" if progress.message else ""
    left = f"; about {progress.remaining} left" if progress.remaining else ""
    return f"{progress.stage}, {progress.percent} %{said}{left}"


def _rough(seconds: int) -> str:
    return f"{seconds}s" if seconds < _MINUTES_FROM else f"{round(seconds / 60)}m"
