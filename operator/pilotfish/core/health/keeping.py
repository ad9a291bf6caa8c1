"""Which samples of a series are kept: enough for a window, however long, in bounded room. Pure."""

from datetime import datetime, timedelta
from typing import TypeVar

from pilotfish.core.health.samples import Sample, ShadowCounters

PER_WINDOW = 128
"""Samples that a window is drawn with; of those that stand closer, the ones in the middle are dropped."""
MOST_SAMPLES = 512

_Moment = TypeVar("_Moment", bound=Sample | ShadowCounters)
_NEIGHBOURS = 3


def recent(series: tuple[_Moment, ...], *, since: datetime, now: datetime) -> tuple[_Moment, ...]:
    """What was taken from `since` to `now`, and the last one before: a difference needs a beginning."""
    known = [moment for moment in series if moment.at <= now]
    older = [moment for moment in known if moment.at < since]
    return (*older[-1:], *(moment for moment in known if moment.at >= since))


def with_newest(series: tuple[_Moment, ...], newest: _Moment, *, window: timedelta) -> tuple[_Moment, ...]:
    """The series with one more.

    The one before is dropped where its neighbours are closer than a PER_WINDOW-th of the window and nothing was counted
    anew between them: what a server counted before its restart is seen in no other sample.
    """
    series = (*series, newest)
    close = series[-_NEIGHBOURS:]
    if len(close) == _NEIGHBOURS and close[2].at - close[0].at < window / PER_WINDOW and _only_grow(close):
        series = (*series[:-2], newest)
    return series[-MOST_SAMPLES:]


def began_anew(newest: ShadowCounters, series: tuple[ShadowCounters, ...]) -> bool:
    """Whether the shadow's process is another than the one that counted the series."""
    if not series:
        return False
    last = series[-1]
    return newest.compared < last.compared or newest.agreed < last.agreed or newest.failed < last.failed


def _only_grow(series: tuple[_Moment, ...]) -> bool:
    counts = [_count(moment) for moment in series]
    return counts == sorted(counts)


def _count(moment: Sample | ShadowCounters) -> int:
    if isinstance(moment, Sample):
        return moment.success + sum(moment.failures.values())
    return moment.compared
