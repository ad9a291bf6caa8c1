"""P12: every field of the CRD's schema is set to other values and back; nothing is left over, nothing is restarted for it.

`make test` takes one value of each kind for every third field, `make soak` every value of every field.
"""

import pytest

from support.fuzz.admission import is_taken
from support.fuzz.edits import edits, few
from support.fuzz.leaves import leaves
from support.fuzz.rounds import Rounds
from support.fuzz.values import Kind

LEAVES = leaves()
FAST = LEAVES[::3]


def there_and_back(base, made):
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


@pytest.mark.parametrize("leaf", FAST, ids=lambda leaf: leaf.path)
def test_there_and_back(leaf):
    base, made = edits(leaf)
    there_and_back(base, few(made))


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in FAST], ids=lambda leaf: leaf.path)
def test_the_same_in_other_words(leaf):
    """Spelt otherwise it is no edit: no pod is restarted."""
    base, made = edits(leaf)
    if equal := [edit for edit in made if edit[0].kind is Kind.EQUAL]:
        there_and_back(base, equal)


@pytest.mark.soak
@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_there_and_back_with_every_value(leaf):
    there_and_back(*edits(leaf))
