"""The seams to the outside: what the controller may ask of a cluster. Protocols only, no I/O.

Both `adapters.kube.KubeCluster` and the fake of the tests pass the same suite (tests/adapters).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Body = Mapping[str, Any]
"""One Kubernetes object as plain data."""


class ClusterError(Exception):
    """A request to the API server failed in a way that a later try may cure."""


class NotFound(ClusterError):
    """The object does not exist (any more)."""


class Conflict(ClusterError):
    """The object changed, or its uid is another's; the next pass sees the new state."""


class Forbidden(ClusterError):
    """The operator lacks the right to do this."""


class Invalid(ClusterError):
    """The API server refuses the object as it is; trying again cannot help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """Which object: kind as in manifests, with the uid that a delete must match."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str | None = None


class Cluster(Protocol):
    """A Kubernetes API server."""

    async def get(self, ref: ObjectRef) -> Body | None:
        """The object, or None."""

    async def list(self, *, api_version: str, kind: str, namespace: str, labels: Mapping[str, str]) -> tuple[Body, ...]:
        """All objects of a kind with these labels, sorted by name."""

    async def apply(self, body: Body) -> Body:
        """Server-side apply with the operator's field manager, forced. Returns the stored object."""

    async def delete(self, ref: ObjectRef) -> None:
        """Delete with background propagation; the uid is a precondition. A missing object is fine."""

    async def write_status(self, body: Body) -> Body:
        """Replace the status of a ModelDeployment; metadata.resourceVersion is a precondition (Conflict)."""

    async def emit(self, event: Body) -> None:
        """Create or refresh an events.k8s.io/v1 Event."""


class Clock(Protocol):
    """The present moment."""

    def now(self) -> datetime:
        """UTC, aware."""
