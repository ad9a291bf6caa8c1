"""What the last pass left of one ModelDeployment, and how its figures are read. Reads only; judges nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish.core.objects import controller_uid

Body = Mapping[str, Any]
Row = tuple[tuple[str, ...], float]
"""Label values behind namespace and name, and the value."""

STABLE, CANARY, OLD = "stable", "canary", "old"
"""Roles of a revision: it has the traffic, it is on its way, it is leaving."""

SHOWN = frozenset({"ControllerRevision", "Deployment"})
"""Kinds of children that the gauges read; a state holds no others, since it holds them as long as the object lives."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectState:
    """What the last pass saw and stored of one ModelDeployment. `objects`: children, only those in SHOWN."""

    namespace: str
    name: str
    uid: str
    spec: Body
    status: Body
    objects: tuple[Body, ...] = ()


def phase_of(state: ObjectState) -> str:
    """status.phase, empty before there is one."""
    return str(state.status.get("phase") or "")


def strategy_of(state: ObjectState) -> str:
    """spec.rollout.strategy."""
    return str((state.spec.get("rollout") or {}).get("strategy") or "")


def rollout_of(state: ObjectState) -> Body:
    """status.rollout."""
    return state.status.get("rollout") or {}


def checks_of(state: ObjectState) -> Iterable[Body]:
    """Nothing once the rollout is over: its last verdict would stay for ever."""
    if not state.status.get("candidateRevision"):
        return ()
    return (rollout_of(state).get("analysis") or {}).get("checks") or ()


def roles_of(state: ObjectState) -> Iterator[tuple[str, Body]]:
    """Stable and canary, as far as there are any, as status has them."""
    for role, key in ((STABLE, "stableRevision"), (CANARY, "candidateRevision")):
        revision = state.status.get(key)
        if revision:
            yield role, revision


def children_of(state: ObjectState, kind: str) -> Iterator[Body]:
    """Its own children; strangers may carry our labels."""
    return (body for body in state.objects if body["kind"] == kind and controller_uid(body) == state.uid)


def moments(*times: str | None) -> Iterator[Row]:
    """The latest of RFC 3339 times, in seconds since 1970."""
    known = [datetime.fromisoformat(time).timestamp() for time in times if time]
    if known:
        yield (), max(known)


def figure(text: object) -> float | None:
    """A figure as status writes it, in base units: `0.07`, `12.3ms`, `>5000ms`; None where there is none."""
    word = str(text if text is not None else "").removeprefix(">")
    scale = 1000.0 if word.endswith("ms") else 1.0
    try:
        return float(word.removesuffix("ms")) / scale
    except ValueError:
        return None
