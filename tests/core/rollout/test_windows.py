"""When traffic may move: windows by cron in a time zone, through clock changes, never an error."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.api.rollout import MaintenanceWindow
from pilotfish.core.rollout.windows import MAX_JOINS, WindowState, explain_window, window_state


def _window(schedule, duration="1h", zone="UTC"):
    return MaintenanceWindow.model_construct(schedule=schedule, duration=duration, time_zone=zone)  # not checked


def _at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _state(now, *windows):
    return window_state(windows, _at(now))


SATURDAY = _window("0 2 * * 6", "4h")


def test_no_windows_are_always_open():
    assert window_state((), _at("2026-11-22")) == WindowState(open=True)


@pytest.mark.parametrize(
    ("now", "state"),
    [
        ("2026-11-21T01:59:59.999999", WindowState(open=False, opens_at=_at("2026-11-21T02:00"))),
        ("2026-11-21T02:00:00", WindowState(open=True, closes_at=_at("2026-11-21T06:00"))),
        ("2026-11-21T05:59:59.999999", WindowState(open=True, closes_at=_at("2026-11-21T06:00"))),
        ("2026-11-21T06:00:00", WindowState(open=False, opens_at=_at("2026-11-28T02:00"))),
    ],
)
def test_a_window_has_its_start_and_not_its_end(now, state):
    assert _state(now, SATURDAY) == state


@pytest.mark.parametrize(
    ("what", "now", "window", "opens", "closes"),
    [
        # Berlin, 2026-03-29: 02:00 CET is 03:00 CEST, 01:00 UTC.
        ("before a skipped start", "2026-03-29T00:59:59", "30 2 * * *", "2026-03-29T01:00", None),
        ("a skipped start comes right after", "2026-03-29T01:00", "30 2 * * *", None, "2026-03-29T02:00"),
        ("and ends after its own length", "2026-03-29T02:00", "30 2 * * *", "2026-03-30T00:30", None),
        # Berlin, 2026-10-25: 03:00 CEST is 02:00 CET, 01:00 UTC.
        ("a repeated start, first pass", "2026-10-25T00:30", "30 2 * * *", None, "2026-10-25T01:30"),
        ("second pass, earlier on the wall", "2026-10-25T01:10", "30 2 * * *", None, "2026-10-25T01:30"),
        ("once only", "2026-10-25T01:30", "30 2 * * *", "2026-10-26T01:30", None),
        ("the start after a repeated hour", "2026-10-25T01:59:59", "0 3 * * *", "2026-10-25T02:00", None),
    ],
)
def test_clock_changes(what, now, window, opens, closes):
    state = _state(now, _window(window, "1h", "Europe/Berlin"))
    assert state == WindowState(
        open=closes is not None,
        opens_at=opens and _at(opens),
        closes_at=closes and _at(closes),
    )


def test_several_starts_in_a_repeated_hour():
    berlin = _window("10,50 2 * * *", "2h", "Europe/Berlin")
    assert _state("2026-10-25T01:05", berlin).closes_at == _at("2026-10-25T02:50")


def test_half_an_hour_is_repeated_on_lord_howe():
    island = _window("* 0 * * 0", "4h", "Australia/Lord_Howe")
    assert _state("2018-10-06T20:48:00.5", _window("* 0 * * 0", "17h", "Australia/Lord_Howe")).open
    assert _state("2018-10-06T14:00", island).closes_at == _at("2018-10-06T18:29")


def test_a_window_keeps_its_length_through_a_clock_change():
    berlin = _window("0 1 * * 0", "4h", "Europe/Berlin")
    assert _state("2026-03-29T00:30", berlin).closes_at == _at("2026-03-29T04:00")
    assert _state("2026-10-25T00:30", berlin).closes_at == _at("2026-10-25T03:00")


def test_windows_that_follow_each_other_are_one():
    state = _state("2026-11-22T03:00", _window("0 2 * * *", "2h"), _window("0 4 * * *", "2h"))
    assert state == WindowState(open=True, closes_at=_at("2026-11-22T06:00"))


def test_the_longest_of_overlapping_windows_decides():
    state = _state("2026-11-22T03:00", _window("0 2 * * *", "6h"), _window("0 3 * * *", "1h"))
    assert state == WindowState(open=True, closes_at=_at("2026-11-22T08:00"))


def test_the_next_of_several_opens():
    state = _state("2026-11-22T12:00", SATURDAY, _window("0 20 * * *"), _window("0 23 * * *"))
    assert state == WindowState(open=False, opens_at=_at("2026-11-22T20:00"))


@pytest.mark.parametrize(
    "window", [_window("* * * * *", "1m"), _window("0 2 * * *", "25h"), _window("0 * * * *", "1h")]
)
def test_longer_than_the_period_never_closes(window):
    assert _state("2026-11-22T12:34:56", window) == WindowState(open=True)


def test_a_day_of_25_hours_leaves_a_gap_in_a_window_of_24():
    # In summer, days follow each other up to the night on which the clock goes back.
    state = _state("2026-09-01T12:00", _window("30 3 * * *", "24h", "Europe/Berlin"))
    assert state == WindowState(open=True, closes_at=_at("2026-10-25T01:30"))
    assert (state.closes_at - _at("2026-09-01")).days < MAX_JOINS


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (_window("0 2 30 2 *"), 'schedule "0 2 30 2 *" has a wrong day-of-month'),
        (_window("0 2 LW * */6"), 'schedule "0 2 LW * */6" never begins; write a date that exists'),
        (_window("0 24 * * *"), 'schedule "0 24 * * *" has a wrong hour; write five fields such as "0 2 * * 6"'),
        (_window("0 5-3 * * *"), "wrong hour"),
        (_window("0 2 * *"), "has not five fields; write five"),
        (_window("0 0 2 * * 6"), "has not five fields; write five"),
        (_window(""), "has not five fields; write five"),
        (_window("0 2 * * 6", "8785h"), 'duration "8785h" is too long; write at most 168h'),
        (_window("0 2 * * 6", "9" * 31 + "h"), "is too long"),
        (_window("0 2 * * 6", zone="Europe/Atlantis"), 'time zone "Europe/Atlantis" is not known; write an IANA name'),
        (_window("0 2 * * 6", zone="Europe"), "is not known"),
        (_window("0 2 * * 6", zone="../etc/passwd"), "is not known"),
        (_window("0 2 * * 6", zone=""), "is not known"),
    ],
)
def test_what_can_never_open_is_closed_and_says_why(window, says):
    state = _state("2026-11-22T12:00", window)
    assert (state.open, state.opens_at, state.closes_at) == (False, None, None)
    assert says in state.message
    assert state.message == f"maintenance window 1: {explain_window(window)}"


def test_a_wrong_window_leaves_the_others_alone():
    wrong = _window("0 2 30 2 *")
    state = _state("2026-11-21T03:00", wrong, SATURDAY, wrong)
    assert state.open
    assert state.closes_at == _at("2026-11-21T06:00")
    assert state.message.count("maintenance window") == 2
    assert "maintenance window 3: " in state.message


@pytest.mark.parametrize("window", [SATURDAY, _window("0 2 * * 6", "8784h")])
def test_a_good_window_has_nothing_to_explain(window):
    assert explain_window(window) is None


TOKENS = st.sampled_from(
    ["*", "0", "7", "30", "31", "*/15", "1-5", "5-1", "L", "LW", "5L", "1#2", "SAT", "feb", "9/", "²"]
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Mars/Base"])
WINDOWS = st.builds(
    _window,
    st.lists(TOKENS, min_size=5, max_size=5).map(" ".join) | st.text(max_size=12),
    st.sampled_from(["0s", "1m", "4h", "24h", "168h", "99999999h"]),
    ZONES,
)


@given(st.lists(WINDOWS, max_size=2), st.integers(0, 40 * 366 * 24 * 3600))
def test_total_and_consistent(windows, seconds):
    now = _at("2000-01-01") + timedelta(seconds=seconds)
    state = window_state(tuple(windows), now)
    assert state.open or state.closes_at is None
    assert not (state.open and state.opens_at is not None)
    if state.closes_at is not None:
        assert state.closes_at > now
        assert not window_state(tuple(windows), state.closes_at).open
        assert window_state(tuple(windows), state.closes_at - timedelta(microseconds=1)).open
    if state.opens_at is not None:
        assert state.opens_at > now
        assert not window_state(tuple(windows), state.opens_at - timedelta(microseconds=1)).open
        # A window of no length opens and is over.
        assert window_state(tuple(windows), state.opens_at).open or any(w.duration == "0s" for w in windows)
