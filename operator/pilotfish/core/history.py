"""How earlier revisions ended. Two decisions read it: what failed is not tried again, what was stable drains first."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.status import HistoryEntry
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Progress
from pilotfish.core.scope import FAILED, SUPERSEDED, Scope

LIMIT = 10


def after_switch(scope: Scope, *, stable: str) -> tuple[HistoryEntry, ...]:
    """The new stable revision has left the list, the old one enters it."""
    rest = tuple(e for e in scope.status.history if e.revision not in {stable, scope.stable})
    if scope.stable is None:
        return rest
    entry = HistoryEntry(
        revision=scope.stable,
        result=SUPERSEDED,
        reason=Reason.SUPERSEDED,
        message=f"Revision {stable} took over",
        at=timestamp(scope.now),
    )
    return (entry, *rest)[:LIMIT]


def after_failure(scope: Scope, failure: Progress) -> tuple[HistoryEntry, ...]:
    """The wanted revision has failed."""
    if scope.failure_on_record() is not None:
        return scope.status.history
    rest = tuple(e for e in scope.status.history if e.revision != scope.revision)
    entry = HistoryEntry(
        revision=scope.revision,
        result=FAILED,
        reason=failure.reason,
        message=failure.message,
        spec_hash=scope.spec_hash or None,
        at=timestamp(scope.now),
    )
    return (entry, *rest)[:LIMIT]


def after_drop(scope: Scope, *, dropped: str) -> tuple[HistoryEntry, ...]:
    """Another spec took a candidate's place while it had requests: its pods drain from now on."""
    candidate = scope.status.candidate_revision
    is_new = candidate is not None and candidate.hash == dropped
    if not is_new and any(e.revision == dropped for e in scope.status.history):
        return while_going(scope)
    entry = HistoryEntry(
        revision=dropped,
        result=SUPERSEDED,
        reason=Reason.SUPERSEDED,
        message=f"Revision {scope.revision} was asked for before it had taken over",
        at=timestamp(scope.now),
    )
    return (entry, *(e for e in while_going(scope) if e.revision != dropped))[:LIMIT]


def while_going(scope: Scope) -> tuple[HistoryEntry, ...]:
    """An attempt that goes on, or begins anew, has not failed."""
    if scope.revision == scope.stable or scope.failure_on_record() is not None:
        return scope.status.history
    return tuple(e for e in scope.status.history if not (e.revision == scope.revision and e.result == FAILED))


def drained_at(history: Sequence[HistoryEntry], revision: str, drain: timedelta) -> datetime | None:
    """When the pods of a revision that was stable may go; None when it never had traffic."""
    for entry in history:
        if entry.revision == revision and entry.result == SUPERSEDED:
            return parse_time(entry.at) + drain
    return None
