"""Room for pods: what the scheduler could still give, as plain values. core.rollout.capacity makes plans of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What one schedulable node has left: allocatable minus the requests of the pods on it."""

    name: str
    gpus: int
    """Of the resource that was asked for."""
    cpu: float = float("inf")
    """Cores."""
    memory: float = float("inf")
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What could be placed now. `quota`: what the namespace's ResourceQuotas leave, by resource; absent: no limit."""

    resource: str
    nodes: tuple[NodeRoom, ...] = ()
    quota: Mapping[str, float] = field(default_factory=dict)
