"""Whether a candidate's pods find a place beside the stable ones, and in words why not. Pure."""

import math
from dataclasses import dataclass

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity, Strategy
from pilotfish.core.room import NodeRoom, Room

_ROUNDING = 1e-9
"""Cores are binary fractions: three times 0.1 is a little more than 0.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityAsk:
    """What a candidate needs and what may be given up for it. `gpus`, `cpu` (cores), `memory` (bytes): of each pod."""

    strategy: Strategy = Strategy.BLUE_GREEN
    capacity: Capacity = Capacity.AUTO
    replicas: int
    min_available: int
    surge_pods: int
    """Pods beside the stable ones that are needed at most at once."""
    gpus: int = 0
    resource: str = "nvidia.com/gpu"
    cpu: float = 0.0
    memory: float = 0.0
    stable_ready: int
    waiting: bool = False
    """A pod beside the stable ones has found no place for longer than the schedule deadline."""
    load_seconds: float | None = None
    """From a stable pod's place on a node until it was ready, as measured; None: unknown."""
    around_seconds: float = 0.0
    """What a gap lasts beyond loading: the old pods end before, the new ones are verified after it."""
    placed: int = 0
    """Candidate pods that have a node: they need no more room."""
    created: int = 0
    """Candidate pods that exist, with or without a node: a quota has counted them."""

    @property
    def gap_seconds(self) -> float | None:
        """How long nothing serves when old pods stop before new ones start."""
        return None if self.load_seconds is None else self.load_seconds + self.around_seconds

    @property
    def missing(self) -> int:
        """Pods that still need a place beside the stable ones."""
        return max(0, self.surge_pods - self.placed)

    @property
    def uncounted(self) -> int:
        """Pods that a quota has not counted yet."""
        return max(0, self.surge_pods - max(self.placed, self.created))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Why there is no room, and what the user can do about it: `cure` follows on `message`."""

    reason: Reason
    message: str
    cure: str


def pods_that_fit(room: Room, *, gpus: int, cpu: float, memory: float, most: int) -> int:
    """How many equal pods the nodes take, at most `most`: a pod is not split across nodes. Quotas are not looked at."""
    return min(most, sum(_on_node(node, gpus=gpus, cpu=cpu, memory=memory, most=most) for node in room.nodes))


def find_shortage(ask: CapacityAsk, room: Room | None) -> Shortage | None:
    """Why the missing pods find no place beside the stable ones; None where they do, or where nobody can tell yet."""
    if ask.missing == 0:
        return None
    found = None if room is None else _short_of_quota(ask, room) or _short_of_nodes(ask, room)
    if found is not None or not ask.waiting:
        return found
    asks = f"asks for {ask.gpus} {ask.resource} and " if ask.gpus else ""
    return Shortage(
        reason=Reason.INSUFFICIENT_GPU if ask.gpus else Reason.UNSCHEDULABLE,
        message=f"a pod of the new revision {asks}has waited too long for a node",
        cure="free GPUs or add a node" if ask.gpus else "free room or add a node",
    )


def _short_of_quota(ask: CapacityAsk, room: Room) -> Shortage | None:
    for name, each in _quota_amounts(ask):
        left = room.quota.get(name)
        if left is None or each <= 0 or each * ask.uncounted <= max(0.0, left) + _ROUNDING:
            continue
        return Shortage(
            reason=Reason.QUOTA_EXCEEDED,
            message=f"{pods_in_words(ask.uncounted)} more {_verb(ask.uncounted)} {_amount(name, each * ask.uncounted)} "
            f"{name} and a ResourceQuota leaves {_amount(name, max(0.0, left))}",
            cure="raise the quota",
        )
    return None


def _quota_amounts(ask: CapacityAsk) -> tuple[tuple[str, float], ...]:
    """What a pod takes of each quota. Requests equal limits."""
    return (
        (f"requests.{ask.resource}", float(ask.gpus)),
        *((name, ask.cpu) for name in ("requests.cpu", "limits.cpu", "cpu")),
        *((name, ask.memory) for name in ("requests.memory", "limits.memory", "memory")),
        *((name, 1.0) for name in ("pods", "count/pods")),
    )


def _short_of_nodes(ask: CapacityAsk, room: Room) -> Shortage | None:
    most = ask.missing
    if pods_that_fit(room, gpus=ask.gpus, cpu=ask.cpu, memory=ask.memory, most=most) >= most:
        return None
    if not ask.gpus or pods_that_fit(room, gpus=ask.gpus, cpu=0, memory=0, most=most) >= most:
        with_gpus = f", {ask.gpus} {ask.resource}" if ask.gpus else ""
        return Shortage(
            reason=Reason.UNSCHEDULABLE,
            message=f"no node has room for {pods_in_words(most)} more of {_amount('cpu', ask.cpu)} cores, "
            f"{_amount('memory', ask.memory)} of memory{with_gpus}",
            cure="free room or add a node",
        )
    needed, free = ask.gpus * most, sum(max(0, node.gpus) for node in room.nodes)
    message = f"{needed} {ask.resource} {_is(needed)} needed beside the old revision and {free} {_is(free)} free"
    if free >= needed:
        message += f", but not {ask.gpus} on one node for each pod"
    return Shortage(reason=Reason.INSUFFICIENT_GPU, message=message, cure="free GPUs or add a node")


def _on_node(node: NodeRoom, *, gpus: int, cpu: float, memory: float, most: int) -> int:
    fit = most
    for left, each in ((float(node.gpus), float(gpus)), (node.cpu, cpu), (node.memory, memory)):
        if each > 0:
            fit = min(fit, math.floor(min(float(most), max(0.0, left) / each + _ROUNDING)))
    return fit


def free_gpus(ask: CapacityAsk, room: Room) -> int:
    """GPUs that the nodes have left and a quota allows."""
    free = sum(max(0, node.gpus) for node in room.nodes)
    return max(0, math.floor(min(float(free), room.quota.get(f"requests.{ask.resource}", math.inf))))


def pods_in_words(count: int) -> str:
    """`1 pod`, `2 pods`."""
    return "1 pod" if count == 1 else f"{count} pods"


def _verb(count: int) -> str:
    return "needs" if count == 1 else "need"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _amount(name: str, value: float) -> str:
    if name.endswith("memory"):
        return f"{math.ceil(value / 2**20 - _ROUNDING)}Mi"
    return f"{value:g}"
