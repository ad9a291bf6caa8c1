"""What the checks look at: bodies as they were read, or why one could not be read. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pilotfish.core.objects import Body


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be read; `why` is the API server's own sentence."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One thing that the user may or may not do. `wanted_for`: which commands need it."""

    verb: str
    resource: str
    wanted_for: str
    is_needed: bool
    allowed: bool

    @property
    def name(self) -> str:
        """As kubectl auth can-i takes it: `create pods/portforward`."""
        return f"{self.verb} {self.resource}"


@dataclass(frozen=True, slots=True)
class Place:
    """Namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


Bodies = tuple[Body, ...] | Unread
One = Body | Unread | None
"""None: there is no such object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One look at a cluster. `now` is the API server's time, `namespace` the only one that was looked at, or None."""

    version: str
    """Of this program."""
    now: datetime
    user_namespace: str
    """Where the rights were asked for."""
    namespace: str | None = None
    server: Body | Unread = Unread("not asked")
    groups: frozenset[str] | Unread = Unread("not asked")
    """API groups that are served."""
    crd: One = None
    models: Bodies = ()
    operators: Bodies = ()
    leases: Mapping[Place, One] = field(default_factory=dict)
    rights: tuple[Right, ...] | Unread = ()
    storage_classes: Bodies = ()
    claims: Bodies = ()
    nodes: Bodies = ()
    taken: Mapping[str, int] | Unread = field(default_factory=dict)
    """How many of each extended resource the pods of the cluster ask for; only counted where a node offers GPUs."""
    runtime_classes: Bodies = ()
    gateways: Mapping[Place, One] = field(default_factory=dict)


class Verdict(StrEnum):
    """How a check ended. Only FAILED ends the command with 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One sentence about one thing, and what to do next where something is to be done."""

    check: str
    verdict: Verdict
    message: str
    todo: str = ""

    def to_wire(self) -> dict[str, str]:
        """As `-o json` prints it."""
        wire = {"check": self.check, "verdict": self.verdict.value, "message": self.message}
        return {**wire, "next": self.todo} if self.todo else wire
