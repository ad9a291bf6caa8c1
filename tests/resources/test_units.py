from datetime import timedelta
from decimal import Decimal

import pytest

from pilotfish.api.base import parse_duration
from pilotfish.resources.units import parse_quantity, whole_cores, whole_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("15s", timedelta(seconds=15)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5m", timedelta(seconds=90)),
    ],
)
def test_durations(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "15", "s", "15 s", "-1s", "1d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration: "):
        parse_duration(text)


def test_seconds_are_rounded_up_to_at_least_one():
    assert [whole_seconds(text) for text in ("1ms", "1s", "1001ms", "10m")] == [1, 1, 2, 600]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", Decimal("0.5")),
        ("2", Decimal(2)),
        ("1Ki", Decimal(1024)),
        ("1k", Decimal(1000)),
        ("0.5Gi", Decimal(2**29)),
        ("x", None),
        ("1 Gi", None),
    ],
)
def test_quantities(text, expected):
    assert parse_quantity(text) == expected


def test_cores_are_rounded_up():
    assert [whole_cores(cpu) for cpu in ("100m", "1", "1500m", "2", "0")] == [1, 1, 2, 2, 1]
