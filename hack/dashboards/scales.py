"""A number in Grafana's units as a person reads it."""

from dashboards.panels import Unit

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))
_SUFFIX = {Unit.REQUESTS: " req/s", Unit.PER_SECOND: "/s", Unit.TIMES: "×", Unit.CORES: " cores", Unit.WATTS: " W"}  # noqa: RUF001


def show(value: float, unit: str) -> str:
    """With three digits and the unit."""
    if unit == Unit.SHARE:
        return f"{_short(value * 100)} %"
    if unit == Unit.SECONDS:
        return next((f"{_short(value / size)}{name}" for size, name in _SECONDS if abs(value) >= size), "0 s")
    if unit == Unit.BYTES:
        return next((f"{_short(value / size)} {name}B" for size, name in _STEPS if abs(value) >= size), "0 B")
    return f"{_short(value)}{_SUFFIX.get(Unit(unit), '')}"


def _short(value: float) -> str:
    if value and abs(value) < 1e-2:  # noqa: PLR2004 - what three digits show
        return f"{value:.0e}"
    return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"  # noqa: PLR2004 - no exponent below millions
