"""The operator's real loop over the small world in virtual time: passes come of watch events, timers and sweeps alone.

Queue, workers, reconciler and sweep are the real ones. What becomes of watch events is up to the test: late, in another
order, merged, lost.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from structlog.testing import capture_logs

from pilotfish.controller.keys import Key, key_of, key_of_child
from pilotfish.controller.loop import KeyedQueue, Workers
from pilotfish.controller.reconcile import Reconciler
from pilotfish.controller.sweep import Sweep, Watched
from pilotfish.core import Observed, plan
from pilotfish.core.objects import Body, ObjectRef
from pilotfish.core.observed import watched_kinds
from support.gateway_world import GatewayWorld
from support.world import World

RESYNC = 300.0
"""Seconds between two sweeps, as the operator's settings have it."""


@dataclass(slots=True)
class Counted:
    """The cluster with a count of every request that writes, whether it changes anything or not."""

    world: World
    writes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By verb, kind and name."""

    async def get(self, ref: ObjectRef) -> Body | None:
        return await self.world.cluster.get(ref)

    async def list(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> tuple[Body, ...]:
        return await self.world.cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)

    async def apply(self, body: Body) -> Body:
        self._count("apply", body)
        return await self.world.cluster.apply(body)

    async def patch(self, ref: ObjectRef, patch: Mapping[str, Any], *, manager: str) -> Body:
        self.writes["patch", ref.kind, ref.name] += 1
        return await self.world.cluster.patch(ref, patch, manager=manager)

    async def delete(self, ref: ObjectRef) -> None:
        self.writes["delete", ref.kind, ref.name] += 1
        await self.world.cluster.delete(ref)

    async def write_status(self, body: Body) -> Body:
        self._count("status", body)
        return await self.world.cluster.write_status(body)

    async def emit(self, event: Body) -> None:
        self._count("event", event)
        await self.world.cluster.emit(event)

    def _count(self, verb: str, body: Body) -> None:
        self.writes[verb, body["kind"], body["metadata"]["name"]] += 1


@dataclass(slots=True, kw_only=True)
class Live:
    """A world whose operator runs by itself. Use it in virtual time, inside `running`."""

    world: World
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lost: float = 0.0
    """Share of watch events that never arrive."""
    late: float = 0.0
    """Most seconds that one takes; with more than none they overtake each other."""
    counted: Counted = field(init=False)
    passes: int = 0
    logged: list[Any] = field(default_factory=list)
    _queue: KeyedQueue[Key] = field(init=False)
    _begun: float = field(init=False)
    _from: datetime = field(init=False)
    _playing: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.counted = Counted(self.world)
        self._from = self.world.moment

    @contextmanager
    def running(self) -> Iterator[None]:
        """Operator and neighbours at work until the block ends."""
        self._begun, self._queue = _clock(), KeyedQueue()
        gateway = isinstance(self.world, GatewayWorld)
        reconciler = Reconciler(
            cluster=self.counted, clock=self, policy=self.world.policy, plan=plan, measurements=self
        )
        watched = Watched()

        async def reconcile(key: Key) -> Any:
            self.passes += 1
            return await reconciler(key)

        sweep = Sweep(
            cluster=self.counted,
            namespaces=(),
            watched=watched,
            enqueue=self._queue.put,
            interval=RESYNC,
            gateway_api=gateway,
        )
        kinds = {kind for _, kind in watched_kinds(gateway_api=gateway)}

        def heard(_: str, body: Body) -> None:
            self._play_soon()
            if self.rng.random() < self.lost:
                return
            key = key_of(body) if body["kind"] == "ModelDeployment" else key_of_child(body)
            if key is not None and (body["kind"] in kinds or body["kind"] == "ModelDeployment"):
                asyncio.get_running_loop().call_later(self.rng.uniform(0, self.late), self._queue.put, key)

        self.world.cluster.watcher = heard
        workers = Workers(queue=self._queue, reconcile=reconcile, count=2)
        tasks = [asyncio.create_task(workers.run()), asyncio.create_task(sweep.run())]
        self._play_soon()
        try:
            with capture_logs() as self.logged:
                yield
        finally:
            self.world.cluster.watcher = None
            self._queue.close()
            for task in tasks:
                task.cancel()
            if self._playing is not None:
                self._playing.cancel()

    async def quiet(self, *, seconds: float = 2.2 * RESYNC, within: float = 24 * 3600.0) -> None:
        """Until nothing was stored for that long; AssertionError where that does not come."""
        deadline, since, changes = _clock() + within, _clock(), self.world.cluster.changes
        while _clock() - since < seconds:
            await asyncio.sleep(seconds / 8)
            if self.world.cluster.changes != changes:
                since, changes = _clock(), self.world.cluster.changes
            assert _clock() < deadline, "no rest:\n" + "\n".join(self.world.story[-20:])

    # What the reconciler asks for: the time, and measurements.

    def now(self) -> datetime:
        """The time by the event loop."""
        by = self._from + timedelta(seconds=_clock() - self._begun) - self.world.moment
        if by > timedelta():
            self.world.pass_time(by)
        return self.world.moment

    async def look(self, _: Key, observed: Observed) -> Observed:
        """With what was measured, where it is wanted."""
        self.now()
        return self.world._measured(observed)

    def forget(self, _: Key) -> None:
        """Nothing is kept here."""

    # Neighbours act on every change, and when time alone lets them.

    def _play_soon(self, after: float = 0.2) -> None:
        if self._playing is not None:
            self._playing.cancel()
        self._playing = asyncio.get_running_loop().call_later(after, self._play)

    def _play(self) -> None:
        self._playing = None
        self.now()
        before = self.world.cluster.changes
        reconcile, *others = self.world.actors()
        assert reconcile == self.world.reconcile
        for act in others:
            act()
        self.world.laws.check()
        due = self.world.neighbours.due()
        if self.world.cluster.changes == before and due is not None:
            self._play_soon(max(1.0, (due - self.world.moment).total_seconds()))


def _clock() -> float:
    return asyncio.get_running_loop().time()
