"""Axes: where a value lies on paper, and which values are worth a line. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_DECADE = (1, 2, 5)
_FEW = 3
_MANY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values from `low` to `high` onto `start` to `end`; `is_log` needs positive values."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where the value lies; what is outside lies on the edge."""
        low, high, found = (math.log10(v) for v in (self.low, self.high, max(value, 1e-300))) if self.is_log else (
            self.low, self.high, value
        )  # fmt: skip
        share = (found - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 2)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """(place, label) of each line, a handful."""
        values = _log_ticks(self.low, self.high) if self.is_log else _linear_ticks(self.low, self.high)
        return tuple((self.at(v), short(v)) for v in values)


def linear(values: Iterable[float], *, start: float, end: float, zero: bool = True) -> Scale:
    """A scale that holds all values and ends on a round number; from zero unless said otherwise."""
    found = [v for v in values if math.isfinite(v)] or [1.0]
    low, high = (0.0 if zero else min(found)), max(found)
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _step(low, high)
    return Scale(low=math.floor(low / step) * step, high=math.ceil(high / step) * step, start=start, end=end)


def logarithmic(values: Iterable[float], *, start: float, end: float) -> Scale:
    """A scale over at least one decade that holds all positive values."""
    found = [v for v in values if 0 < v < math.inf] or [1.0]
    low, high = min(found) / 1.15, max(found) * 1.15
    if high / low < 10:  # noqa: PLR2004
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(10), middle * math.sqrt(10)
    return Scale(low=low, high=high, start=start, end=end, is_log=True)


def short(value: float) -> str:
    """A number for a label: 0.05, 12, 1.5k, 3e-07."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e6:  # noqa: PLR2004
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:  # noqa: PLR2004
        return f"{value / 1e3:.3g}k"
    if abs(value) < 1e-3:  # noqa: PLR2004
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:.4g}"


def _step(low: float, high: float) -> float:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in _NICE if n * power >= rough * 0.999)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    count = round((high - low) / step)
    return [round(low + i * step, 12) for i in range(count + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**p for p in powers if low <= 10.0**p <= high]
    if len(decades) >= _FEW:
        return decades[:: math.ceil(len(decades) / _MANY)]
    return [n * 10.0**p for p in powers for n in _DECADE if low <= n * 10.0**p <= high]
