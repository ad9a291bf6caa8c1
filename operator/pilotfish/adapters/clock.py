"""The API server's time, read off the Date of its answers: all replicas share it, whatever their machines' clocks say.

Between two answers this machine's monotonic clock carries it on, so a jump of the wall clock changes nothing. Must not
ask anybody anything.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RESOLUTION = 1.0
"""A Date has whole seconds: the moment lies within the second that it names."""
_CORRECTION = 5.0
"""Corrections up to so many seconds let the clock stand still rather than turn it back."""


class ServerClock:
    """Each answer says where server time minus monotonic time can lie; answers that agree narrow it down.

    One that contradicts the others (the server's clock was set, or another server answers) starts anew from itself.
    Before the first answer it is this machine's wall clock.
    """

    def __init__(
        self, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._least: float | None = None
        self._most = 0.0
        self._told = 0.0

    def monotonic(self) -> float:
        """What `hear` wants as the moment at which a request was sent."""
        return self._monotonic()

    def now(self) -> datetime:
        """UTC, aware."""
        seconds = self._wall() if self._least is None else self._monotonic() + (self._least + self._most) / 2
        if not 0 < self._told - seconds <= _CORRECTION:
            self._told = seconds
        return datetime.fromtimestamp(self._told, tz=UTC)

    def hear(self, date: str | None, *, sent: float) -> None:
        """An answer to a request that was sent at `sent` carries this Date header; nonsense is passed over."""
        try:
            told = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        least, most = told - self._monotonic(), told + _RESOLUTION - sent
        if self._least is None or most < self._least or least > self._most:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)
