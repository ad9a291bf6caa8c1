"""What goes wrong, when: a plan that a file or a seed gives back exactly. Knows nothing of sockets.

A fault counts the requests (or the events of a stream) that it is about and acts from the `nth` on, `times` times. Of
several faults that a request meets, the first of the plan acts; all of them count it.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
FOR_EVER = 0


class On(StrEnum):
    """What a fault is about. The Lease is met only by a fault that names its kind."""

    WRITE = "write"
    READ = "read"  # get and list, not the lists and streams that only wake the operator
    LIST = "list"  # every list, those of the watches too
    WATCH = "watch"  # the request that opens a stream
    EVENT = "event"  # what a stream delivers, bookmarks left out
    ANY = "any"  # every request


class Act(StrEnum):
    """What happens then."""

    CRASH_BEFORE = "crash-before"  # the operator dies, the request never arrives
    CRASH_AFTER = "crash-after"  # the request is carried out, the operator dies before the answer
    LOSE_ANSWER = "lose-answer"  # the request is carried out, the connection breaks before the answer
    RESET = "reset"  # the connection breaks, the request never arrives
    ANSWER = "answer"  # the proxy answers `code` itself
    DELAY = "delay"  # it is passed on after `seconds`
    BLACK_HOLE = "black-hole"  # nothing comes back, for `seconds` or for ever; on an event: the stream falls silent
    TRUNCATE = "truncate"  # the answer, or the event, breaks off in its middle
    FREEZE = "freeze"  # the view as it was `back` changes before the first one; all the way with EVERYTHING
    DROP = "drop"  # the event is not delivered
    DOUBLE = "double"  # the event is delivered twice
    SAY = "say"  # the stream says ERROR with `code` instead of the event


CRASHES = frozenset({Act.CRASH_BEFORE, Act.CRASH_AFTER})
EVERYTHING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One line of a plan. `kind`, `name`, `verb` and `type` narrow it down; empty means any."""

    act: Act
    on: On = On.WRITE
    kind: str = ""
    name: str = ""
    verb: str = ""
    """HTTP method."""
    type: str = ""
    """Of an event: ADDED, MODIFIED, DELETED."""
    nth: int = 1
    times: int = 1
    """FOR_EVER: from the nth on always."""
    code: int = 0
    retry_after: int = 0
    seconds: float = 0.0
    back: int = 0

    def __str__(self) -> str:
        told = {key: value for key, value in asdict(self).items() if value and key not in {"act", "on"}}
        return f"{self.act.value} on {self.on.value} {told}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults in their order, and the seed that drew them."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @property
    def crashes(self) -> int:
        """How often the operator dies at most."""
        return sum(fault.act in CRASHES for fault in self.faults)

    def to_json(self) -> str:
        """One line."""
        faults = [
            {k: v for k, v in asdict(fault).items() if v != Fault.__dataclass_fields__[k].default}
            for fault in self.faults
        ]
        return json.dumps({"seed": self.seed, "faults": faults})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """What to_json wrote. Raises ValueError or TypeError for anything else."""
        told = json.loads(text)
        faults = tuple(
            Fault(**{**line, "act": Act(line["act"]), "on": On(line.get("on", On.WRITE))}) for line in told["faults"]
        )
        return cls(faults, seed=int(told.get("seed", 0)))

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """The plan that a file holds."""
        return cls.from_json(path.read_text())


NONE = Plan()


@dataclass(slots=True)
class Counted:
    """A plan as it is carried out: how often each fault was met. Outlives the operator's deaths."""

    plan: Plan = NONE
    met: list[int] = field(default_factory=list)
    acted: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.met = [0] * len(self.plan.faults)

    def set(self, plan: Plan) -> None:
        """From now on this plan; its faults begin to count."""
        self.plan, self.met = plan, [0] * len(plan.faults)

    def meet(self, on: Sequence[On], *, kind: str, name: str, verb: str = "", type: str = "") -> Fault | None:  # noqa: A002 - the API's word
        """A request or event comes by: which fault acts on it, if any."""
        found = None
        for number, fault in enumerate(self.plan.faults):
            if fault.on not in on or not _is_about(fault, kind=kind, name=name, verb=verb, event=type):
                continue
            self.met[number] += 1
            over = fault.times != FOR_EVER and self.met[number] >= fault.nth + fault.times
            if found is None and self.met[number] >= fault.nth and not over:
                found = fault
        if found is not None:
            self.acted.append(found)
        return found

    @property
    def has_acted(self) -> bool:
        """Whether every fault of the plan came to act."""
        return all(met >= fault.nth for met, fault in zip(self.met, self.plan.faults, strict=True))


def _is_about(fault: Fault, *, kind: str, name: str, verb: str, event: str) -> bool:
    if kind == "Lease" and fault.kind != "Lease":
        return False
    pairs = ((fault.kind, kind), (fault.name, name), (fault.verb, verb), (fault.type, event))
    return all(wanted in {"", given} for wanted, given in pairs)


def crash_plans(
    writes: int, *, acts: Sequence[Act] = (Act.CRASH_BEFORE, Act.CRASH_AFTER, Act.LOSE_ANSWER)
) -> list[Plan]:
    """One plan for each of the first `writes` writes and each act."""
    return [Plan((Fault(act=act, nth=nth),)) for nth in range(1, writes + 1) for act in acts]


def draw(things: Sequence[T], count: int, *, seed: int) -> list[T]:
    """So many of them, the same for the same seed."""
    return random.Random(seed).sample(list(things), min(count, len(things)))


def as_status(code: int, *, retry_after: int = 0) -> dict[str, Any]:
    """The body that an API server sends with a failure."""
    reasons = {403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 429: "TooManyRequests"}
    reason = reasons.get(code, "InternalError" if code == 500 else "ServiceUnavailable")
    details = {"retryAfterSeconds": retry_after} if retry_after else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"injected {code}",
        "reason": reason,
        "details": details,
        "code": code,
    }
