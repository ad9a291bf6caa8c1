"""Figures as people read them."""

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.health.figures import (
    HUGE,
    Figure,
    Unit,
    as_milliseconds,
    counted,
    decimal,
    notation,
    parse_fraction,
    prose,
    span,
    tell_apart,
)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (Fraction(58, 812), 2, "0.071"),
        (Fraction(812), 2, "812"),
        (Fraction(10), 2, "10"),
        (Fraction(100), 3, "100"),
        (Fraction(9995, 10), 3, "1000"),
        (Fraction(123456789), 3, "123456789"),
        (Fraction(-87, 10), 3, "-8.7"),
        (Fraction(0), 3, "0"),
        (Fraction(1, 10**7), 2, "0.0000001"),
        (Fraction(1, 10**8), 2, "1e-8"),
        (Fraction(10**14), 2, "100000000000000"),
        (Fraction(10**15), 2, "1e+15"),
    ],
)
def test_decimal(value, digits, text):
    assert decimal(value, digits) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (Fraction(58, 812), Unit.SHARE, "7.1 %"),
        (Fraction(1), Unit.SHARE, "100 %"),
        (Fraction(123, 10), Unit.MILLISECONDS, "12.3 ms"),
        (Fraction(999), Unit.MILLISECONDS, "999 ms"),
        (Fraction(1000), Unit.MILLISECONDS, "1 s"),
        (Fraction(1239), Unit.MILLISECONDS, "1.24 s"),
        (Fraction(12345, 10000), Unit.NUMBER, "1.23"),
    ],
)
def test_prose(value, unit, text):
    assert prose(value, unit) == text


def test_figures_that_differ_never_read_the_same():
    assert tell_apart(Fraction(50004, 1_000_000), Fraction(5, 100), Unit.SHARE) == ("5.0004 %", "5 %")
    assert tell_apart(Fraction(5, 100), Fraction(5, 100), Unit.SHARE) == ("5 %", "5 %")
    assert tell_apart(Fraction(9999, 1000), Fraction(10), Unit.MILLISECONDS) == ("9.999 ms", "10 ms")


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (timedelta(), "0 ms"),
        (timedelta(milliseconds=500), "500 ms"),
        (timedelta(seconds=1), "1 s"),
        (timedelta(seconds=7.5), "7.5 s"),
        (timedelta(minutes=1), "60 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(seconds=150), "2 min 30 s"),
        (timedelta(minutes=30), "30 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=1, minutes=30), "1 h 30 min"),
        (timedelta(hours=168), "168 h"),
    ],
)
def test_span(time, text):
    assert span(time) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.05", Fraction(1, 20)),
        ("1e-4", Fraction(1, 10_000)),
        ("0", Fraction(0)),
        ("1e999999999", HUGE),
        ("1e-999999999", Fraction(0)),
    ],
)
def test_an_exponent_of_a_users_costs_nothing(text, value):
    assert parse_fraction(text) == value


def test_notation_is_that_of_the_spec():
    assert notation(Figure(value=Fraction(58, 812)), Unit.SHARE) == "0.07143"
    assert notation(Figure(value=Fraction(123, 10)), Unit.MILLISECONDS) == "12.3ms"
    assert notation(Figure(value=Fraction(5000), at_least=True), Unit.MILLISECONDS) == ">5000ms"
    assert as_milliseconds(timedelta(microseconds=1500)) == Fraction(3, 2)
    assert (counted(1, "request"), counted(0, "request")) == ("1 request", "0 requests")


@given(st.fractions(), st.fractions(), st.sampled_from(Unit))
def test_any_figure_can_be_written(one, other, unit):
    texts = tell_apart(one, other, unit)
    assert all(len(text) < 400 for text in texts)
    assert texts[0] == texts[1] or one != other
    assert notation(Figure(value=one), unit)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.123456, "123 ms"), (0.5, "500 ms"), (0.9996, "1000 ms"), (12.3456, "12.3 s"), (119.4, "119 s")],
)
def test_short_spans_have_three_digits(seconds, said):
    assert span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("one", "other", "unit", "said"),
    [
        ("1.0001", "1", Unit.NUMBER, ("1.0001", "1")),
        ("1000.1", "1000", Unit.MILLISECONDS, ("1.0001 s", "1 s")),
        ("10.001", "10", Unit.MILLISECONDS, ("10.001 ms", "10 ms")),
        ("12.34", "12.31", Unit.MILLISECONDS, ("12.34 ms", "12.31 ms")),
        ("12.34", "12.34", Unit.MILLISECONDS, ("12.3 ms", "12.3 ms")),
    ],
)
def test_as_many_digits_as_it_takes(one, other, unit, said):
    assert tell_apart(Fraction(one), Fraction(other), unit) == said
