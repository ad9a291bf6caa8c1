"""What every line of a view is made of. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How good something is."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One line of the tree and what hangs below it."""

    title: str
    state: str = ""
    health: Health = Health.PLAIN
    detail: str = ""
    children: tuple["Node", ...] = ()
