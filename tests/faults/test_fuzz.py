"""P12: every field of the CRD's schema is set to other values and back; nothing is left over, nothing is restarted for it.

PILOTFISH_VALUES=all tries every value of a field in the small world; without it a few of each kind.
"""

import pytest

from support.fuzz.admission import RefusedError, admit
from support.fuzz.bases import base_of
from support.fuzz.leaves import get_at, leaves
from support.fuzz.rounds import Rounds, make_edit
from support.fuzz.values import Kind, values_of

LEAVES = leaves()


def edits(leaf):
    """Base, and each value with the spec that it makes."""
    _, base = base_of(leaf)
    current = get_at(admit(base), leaf.path)
    return base, [(value, make_edit(base, leaf, value)) for value in values_of(leaf, current)]


def is_taken(edited, **over):
    try:
        admit(edited, **over)
    except RefusedError:
        return False
    return True


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_every_field_has_values_of_each_kind(leaf):
    """A new field that the generators know nothing good or nothing bad of gets its values in support/fuzz/values.py."""
    _, made = edits(leaf)
    assert len(made) >= 3
    taken = {value.kind for value, edited in made if is_taken(edited)}
    refused = {value.kind for value, edited in made if not is_taken(edited)}
    assert Kind.INVALID not in taken, [v.value for v, e in made if v.kind is Kind.INVALID and is_taken(e)]
    assert Kind.INVALID in refused
    if leaf.refused:
        assert not taken, f"{leaf.path} is not available, and yet {taken} are taken"
    else:
        assert taken, f"{leaf.path} has no value that is taken"


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_there_and_back(leaf):
    base, made = edits(leaf)
    rounds = Rounds(base)
    for value, edited in made:
        try:
            rounds.edit(edited, value.kind)
            rounds.back()
        except AssertionError as error:
            story = "\n".join(rounds.world.story[-30:])
            raise AssertionError(
                f"{value.kind} {str(value.value)[:200]!r} {dict(value.also)}: {error}\n{story}"
            ) from error
