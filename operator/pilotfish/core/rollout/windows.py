"""Maintenance windows: whether one is open at a moment, when the next one opens, when this one closes.

Pure and total: a window that cannot be understood stays closed, with a sentence; nothing here raises. Times of day that
a clock change skips or repeats follow Debian's cron: a start in a skipped hour comes right after it, one in a repeated
hour comes once; schedules with `*` in the minute or the hour go by elapsed time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pilotfish.api.base import parse_duration
from pilotfish.api.rollout import MaintenanceWindow

MAX_JOINS = 400
"""Windows without a gap between them that are followed to their common end: more than a year of daily ones."""

_FIELDS = 5
_LONGEST = timedelta(days=366)
_SECOND = timedelta(seconds=1)
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowState:
    """Whether traffic may move to a new revision now."""

    open: bool
    opens_at: datetime | None = None
    """When the next window opens, in UTC; None while one is open, and when none ever will."""
    closes_at: datetime | None = None
    """When the open windows end, in UTC; None while none is open, and when they follow each other without an end in
    sight."""
    message: str | None = None
    """What is wrong with the windows that never open; None when all is well."""


def window_state(windows: tuple[MaintenanceWindow, ...], now: datetime) -> WindowState:
    """Where `now` (with a time zone) lies. A window is open from a start, included, to start + duration, excluded.

    Without windows it is always open. Windows that cannot be used do not count; when none is left it is closed.
    """
    if not windows:
        return WindowState(open=True)
    read = [_read(window) for window in windows]
    usable = [window for window in read if isinstance(window, _Window)]
    wrong = [f"maintenance window {place}: {told}" for place, told in enumerate(read, 1) if isinstance(told, str)]
    message = "; ".join(wrong) or None
    if ends := [end for window in usable if (end := window.open_until(now)) is not None]:
        return WindowState(open=True, closes_at=_follow(usable, max(ends)), message=message)
    starts = [start for window in usable if (start := window.first_start_after(now)) is not None]
    return WindowState(open=False, opens_at=min(starts, default=None), message=message)


def explain_window(window: MaintenanceWindow) -> str | None:
    """What to write instead, for a window that can never open; None for a good one. One line, deterministic."""
    told = _read(window)
    return told if isinstance(told, str) else None


@dataclass(frozen=True, slots=True)
class _Window:
    """One window that was understood."""

    schedule: str
    zone: ZoneInfo
    duration: timedelta

    def first_start_after(self, moment: datetime) -> datetime | None:
        """The next start; None when none follows within 50 years."""
        return next((start for start in self._starts(moment) if start > moment), None)

    def open_until(self, moment: datetime) -> datetime | None:
        """The end of a window that is open at the moment, mostly of the last one that began; None when none is."""
        first = self.first_start_after(moment - self.duration)
        if first is None or first > moment:
            return None
        # Backwards the library may pass over starts around a clock change; the first one is sure.
        begin = moment.replace(microsecond=0) + _SECOND
        last = next((start for start in self._starts(begin, reverse=True) if start <= moment), first)
        return max(first, last) + self.duration

    def _starts(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        for start in CronSim(self.schedule, moment.astimezone(self.zone), reverse=reverse):
            yield start.astimezone(UTC)


def _follow(windows: Sequence[_Window], end: datetime) -> datetime | None:
    """The common end of all windows that follow without a gap."""
    for _ in range(MAX_JOINS):
        later = [until for window in windows if (until := window.open_until(end)) is not None]
        if not later:
            return end
        end = max(later)
    return None


def _read(window: MaintenanceWindow) -> _Window | str:
    """The window, or what to write instead."""
    try:
        zone = ZoneInfo(window.time_zone)
    except (KeyError, ValueError, OSError):
        return f'time zone "{window.time_zone}" is not known; write an IANA name such as Europe/Berlin'
    try:
        duration = parse_duration(window.duration)
    except ValueError:
        duration = timedelta.max
    if duration > _LONGEST:
        return f'duration "{window.duration}" is too long; write at most 168h'
    if len(window.schedule.split()) != _FIELDS:
        return f'schedule "{window.schedule}" has not five fields; write five such as "0 2 * * 6"'
    try:
        first = next(CronSim(window.schedule, _ANY_TIME), None)
    except (CronSimError, ValueError, AssertionError) as error:
        what = str(error).removeprefix("Bad ")
        return f'schedule "{window.schedule}" has a wrong {what}; write five fields such as "0 2 * * 6"'
    if first is None:
        return f'schedule "{window.schedule}" never begins; write a date that exists'
    return _Window(window.schedule, zone, duration)
