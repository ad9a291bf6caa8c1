"""How rollouts and optimizations end: counted once, from the difference between two stored statuses.

Called only after the new status was stored, and the API server stores each over one old status only: no pass that is
tried again and no restart counts a thing twice. An operator that dies between the two does not count it at all.
No label carries the name of an object.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from prometheus_client import Counter, Histogram

from pilotfish.api.optimization import ArtifactFormat
from pilotfish.api.reasons import Reason
from pilotfish.api.report import OptimizerReason
from pilotfish.names import COMPONENT_LABEL, REVISION_LABEL, Component
from pilotfish.telemetry.metrics import REGISTRY

Body = Mapping[str, Any]


class RolloutOutcome(StrEnum):
    """How a revision that was on its way ended."""

    PROMOTED = "promoted"
    """It has become the stable one, the first one included."""
    ROLLED_BACK = "rolled_back"
    """The same, and it had been the stable one before."""
    ABORTED = "aborted"
    """It was made, and failed: the old one goes on serving."""
    SUPERSEDED = "superseded"
    """Something else was asked for before it had ended."""


_BY_OPERATOR = (
    Reason.OPTIMIZER_FAILED,
    Reason.OPTIMIZER_OUT_OF_MEMORY,
    Reason.OPTIMIZER_DEADLINE_EXCEEDED,
    Reason.SIGNATURE_UNSERVABLE,
)
OPTIMIZATION_FAILURES_BY = tuple(
    dict.fromkeys(
        reason.value
        for reason in (*(Reason(told.value) for told in OptimizerReason), *_BY_OPERATOR)
        if reason.is_failure and reason not in {Reason.VERIFICATION_FAILED, Reason.VERIFICATION_ERROR}
    )
)
"""Reasons that an optimization fails for."""

ROLLOUTS = Counter(
    "pilotfish_rollouts", "Revisions that were on their way, by how they ended.", ["outcome"], registry=REGISTRY
)
ROLLOUT_SECONDS = Histogram(
    "pilotfish_rollout_duration_seconds",
    "Time from the first sight of a revision until it had ended, optimization and pauses included.",
    ["outcome"],
    buckets=(10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400),
    registry=REGISTRY,
)
OPTIMIZATION_SECONDS = Histogram(
    "pilotfish_optimization_duration_seconds",
    "Time that the Job of a new revision took until it had an artifact, by the artifact's format.",
    ["format"],
    buckets=(5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600),
    registry=REGISTRY,
)
OPTIMIZATION_FAILURES = Counter(
    "pilotfish_optimization_failures", "Optimizations that failed for good, by reason.", ["reason"], registry=REGISTRY
)

for _outcome in RolloutOutcome:
    ROLLOUTS.labels(outcome=_outcome.value)
    ROLLOUT_SECONDS.labels(outcome=_outcome.value)
for _format in ArtifactFormat:
    OPTIMIZATION_SECONDS.labels(format=_format.value)
for _reason in OPTIMIZATION_FAILURES_BY:
    OPTIMIZATION_FAILURES.labels(reason=_reason)


def count_outcomes(before: Body, after: Body, objects: Iterable[Body]) -> None:
    """Count what ended between two statuses as stored one after the other; `objects`: the children at that time."""
    candidate = before.get("candidateRevision")
    if candidate is None and before.get("stableRevision") is None:
        return  # The first status, or one that was lost: nothing was on its way as far as anybody knows.
    for outcome, revision, end in find_ends(before, after):
        ROLLOUTS.labels(outcome=outcome.value).inc()
        if candidate is not None and candidate["hash"] == revision and candidate.get("since") and end:
            ROLLOUT_SECONDS.labels(outcome=outcome.value).observe(_seconds(candidate["since"], end))
    failed = new_failure(before, after)
    if failed is not None and _says(after, "ArtifactReady") == "False":
        OPTIMIZATION_FAILURES.labels(reason=failed.get("reason") or "").inc()
    if candidate is not None and _says(before, "ArtifactReady") != "True" and _says(after, "ArtifactReady") == "True":
        _observe_optimization(candidate["hash"], after, objects)


def find_ends(before: Body, after: Body) -> Iterator[tuple[RolloutOutcome, str, str | None]]:
    """What ended between the two statuses: outcome, revision, and when, if that is known."""
    old, new = _hash(before, "stableRevision"), _hash(after, "stableRevision")
    candidate, next_candidate = _hash(before, "candidateRevision"), _hash(after, "candidateRevision")
    if new is not None and new != old and (old is not None or candidate == new):
        stood = any(e["revision"] == new and e["result"] == "Superseded" for e in before.get("history") or ())
        outcome = RolloutOutcome.ROLLED_BACK if stood else RolloutOutcome.PROMOTED
        yield outcome, new, after["stableRevision"].get("since")
    failed = new_failure(before, after)
    if failed is not None and _says(after, "ArtifactReady") != "False":
        yield RolloutOutcome.ABORTED, failed["revision"], failed["at"]
    has_failed = any(e["revision"] == candidate and e["result"] == "Failed" for e in before.get("history") or ())
    if candidate is not None and candidate not in {next_candidate, new} and not has_failed:
        yield RolloutOutcome.SUPERSEDED, candidate, (after.get("candidateRevision") or {}).get("since")


def new_failure(before: Body, after: Body) -> Body | None:
    """The newest entry of the history, if it is new and a failure."""
    newest: Body | None = next(iter(after.get("history") or ()), None)
    if newest is None or newest["result"] != "Failed" or newest in (before.get("history") or ()):
        return None
    return newest


def _observe_optimization(revision: str, after: Body, objects: Iterable[Body]) -> None:
    """Nothing where no Job ran for this revision: another one's artifact served it as well."""
    role = "candidateRevision" if _hash(after, "candidateRevision") == revision else "stableRevision"
    artifact = (after.get(role) or {}).get("artifact")
    if artifact is None or _hash(after, role) != revision:
        return
    for body in objects:
        labels = body["metadata"].get("labels") or {}
        if body["kind"] != "Job" or labels.get(COMPONENT_LABEL) != Component.OPTIMIZE:
            continue
        status = body.get("status") or {}
        if labels.get(REVISION_LABEL) == revision and status.get("startTime") and status.get("completionTime"):
            seconds = _seconds(status["startTime"], status["completionTime"])
            OPTIMIZATION_SECONDS.labels(format=artifact["format"]).observe(seconds)


def _says(status: Body, kind: str) -> str | None:
    return next((c["status"] for c in status.get("conditions") or () if c["type"] == kind), None)


def _hash(status: Body, role: str) -> str | None:
    revision = status.get(role)
    return None if revision is None else str(revision["hash"])


def _seconds(start: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
