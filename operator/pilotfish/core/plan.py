"""The answer of one pass: what to apply, what to delete, which status to store, what to say. A value, no behaviour.

How it is executed is the controller's part and follows three rules, in this order:
1. `applies` one by one. `uid` set: the object must still be that one (metadata.uid in an apply is such a precondition).
   `uid` None: nothing may stand under that name; look first, and if something does, plan again with it among the
   observed objects (it is ours, or it becomes NotOwned).
2. `deletes`, each with its uid as a precondition.
3. `status`, once, with the resourceVersion that was observed; `events` only after it was stored.
"""

from dataclasses import dataclass
from datetime import timedelta

from pilotfish.core.objects import Body, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """A whole object to apply. `uid` is that of the object it changes, None where it must not exist yet."""

    body: Body
    uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one pass wants. All empty: everything is as it should be."""

    applies: tuple[Apply, ...] = ()
    deletes: tuple[ObjectRef, ...] = ()
    status: Body | None = None
    """The ModelDeployment with its new status and the observed resourceVersion; None when the status is as stored."""
    events: tuple[Body, ...] = ()
    """events.k8s.io/v1 Events, named after what they say."""
    requeue_after: timedelta | None = None
    """When to look again if nothing happens before."""
    notes: tuple[str, ...] = ()
    """Decisions with their numbers, for the log."""

    @property
    def is_empty(self) -> bool:
        """Whether executing it would write nothing."""
        return not (self.applies or self.deletes or self.status or self.events)
