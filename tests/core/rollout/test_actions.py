"""What an action means where the rollout stands: carried out once, refused with a sentence, or nothing new."""

from dataclasses import replace

import pytest

from pilotfish.api.rollout import Action
from pilotfish.api.rollout_status import RolloutStatus, UndoStatus
from pilotfish.core.rollout.actions import Orders, Situation, read_orders

MOVING = Situation(spec="newrev", stable="oldrev", known=("oldrev", "newrev", "elder"), failed=False)
ARRIVED = replace(MOVING, stable="newrev")
FAILED = replace(MOVING, failed=True)
UNDO = UndoStatus(to_revision="oldrev", from_revision="newrev")


def order(verb, at=MOVING, *, stored=None, to=None):
    return read_orders(Action(id="7", verb=verb, to_revision=to), stored, at)


def test_without_an_action_what_was_said_last_stands():
    stored = RolloutStatus(last_action_id="6", action_message="retry: the revision starts again")
    assert read_orders(None, stored, MOVING) == Orders(id="6", message="retry: the revision starts again")
    assert read_orders(None, None, MOVING) == Orders()


def test_an_action_is_carried_out_once():
    stored = RolloutStatus(last_action_id="7", action_message="done")
    for verb in ("promote", "promoteFull", "abort", "retry"):
        assert order(verb, stored=stored) == Orders(id="7", message="done")


@pytest.mark.parametrize(
    ("verb", "at", "expected"),
    [
        ("promote", MOVING, Orders(message="promote: the revision goes on to the next step", promotion="Step")),
        (
            "promoteFull",
            MOVING,
            Orders(message="promoteFull: the revision goes to all of the traffic", promotion="Full"),
        ),
        ("abort", MOVING, Orders(message="abort: the revision is given up, revision oldrev keeps serving", abort=True)),
        ("abort", replace(MOVING, stable=None), Orders(message="abort: the revision is given up", abort=True)),
        ("retry", FAILED, Orders(message="retry: the revision starts again", retry=True)),
    ],
)
def test_what_each_verb_orders(verb, at, expected):
    assert order(verb, at) == replace(expected, id="7")
    standing = RolloutStatus(undo=UNDO)
    elsewhere = replace(at, stable=at.stable and "elder")
    told = replace(expected, message=expected.message.replace("oldrev", "elder"))
    assert order(verb, elsewhere, stored=standing) == replace(told, id="7", undo=UNDO)


@pytest.mark.parametrize("at", [ARRIVED, FAILED])
@pytest.mark.parametrize(("verb", "done"), [("promote", "promote"), ("promoteFull", "promote"), ("abort", "abort")])
def test_with_nothing_on_its_way_there_is_nothing_to_move(verb, done, at):
    assert order(verb, at) == Orders(id="7", message=f"{verb}: nothing is on its way, so there was nothing to {done}")


def test_without_a_failure_there_is_nothing_to_retry():
    assert order("retry") == Orders(id="7", message="retry: nothing has failed, so there was nothing to retry")


def test_used_up_or_not_the_standing_undo_stays():
    at = replace(MOVING, stable="oldrev")
    stored = RolloutStatus(undo=UNDO)
    for verb in ("promote", "abort", "retry"):
        found = order(verb, at, stored=stored)
        assert found.undo == UNDO, "what the undo leads to serves already"
        assert not found.abort
        assert found.promotion is None


def test_undo_to_a_revision_that_is_known():
    assert order("undo", to="oldrev") == Orders(
        id="7", message="undo: revision oldrev is served until the spec changes", undo=UNDO
    )
    assert order("undo", to="elder", stored=RolloutStatus(undo=UNDO)).undo == UndoStatus(
        to_revision="elder", from_revision="newrev"
    )


def test_undo_to_what_the_spec_describes_ends_an_undo():
    found = order("undo", replace(MOVING, known=()), to="newrev", stored=RolloutStatus(undo=UNDO))
    assert found == Orders(id="7", message="undo: revision newrev is what the spec describes")


def test_undo_to_a_revision_that_is_not_known_names_those_that_are():
    stored = RolloutStatus(undo=UNDO)
    assert order("undo", to="gone", stored=stored) == Orders(
        id="7", message="undo: revision gone is not known any more (known: elder, newrev, oldrev)", undo=UNDO
    )
    assert order("undo", replace(MOVING, known=()), to="gone") == Orders(
        id="7", message="undo: revision gone is not known any more (known: none)"
    )


@pytest.mark.parametrize(
    "at",
    [replace(MOVING, spec="another"), replace(MOVING, known=("newrev", "elder"))],
    ids=["the spec changed", "its record is gone"],
)
def test_an_undo_ends_where_it_means_nothing_any_more(at):
    assert read_orders(None, RolloutStatus(undo=UNDO), at) == Orders()
    assert read_orders(None, RolloutStatus(undo=UNDO), MOVING) == Orders(undo=UNDO)
