"""Where the room for a candidate comes from: beside the stable revision, or out of it pod by pod or at once. Pure.

What a plan promises is kept by `core.rollout.scale`. Sentences hold no figure that changes by itself but what is free.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity, Strategy
from pilotfish.api.rollout_status import CapacityStatus
from pilotfish.core.failures import Finding, parse_time
from pilotfish.core.objects import Body, condition_of, is_deleting
from pilotfish.core.rollout.fitting import CapacityAsk, Shortage, find_shortage, free_gpus, pods_in_words
from pilotfish.core.room import Room

__all__ = ["CapacityAsk", "CapacityPlan", "plan_capacity", "schedule_overdue", "unscheduled_since"]

_MINUTES_FROM = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """How the candidate gets its room.

    `blocked`: nothing that is allowed fits. Nothing may be stopped then; pods beside the stable ones may wait for room.
    """

    mode: Capacity
    status: CapacityStatus
    blocked: Finding | None = None


def plan_capacity(ask: CapacityAsk, room: Room | None, *, begun: Capacity | None = None) -> CapacityPlan:
    """Surge, Swap or Recreate, never Auto.

    `begun`: the plan for which stable pods were stopped already. It is kept; only an explicit Recreate goes further.
    """
    if ask.strategy is Strategy.REPLACE or Capacity.RECREATE in {ask.capacity, begun}:
        return _recreate(ask, room)
    if ask.replicas > 0 and Capacity.SWAP in {ask.capacity, begun}:
        return _swap_as_told(ask, room, begun=begun)
    short = find_shortage(ask, room)
    return _plan(ask, room, Capacity.SURGE, _beside(ask)) if short is None else _without_room(ask, room, short)


def _without_room(ask: CapacityAsk, room: Room | None, short: Shortage) -> CapacityPlan:
    if ask.capacity is Capacity.SURGE:
        return _blocked(ask, room, f"{short.message}; {short.cure}, or set spec.rollout.capacity to Auto", short.reason)
    if ask.stable_ready <= 0:
        return _recreate(ask, room)
    if _may_swap(ask):
        why = f"there is no room for {pods_in_words(ask.missing)} more: "
        return _plan(ask, room, Capacity.SWAP, f"{why}{_one_by_one(ask)}")
    if ask.min_available <= 0:
        return _recreate(ask, room)
    return _blocked(ask, room, f"{short.message}; {short.cure}, or {_sacrifice(ask)}", short.reason)


def unscheduled_since(pods: Iterable[Body]) -> datetime | None:
    """Since when the scheduler has found no place for a pod that is not on its way out; the longest wait counts."""
    moments = []
    for pod in pods:
        scheduled = condition_of(pod, "PodScheduled")
        if is_deleting(pod) or scheduled is None or scheduled.get("status") != "False":
            continue
        moment = scheduled.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        if moment:
            moments.append(parse_time(moment))
    return min(moments, default=None)


def schedule_overdue(pods: Iterable[Body], now: datetime, deadline: timedelta) -> bool:
    """Whether a pod has had no place for as long as the deadline."""
    since = unscheduled_since(pods)
    return since is not None and now - since >= deadline


def _swap_as_told(ask: CapacityAsk, room: Room | None, *, begun: Capacity | None) -> CapacityPlan:
    if ask.stable_ready <= 0 and begun is None:
        return _recreate(ask, room)
    if _may_swap(ask):
        return _plan(ask, room, Capacity.SWAP, _one_by_one(ask))
    if ask.replicas <= 1 and (ask.min_available <= 0 or ask.stable_ready <= 0):
        return _recreate(ask, room, why="a swap of 1 pod is a gap: ")
    left = max(0, ask.replicas - 1)
    message = (
        f"a swap leaves {left} of {pods_in_words(ask.replicas)} and spec.serving.minAvailable promises "
        f"{ask.min_available}; {_sacrifice(ask)}"
    )
    reason = Reason.INSUFFICIENT_GPU if ask.gpus else Reason.UNSCHEDULABLE
    return _blocked(ask, room, message, reason, mode=begun or Capacity.SURGE)


def _recreate(ask: CapacityAsk, room: Room | None, *, why: str = "") -> CapacityPlan:
    if not why and ask.stable_ready <= 0:
        why = "no old pod is ready: "
    old = "the old pod stops" if ask.replicas == 1 else "all old pods stop"
    new = "the new one starts" if ask.replicas == 1 else "the new ones start"
    seconds = ask.gap_seconds
    gap = "until the new revision is verified" if seconds is None else f"for about {_words(seconds)}"
    return _plan(ask, room, Capacity.RECREATE, f"{why}{old} before {new}; nothing serves {gap}")


def _blocked(
    ask: CapacityAsk, room: Room | None, message: str, reason: Reason, *, mode: Capacity = Capacity.SURGE
) -> CapacityPlan:
    plan = _plan(ask, room, mode, message)
    return replace(plan, blocked=Finding(reason=reason, message=_sentence(message)))


def _plan(ask: CapacityAsk, room: Room | None, mode: Capacity, message: str) -> CapacityPlan:
    gap = 0.0 if mode is not Capacity.RECREATE else ask.gap_seconds
    # Going back loads what was stopped: all of it at once, or pod by pod.
    loads = {Capacity.SURGE: 0, Capacity.SWAP: max(1, ask.replicas)}.get(mode, 1)
    back = 0.0 if loads == 0 else None if ask.load_seconds is None else loads * _rounded(ask.load_seconds)
    status = CapacityStatus(
        plan=mode.value,
        message=_sentence(message),
        gpus_needed=ask.gpus * max(0, ask.surge_pods) if ask.gpus else None,
        gpus_free=free_gpus(ask, room) if ask.gpus and room is not None else None,
        expected_downtime=None if gap is None else _duration(gap),
        rollback_eta=None if back is None else _duration(back),
    )
    return CapacityPlan(mode=mode, status=status)


def _may_swap(ask: CapacityAsk) -> bool:
    return ask.replicas > 1 and ask.replicas - 1 >= ask.min_available


# Words


def _sentence(message: str) -> str:
    return message[0].upper() + message[1:]


def _beside(ask: CapacityAsk) -> str:
    if ask.surge_pods <= 0:
        return "the new revision needs no room beside the old one"
    verb = "starts" if ask.surge_pods == 1 else "start"
    return f"{pods_in_words(ask.surge_pods)} {verb} beside the old revision; no old pod stops before new ones are ready"


def _one_by_one(ask: CapacityAsk) -> str:
    what = "its GPUs" if ask.gpus > 1 else "its GPU" if ask.gpus else "its place"
    return f"one old pod after the other gives {what} to a new one; {ask.replicas - 1} of {ask.replicas} keep serving"


def _sacrifice(ask: CapacityAsk) -> str:
    """What the user can give up, in words."""
    gap = "a gap" if ask.gap_seconds is None else f"a gap of about {_words(ask.gap_seconds)}"
    if ask.replicas > 1:
        return (
            f"set spec.serving.minAvailable to {ask.replicas - 1} to swap pods one by one, or spec.rollout.capacity to "
            f"Recreate to allow {gap}"
        )
    return f"set spec.serving.minAvailable to 0 or spec.rollout.capacity to Recreate to allow {gap}"


def _rounded(seconds: float) -> int:
    """Up to 5 s, beyond two minutes to 30 s: pods differ a little, sentences should not."""
    step = 5 if seconds <= _MINUTES_FROM else 30
    return step * math.ceil(max(0.0, seconds) / step)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(_rounded(seconds), 60)
    return f"{minutes}m" * (minutes > 0) + f"{rest}s" * (rest > 0 or minutes == 0)


def _words(seconds: float) -> str:
    minutes, rest = divmod(_rounded(seconds), 60)
    if minutes < _MINUTES_FROM // 60:
        return f"{_rounded(seconds)} s"
    return f"{minutes} min" + f" {rest} s" * (rest > 0)
