"""How far a revision has come, and what that asks for. The value that the steps of a rollout hand on."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pilotfish.api.reasons import Reason
from pilotfish.api.report import Summary
from pilotfish.api.status import JobProgress
from pilotfish.core.objects import Body
from pilotfish.core.plan import Apply
from pilotfish.resources.revision import RevisionRecord


class Stage(StrEnum):
    """Where a revision stands. BLOCKED waits for somebody else's object to go away."""

    OPTIMIZING = "Optimizing"
    STARTING = "Starting"
    VERIFYING = "Verifying"
    CANARYING = "Canarying"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    READY = "Ready"
    FAILED = "Failed"
    BLOCKED = "Blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One revision on its way.

    `wake` is when to look again if nothing happens.
    """

    stage: Stage
    reason: Reason
    message: str
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Body, ...] = ()
    record: RevisionRecord | None = None
    summary: Summary | None = None
    wake: datetime | None = None
    job: JobProgress | None = None
    """How far the running Job is, where it tells."""
    held_up: bool = False
    """Something outside keeps it from going on; it recovers by itself."""
