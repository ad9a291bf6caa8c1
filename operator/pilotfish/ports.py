"""The seams to the outside: what the controller may ask of a cluster. Protocols only, no I/O.

Both `adapters.kube.KubeCluster` and the fake of the tests pass the same suite (tests/adapters).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from pilotfish.api.job_progress import ProgressNote
from pilotfish.core.health.samples import QueryAnswer, Sample, ShadowCounters
from pilotfish.core.objects import Body, ObjectRef
from pilotfish.core.room import Room

__all__ = [
    "ABSENT",
    "Body",
    "Clock",
    "Cluster",
    "ClusterError",
    "Conflict",
    "Forbidden",
    "Invalid",
    "LeaseStore",
    "Metrics",
    "NotFound",
    "ObjectRef",
    "ProgressReader",
    "Queries",
    "RoomReader",
    "Unmeasured",
]


ABSENT = "1"
"""No object ever has this resourceVersion: the first of a cluster's store is higher."""


class ClusterError(Exception):
    """A request to the API server failed in a way that a later try may cure.

    retry_after: seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotFound(ClusterError):
    """The object, or the namespace it lives in, does not exist (any more)."""


class Conflict(ClusterError):
    """The object changed, or its uid is another's; the next pass sees the new state."""


class Forbidden(ClusterError):
    """The operator lacks the right to do this."""


class Invalid(ClusterError):
    """The API server refuses the object as it is; trying again cannot help."""


class Cluster(Protocol):
    """A Kubernetes API server."""

    async def get(self, ref: ObjectRef) -> Body | None:
        """The object, or None."""

    async def list(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> tuple[Body, ...]:
        """All objects of a kind with these labels, sorted by namespace and name. namespace None: all namespaces."""

    async def apply(self, body: Body) -> Body:
        """Server-side apply with the operator's field manager, forced. Returns the stored object.

        metadata.uid and metadata.resourceVersion in the body are preconditions (Conflict). With the version ABSENT
        nothing may stand under that name.
        """

    async def delete(self, ref: ObjectRef) -> None:
        """Delete with background propagation; the uid is a precondition. A missing object is fine."""

    async def write_status(self, body: Body) -> Body:
        """Replace the status of a ModelDeployment; metadata.resourceVersion is a precondition (Conflict)."""

    async def emit(self, event: Body) -> None:
        """Create an events.k8s.io/v1 Event; if one of that name exists, count it once more in its series."""


class LeaseStore(Protocol):
    """The one object that says which replica may write."""

    async def get(self, ref: ObjectRef) -> Body | None:
        """The object, or None."""

    async def put(self, body: Body) -> Body:
        """Create when the body has no metadata.resourceVersion, else replace that version. Conflict when too late."""


class Clock(Protocol):
    """The present moment."""

    def now(self) -> datetime:
        """UTC, aware."""


class Unmeasured(Exception):
    """A measurement could not be made; the message is one short sentence about the party that was asked ("it …")."""


class Metrics(Protocol):
    """The pods' own counters."""

    async def sample(self, *, address: str, model: str) -> Sample:
        """Counters of the model in the pod at this IP address. Raises Unmeasured, and nothing else."""

    async def shadow(self, *, address: str) -> ShadowCounters:
        """Counters of the shadow pod at this IP address. Raises Unmeasured, and nothing else."""


class ProgressReader(Protocol):
    """The Jobs' own word on how far they are."""

    async def progress(self, *, address: str) -> ProgressNote:
        """What the pod at this IP address says now. Raises Unmeasured, and nothing else."""


class Queries(Protocol):
    """The monitoring system that the operator's settings name."""

    async def ask(self, query: str) -> QueryAnswer:
        """What it answers; trouble of any kind is an answer with an error."""


class RoomReader(Protocol):
    """What the scheduler could still give."""

    async def __call__(
        self, *, namespace: str, resource: str, tolerations: Sequence[Mapping[str, Any]] = ()
    ) -> Room | None:
        """Room for pods of a namespace that ask for a GPU resource and have these tolerations.

        None where the operator may not look. Raises ClusterError.
        """
