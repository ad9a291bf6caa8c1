"""Figures as people read them and as status keeps them. Exact fractions inside, rounded only here. Pure.

Two figures that differ never read the same: as many digits are written as it takes to tell them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from enum import Enum
from fractions import Fraction
from math import isinf

HUGE = Fraction(10**300)
"""Stands for every number that no float holds: an exponent of a user's must not cost memory."""
_DIGITS_UNTIL_EQUAL = 12
_PLAIN = range(-7, 15)
_MINUTE = 60
_HOUR = 60 * _MINUTE


class Unit(Enum):
    """What a figure counts."""

    SHARE = "share"
    MILLISECONDS = "milliseconds"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value. `at_least`: the true one is above it, nobody knows how far."""

    value: Fraction
    at_least: bool = False


def parse_fraction(text: str) -> Fraction:
    """An api.base.Fraction such as `0.05` or `1e-4`, exactly."""
    size = float(text)
    if isinf(size):
        return HUGE
    return Fraction(text) if size else Fraction(0)


def as_milliseconds(time: timedelta) -> Fraction:
    """The length of time in milliseconds, exactly."""
    return Fraction(time // timedelta(microseconds=1), 1000)


def decimal(value: Fraction, digits: int) -> str:
    """The value with so many significant digits, whole numbers in full: `7.1`, `812`, `0.00052`."""
    with localcontext() as context:
        context.prec = digits
        rounded = Decimal(value.numerator) / Decimal(value.denominator)
        if digits <= rounded.adjusted() in _PLAIN:
            return str(round(value))
        short = rounded.normalize()
    return format(short, "f") if not short or short.adjusted() in _PLAIN else str(short).replace("E", "e")


def prose(value: Fraction, unit: Unit, *, more: int = 0) -> str:
    """As a person writes it: `7.1 %`, `12.3 ms`, `1.24 s`. `more` digits than usual."""
    if unit is Unit.SHARE:
        return f"{decimal(value * 100, 2 + more)} %"
    if unit is Unit.NUMBER:
        return decimal(value, 3 + more)
    return f"{decimal(value / 1000, 3 + more)} s" if abs(value) >= 1000 else f"{decimal(value, 3 + more)} ms"  # noqa: PLR2004


def notation(figure: Figure, unit: Unit) -> str:
    """As spec writes it, for status: `0.0714`, `12.3ms`; one that is known to be larger than it says as `>5000ms`."""
    suffix = "ms" if unit is Unit.MILLISECONDS else ""
    return f"{'>' if figure.at_least else ''}{decimal(figure.value, 4)}{suffix}"


def tell_apart(one: Fraction, other: Fraction, unit: Unit) -> tuple[str, str]:
    """Both in prose, with more digits than usual where they would read the same."""
    return _until_different(lambda more: (prose(one, unit, more=more), prose(other, unit, more=more)), one == other)


def span(time: timedelta) -> str:
    """A length of time as a person writes it: `60 s`, `5 min`, `1 h 30 min`."""
    seconds = Fraction(time // timedelta(microseconds=1), 1_000_000)
    if seconds < 1:
        return f"{decimal(seconds * 1000, 3)} ms"
    if seconds < 2 * _MINUTE:
        return f"{decimal(seconds, 3)} s"
    whole = round(seconds)
    parts = ((whole // _HOUR, "h"), (whole % _HOUR // _MINUTE, "min"), (whole % _MINUTE, "s"))
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount)


def counted(number: int, noun: str) -> str:
    """`1 request`, `812 requests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _until_different(write: Callable[[int], tuple[str, str]], same: bool) -> tuple[str, str]:  # noqa: FBT001
    texts = write(0)
    for more in range(1, _DIGITS_UNTIL_EQUAL):
        if same or texts[0] != texts[1]:
            break
        texts = write(more)
    return texts
