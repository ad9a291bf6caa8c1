"""The edits of every field: all of them, and the few that are tried each time."""

from collections.abc import Iterable
from typing import Any

from support.fuzz.admission import admit, is_taken
from support.fuzz.bases import base_of
from support.fuzz.leaves import Leaf, get_at
from support.fuzz.rounds import make_edit
from support.fuzz.values import Kind, Value, values_of

Edit = tuple[Value, dict[str, Any]]


def edits(leaf: Leaf) -> tuple[dict[str, Any], list[Edit]]:
    """The base, and each value with the spec that it makes of it."""
    _, base = base_of(leaf)
    current = get_at(admit(base), leaf.path)
    return base, [(value, make_edit(base, leaf, value)) for value in values_of(leaf, current)]


def few(made: Iterable[Edit]) -> list[Edit]:
    """One of each kind, those first that are taken."""
    chosen: dict[Kind, Edit] = {}
    for value, edited in sorted(made, key=lambda edit: not is_taken(edit[1])):
        chosen.setdefault(value.kind, (value, edited))
    return list(chosen.values())
