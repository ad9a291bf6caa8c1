"""The safety net under the watches: every few minutes list everything, enqueue every object, compare with the watches.

A watch that has gone silent shows as an object whose listed version it never delivered, from one sweep to the next.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import product

from pilotfish.adapters.cache import OWN_KIND, Cache
from pilotfish.adapters.observe import list_kind
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.controller.keys import Key, key_of
from pilotfish.core.observed import watched_kinds
from pilotfish.names import FIELD_MANAGER, MANAGED_BY
from pilotfish.ports import Body, Cluster, ClusterError
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.sweep")

RETRY = 15.0


class Watched:
    """The newest version of each object that any watch has delivered."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._behind: dict[str, int] = {}
        self._stuck: tuple[str, ...] = ()

    def saw(self, body: Body) -> None:
        """A watch delivered this body."""
        metadata = body["metadata"]
        self._versions[metadata["uid"]] = int(metadata["resourceVersion"])

    def compare(self, listed: Iterable[Body]) -> None:
        """Hold a complete list against the watches; forgets objects that are gone. Goes through the list once."""
        versions: dict[str, int] = {}
        overdue = []
        for body in listed:
            metadata = body["metadata"]
            uid = metadata["uid"]
            versions[uid] = int(metadata["resourceVersion"])
            if self._seen(uid) < self._behind.get(uid, -1):
                overdue.append(f"{body['kind']}/{metadata['name']}")
        self._stuck = tuple(sorted(overdue))
        self._behind = {uid: version for uid, version in versions.items() if self._seen(uid) < version}
        self._versions = {uid: version for uid, version in self._versions.items() if uid in versions}

    def stuck(self) -> tuple[str, ...]:
        """`Kind/name` of objects whose change the watches have owed for a whole sweep."""
        return self._stuck

    def _seen(self, uid: str) -> int:
        return self._versions.get(uid, -1)


class Sweep:
    """List, compare, enqueue; again after the interval."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        namespaces: tuple[str, ...],
        watched: Watched,
        enqueue: Callable[[Key], None],
        interval: float,
        gateway_api: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._watched = watched
        self._enqueue = enqueue
        self._interval = interval
        self._kinds = watched_kinds(gateway_api=gateway_api)
        self._cache = cache or Cache(scopes=())
        self._last = _now()

    def age(self) -> float:
        """Seconds since the last sweep that succeeded (or since the start)."""
        return _now() - self._last

    async def run(self) -> None:
        """For ever; the first after the interval, since whoever starts lists everything anyway."""
        delay = self._interval
        while True:
            await asyncio.sleep(delay)
            delay = self._interval
            try:
                await self.once()
            except ClusterError as error:
                log.warning("sweep failed", error=str(error))
                delay = min(RETRY, self._interval)

    async def once(self) -> None:
        """One sweep. Raises ClusterError."""
        own = [_headed(body) for body in await self.list_own()]
        children: list[Body] = []
        for namespace, kind in product(self._namespaces, self._kinds):
            mark = self._cache.mark(kind, namespace)
            labels = {MANAGED_BY: FIELD_MANAGER}
            listed = await list_kind(self._cluster, kind, namespace=namespace, labels=labels)
            if listed is not None:
                self._cache.listed(mark, listed)
            children += [_headed(body) for body in listed or ()]
        self._watched.compare([*own, *children])
        self._last = _now()
        for body in own:
            self._enqueue(key_of(body))
        log.debug("swept", objects=len(own), children=len(children))

    async def list_own(self) -> list[Body]:
        """All ModelDeployments. Raises ClusterError (NotFound: the CRD is not installed)."""
        found: list[Body] = []
        for namespace in self._namespaces:
            mark = self._cache.mark(OWN_KIND, namespace)
            listed = await self._cluster.list(api_version=API_VERSION, kind=KIND, namespace=namespace, labels={})
            self._cache.listed(mark, listed)
            found += listed
        return found


def _headed(body: Body) -> Body:
    """What comparing and enqueuing need of it: a sweep must not hold every object of the cluster at once."""
    head = {key: body["metadata"].get(key) for key in ("namespace", "name", "uid", "resourceVersion")}
    return {"kind": body["kind"], "metadata": head}


def _now() -> float:
    return asyncio.get_running_loop().time()
