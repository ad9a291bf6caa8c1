"""What a pass knows beyond the API server: samples of pods, answers of Prometheus, room for pods. Kept in memory only.

Takes a sample when one is due and somebody wants it, keeps what a window needs, forgets what is gone. Must not judge
anything, and never raises what a party that is asked says or fails to say.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from pilotfish.controller.keys import Key
from pilotfish.core.health.keeping import began_anew, recent, with_newest
from pilotfish.core.health.samples import Health, PodSeries, QueryAnswer, ShadowCounters
from pilotfish.core.health.wanted import Target, Wanted, wanted_measurements
from pilotfish.core.observed import Observed
from pilotfish.core.room import Room
from pilotfish.ports import Clock, ClusterError, Metrics, Queries, RoomReader, Unmeasured
from pilotfish.telemetry import metrics as telemetry
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.measure")

SHORTEST_GAP = timedelta(seconds=2)
PER_INTERVAL = 3
"""Looks in one interval of the analysis: a figure is at most a third of it old."""
ROOM_GAP = timedelta(seconds=10)
ROOM_LASTS = timedelta(seconds=60)
"""How long the last known room counts where it cannot be read."""

T = TypeVar("T")


@dataclass(slots=True)
class _Memory:
    """Of one object."""

    since: datetime | None = None
    """When samples began to be taken."""
    taken: datetime | None = None
    pods: dict[str, PodSeries] = field(default_factory=dict)
    queries: dict[str, QueryAnswer] = field(default_factory=dict)
    baselines: dict[str, QueryAnswer] = field(default_factory=dict)
    shadow_uid: str | None = None
    shadow: tuple[ShadowCounters, ...] = ()
    room: Room | None = None
    room_of: str | None = None
    room_read: datetime | None = None
    """When it was read; None while it never was."""
    room_tried: datetime | None = None


class Measurements:
    """The series of every object whose rollout is under way."""

    def __init__(self, *, clock: Clock, metrics: Metrics, queries: Queries, room: RoomReader | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._queries = queries
        self._room = room
        self._memories: dict[tuple[Key, str], _Memory] = {}

    async def look(self, key: Key, observed: Observed) -> Observed:
        """The same with its health and room."""
        wanted = wanted_measurements(observed)
        if not wanted.counts and wanted.room is None:
            self.forget(key)
            return observed
        whose = (key, observed.uid)
        if whose not in self._memories:
            self.forget(key)  # an earlier object of that name
        memory = self._memories.setdefault(whose, _Memory())
        now = self._clock.now()
        _drop(memory, wanted, now)
        await asyncio.gather(
            self._measure(memory, wanted, now),
            self._look_for_room(memory, wanted, now, namespace=observed.namespace),
        )
        health = Health(
            pods=tuple(memory.pods[uid] for uid in sorted(memory.pods)),
            queries=dict(memory.queries),
            baselines=dict(memory.baselines),
            since=memory.since,
            shadow=memory.shadow,
        )
        return replace(observed, health=health, room=memory.room)

    def forget(self, key: Key) -> None:
        """The object is gone, or nothing of it is measured any more."""
        for whose in [whose for whose in self._memories if whose[0] == key]:
            del self._memories[whose]

    async def _measure(self, memory: _Memory, wanted: Wanted, now: datetime) -> None:
        gap = max(SHORTEST_GAP, wanted.interval / PER_INTERVAL)
        if wanted.is_urgent or not wanted.counts or not _is_due(memory.taken, gap, now):
            return
        memory.taken, memory.since = now, memory.since or now
        await asyncio.gather(
            *(self._ask_pod(memory, wanted, target) for target in wanted.targets),
            *(self._ask_prometheus(memory.queries, name, query) for name, query in wanted.queries.items()),
            *(self._ask_prometheus(memory.baselines, name, query) for name, query in wanted.baselines.items()),
            *([self._ask_shadow(memory, wanted, wanted.shadow)] if wanted.shadow else []),
        )

    async def _ask_pod(self, memory: _Memory, wanted: Wanted, target: Target) -> None:
        series = memory.pods.get(target.uid) or PodSeries(uid=target.uid, revision=target.revision)
        try:
            sample = await _counted("pod", self._metrics.sample(address=target.address, model=wanted.model))
        except Unmeasured as error:
            log.debug("a pod told nothing", pod=target.uid, error=str(error))
            memory.pods[target.uid] = replace(series, error=str(error))
        else:
            samples = with_newest(series.samples, sample, window=wanted.window)
            memory.pods[target.uid] = replace(series, samples=samples, error=None)

    async def _ask_shadow(self, memory: _Memory, wanted: Wanted, target: Target) -> None:
        try:
            counters = await _counted("shadow", self._metrics.shadow(address=target.address))
        except Unmeasured as error:
            log.debug("the shadow told nothing", pod=target.uid, error=str(error))
            return
        is_new = memory.shadow_uid != target.uid or began_anew(counters, memory.shadow)
        memory.shadow_uid = target.uid
        memory.shadow = with_newest(() if is_new else memory.shadow, counters, window=wanted.window)

    async def _ask_prometheus(self, answers: dict[str, QueryAnswer], name: str, query: str) -> None:
        answers[name] = await _counted("prometheus", self._queries.ask(query))

    async def _look_for_room(self, memory: _Memory, wanted: Wanted, now: datetime, *, namespace: str) -> None:
        if wanted.room is None or self._room is None:
            return
        if not _is_due(memory.room_tried, ROOM_GAP, now):
            return
        memory.room_tried = now
        try:
            memory.room = await self._room(namespace=namespace, resource=wanted.room, tolerations=wanted.tolerations)
            memory.room_read = now
        except ClusterError as error:
            log.warning("cannot see what room there is", error=str(error))
            if memory.room_read is None or now - memory.room_read > ROOM_LASTS:
                memory.room = None


def _drop(memory: _Memory, wanted: Wanted, now: datetime) -> None:
    """What is not wanted any more, what is too old, and what a clock that was set back left in the future."""
    since = now - wanted.window - 2 * wanted.interval
    if not wanted.counts:
        memory.since = memory.taken = None
    memory.pods = {
        uid: replace(series, samples=recent(series.samples, since=since, now=now))
        for uid, series in memory.pods.items()
        if uid in wanted.uids
    }
    memory.queries = {name: answer for name, answer in memory.queries.items() if name in wanted.queries}
    memory.baselines = {name: answer for name, answer in memory.baselines.items() if name in wanted.baselines}
    if wanted.shadow is None:
        memory.shadow_uid, memory.shadow = None, ()
    memory.shadow = recent(memory.shadow, since=since, now=now)
    if wanted.room != memory.room_of:
        memory.room, memory.room_of, memory.room_read, memory.room_tried = None, wanted.room, None, None


def _is_due(last: datetime | None, gap: timedelta, now: datetime) -> bool:
    """A clock that was set back makes it due as well."""
    return last is None or not last <= now < last + gap


async def _counted(target: str, asking: Awaitable[T]) -> T:
    """What was asked for, counted and timed."""
    start = asyncio.get_running_loop().time()
    result = "error"
    try:
        answer = await asking
        result = "error" if isinstance(answer, QueryAnswer) and answer.error else "success"
        return answer
    finally:
        telemetry.count_scrape(target, result, asyncio.get_running_loop().time() - start)
