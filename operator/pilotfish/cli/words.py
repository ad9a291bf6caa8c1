"""Times in a word. Pure."""

from datetime import datetime, timedelta


def age_of(moment: str, now: datetime) -> str:
    """How long ago, in the largest unit of which two fit: `90s`, `5m`, `3h`, `2d`. The future is `0s`."""
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def span(length: timedelta) -> str:
    """A length of time as one writes it in a spec: `45s`, `1m30s`, `2h`. Fractions of a second are cut."""
    minutes, seconds = divmod(max(0, int(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"
