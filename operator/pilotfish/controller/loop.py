"""A keyed, de-duplicating queue and the workers that empty it: one pass per key at a time, no wake-up lost.

Knows nothing of Kubernetes. Time is the event loop's, so a test can run it in virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pilotfish.telemetry import metrics
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.loop")

FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0
PASS_LIMIT = 120.0
"""Seconds after which a pass that still waits for the API server is given up and tried again."""

K = TypeVar("K", bound=Hashable)


class Result(StrEnum):
    """How a pass ended, and with it what becomes of its key."""

    SUCCESS = "success"
    REQUEUE_AFTER = "requeue_after"
    REQUEUE = "requeue"
    ERROR = "error"
    TERMINAL = "terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a pass returns. after: seconds until the next one, for REQUEUE_AFTER; at least so long, for ERROR."""

    result: Result
    after: float = 0.0


class KeyedQueue(Generic[K]):
    """Keys that wait for a pass.

    A key that is put while it waits waits once; one that is put during its pass waits again afterwards. A pass takes
    over from the key's timer: it alone says when the next one is due.
    """

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K | None] = asyncio.Queue()
        self._since: dict[K, float] = {}
        self._running: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._closed = False

    def put(self, key: K) -> None:
        """Ask for a pass now."""
        metrics.QUEUE_ADDS.inc()
        self._put(key)

    def put_after(self, key: K, seconds: float) -> None:
        """Ask for a pass later; of several wishes the earliest counts."""
        due = asyncio.get_running_loop().time() + max(0.0, seconds)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(due, self._due, key)

    def retry(self, key: K, *, at_least: float = 0.0, at_once: bool = False) -> float:
        """Ask for a pass after a failure; returns the delay in seconds, doubled each time until `forget`.

        at_once: do not wait for the first of several tries.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        metrics.QUEUE_RETRIES.inc()
        delay = 0.0 if at_once and failures == 0 else min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures, 16))
        delay = max(delay, at_least)
        self.put_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key did well: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> K | None:
        """The next key, which then counts as running until `done`; None once the queue is closed."""
        key = await self._ready.get()
        if key is None or self._closed:
            self._ready.put_nowait(None)
            return None
        now = asyncio.get_running_loop().time()
        metrics.QUEUE_LATENCY.observe(now - self._since.pop(key))
        metrics.QUEUE_DEPTH.set(self._ready.qsize())
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._running[key] = now
        return key

    def done(self, key: K) -> None:
        """The key's pass is over; if it was put meanwhile, it waits again."""
        del self._running[key]
        if key in self._again:
            self._again.discard(key)
            self._put(key)

    def close(self) -> None:
        """Let every waiting `get` return None."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._ready.put_nowait(None)

    def longest_running(self) -> float:
        """Age in seconds of the oldest pass that still runs; 0 when none does."""
        if not self._running:
            return 0.0
        return asyncio.get_running_loop().time() - min(self._running.values())

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self._put(key)

    def _put(self, key: K) -> None:
        if key in self._running:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = asyncio.get_running_loop().time()
            self._ready.put_nowait(key)
            metrics.QUEUE_DEPTH.set(self._ready.qsize())


class Workers(Generic[K]):
    """Run passes for the keys of a queue, `count` at a time."""

    def __init__(self, *, queue: KeyedQueue[K], reconcile: Callable[[K], Awaitable[Outcome]], count: int) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._count = count

    async def run(self) -> None:
        """Until the queue is closed; passes that run then are finished first."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._work(), name=f"worker-{number}")

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                await self._pass(key)
            finally:
                self._queue.done(key)

    async def _pass(self, key: K) -> None:
        started = asyncio.get_running_loop().time()
        metrics.ACTIVE_WORKERS.inc()
        try:
            async with asyncio.timeout(PASS_LIMIT):
                outcome = await self._reconcile(key)
        except Exception as error:
            # One key's trouble must not end the worker of the others.
            log.exception("pass failed", key=str(key))
            metrics.RECONCILE_ERRORS.labels(error=type(error).__name__).inc()
            outcome = Outcome(result=Result.ERROR)
        finally:
            metrics.ACTIVE_WORKERS.dec()
        metrics.RECONCILE_SECONDS.observe(asyncio.get_running_loop().time() - started)
        metrics.RECONCILES.labels(result=outcome.result.value).inc()
        self._settle(key, outcome)

    def _settle(self, key: K, outcome: Outcome) -> None:
        match outcome.result:
            case Result.SUCCESS | Result.TERMINAL:
                self._queue.forget(key)
            case Result.REQUEUE_AFTER:
                self._queue.forget(key)
                self._queue.put_after(key, outcome.after)
            case Result.REQUEUE:
                self._queue.retry(key, at_once=True)
            case Result.ERROR:
                self._queue.retry(key, at_least=outcome.after)
