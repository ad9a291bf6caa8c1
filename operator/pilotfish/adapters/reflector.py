"""Keeps the cache like the cluster: lists one kind once, then follows its stream; lists again when the stream is lost.

Never gives up and never raises what the cluster answers: a kind that cannot be listed is tried again, ever more slowly.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from random import Random
from typing import Protocol

from pilotfish.adapters.answers import Gone
from pilotfish.adapters.cache import Cache, Kind
from pilotfish.adapters.kube import Listed, WatchEvent
from pilotfish.core.observed import ROUTE_KINDS
from pilotfish.ports import Body, ClusterError, NotFound
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.reflector")

FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
UNSERVED_DELAY = 60.0
"""Seconds between two looks for a kind whose CRD nobody installed."""


class Source(Protocol):
    """Where objects come from: KubeCluster, or what a test puts in its place."""

    async def list_at(self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]) -> Listed:
        """A complete list, as new as anything."""

    def watch(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str], version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens after that version."""


class Reflector:
    """One kind, in one namespace or in all (None). `saw` hears of every body that comes."""

    def __init__(
        self,
        *,
        source: Source,
        cache: Cache,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str],
        saw: Callable[[Body], None],
    ) -> None:
        self._source = source
        self._cache = cache
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._saw = saw
        self._version: str | None = None
        self._failures = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            delay = await self._turn()
            await asyncio.sleep(delay)

    async def _turn(self) -> float:
        """List if that is needed, then follow the stream to its end. Seconds to wait until the next turn."""
        try:
            if self._version is None:
                self._version = await self._list()
            await self._follow(self._version)
        except Gone:
            self._version = None
            return self._delay()
        except NotFound as error:
            self._version = None
            if self._kind in ROUTE_KINDS:
                self._cache.not_served(self._kind, self._namespace)
                return UNSERVED_DELAY
            return self._fail(error)
        except ClusterError as error:
            return self._fail(error)
        return self._delay()

    async def _list(self) -> str:
        api_version, kind = self._kind
        mark = self._cache.mark(self._kind, self._namespace)
        listed = await self._source.list_at(
            api_version=api_version, kind=kind, namespace=self._namespace, labels=self._labels
        )
        for body in listed.bodies:
            self._saw(body)
        self._cache.listed(mark, listed.bodies)
        return listed.version

    async def _follow(self, version: str) -> None:
        api_version, kind = self._kind
        stream = self._source.watch(
            api_version=api_version, kind=kind, namespace=self._namespace, labels=self._labels, version=version
        )
        async with aclosing(stream):
            async for event in stream:
                self._failures = 0
                self._version = str(event.body["metadata"]["resourceVersion"])
                if event.type == "BOOKMARK":
                    continue
                self._saw(event.body)
                if event.type == "DELETED":
                    self._cache.heard_gone(event.body)
                else:
                    self._cache.heard(event.body)

    def _fail(self, error: ClusterError) -> float:
        delay = max(self._delay(), error.retry_after or 0.0)
        level = logging.DEBUG if self._failures <= 1 else logging.WARNING
        log.log(level, "a watch is opened again", kind=self._kind[1], error=str(error), seconds=round(delay, 1))
        return delay

    def _delay(self) -> float:
        """A turn after one that went well comes at once; a stream that ends without a word is not asked often."""
        failures, self._failures = self._failures, self._failures + 1
        if failures == 0:
            return 0.0
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 8))
        return delay * Random().uniform(1, 4 / 3)  # noqa: S311 - spreads load, guards nothing
