"""The operator's process: wait for the Lease, then watch, work and sweep until told to stop or the Lease is lost."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from itertools import product
from typing import Any

import kopf
from pydantic import ValidationError

from pilotfish.adapters.cache import Cache
from pilotfish.adapters.clock import ServerClock
from pilotfish.adapters.connection import NoCluster, connect, credentials_of
from pilotfish.adapters.job_progress import JobProgressReader
from pilotfish.adapters.kube import KubeCluster
from pilotfish.adapters.prometheus import make_queries
from pilotfish.adapters.reflector import Reflector
from pilotfish.adapters.room import read_room
from pilotfish.adapters.triton_metrics import TritonMetrics
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.controller import handlers, watching
from pilotfish.controller.fence import FencedCluster, end_process_at
from pilotfish.controller.health import Health, limit, serving
from pilotfish.controller.job_watch import JobWatch
from pilotfish.controller.keys import Key
from pilotfish.controller.lease import Lease, LeaseLost, LeaseTimes
from pilotfish.controller.loop import PASS_LIMIT, KeyedQueue, Workers
from pilotfish.controller.measure import Measurements
from pilotfish.controller.reconcile import Reconciler
from pilotfish.controller.sweep import Sweep, Watched
from pilotfish.core import plan
from pilotfish.core.observed import watched_kinds
from pilotfish.names import FIELD_MANAGER, MANAGED_BY
from pilotfish.ports import Body, ClusterError
from pilotfish.settings import OperatorSettings
from pilotfish.telemetry import logs, metrics
from pilotfish.telemetry.objects import ObjectStates

log = logs.logger("pilotfish.main")

GRACE = 10.0
"""Seconds that running passes get to finish after a signal."""
CACHE_PATIENCE = 30.0
"""Seconds that the first pass waits for the lists of all children."""
API_SILENCE = 30.0
SWEEPS_MISSED = 3


class Operator:
    """All parts of one replica, wired."""

    def __init__(self, settings: OperatorSettings, client: Any) -> None:
        self._settings = settings
        self._client = client
        self._clock = ServerClock()
        self._cluster = KubeCluster(client, on_request=metrics.count_request, clock=self._clock)
        self._queue: KeyedQueue[Key] = KeyedQueue()
        self._watched = Watched()
        kinds = watched_kinds(gateway_api=settings.gateway_api)
        self._scopes = tuple(product(kinds, settings.watch_namespaces or (None,)))
        self._cache = Cache(scopes=self._scopes, touched=lambda namespace, name: self._queue.put(Key(namespace, name)))
        self._stop = asyncio.Event()
        self._lease = Lease(
            store=self._cluster,
            clock=self._clock,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=settings.identity,
            times=LeaseTimes(
                duration=settings.lease_duration,
                renew_deadline=settings.lease_renew_deadline,
                retry=settings.lease_retry,
            ),
            end_at=end_process_at,
        )
        self._metrics = TritonMetrics(clock=self._clock)
        self._job_progress = JobProgressReader()
        self._queries = make_queries(settings.prometheus_url, token_file=settings.prometheus_token_file)
        self._reconciler = Reconciler(
            cluster=FencedCluster(self._cluster, may_write_until=lambda: self._lease.may_write_until),
            clock=self._clock,
            policy=settings.policy(),
            plan=plan,
            measurements=Measurements(
                clock=self._clock,
                metrics=self._metrics,
                queries=self._queries,
                # Nodes belong to no namespace: who serves named ones has no right to look and does not try.
                room=None if settings.watch_namespaces else partial(read_room, self._cluster),
            ),
            jobs=JobWatch(clock=self._clock, reader=self._job_progress),
            cache=self._cache,
        )
        self._sweep = Sweep(
            cluster=self._cluster,
            namespaces=settings.watch_namespaces,
            watched=self._watched,
            enqueue=self._queue.put,
            interval=settings.resync,
            gateway_api=settings.gateway_api,
            cache=self._cache,
        )
        self._health = Health()

    async def run(self) -> None:
        """Until a signal (returns) or until this replica may not or cannot go on (raises)."""
        self._take_signals()
        metrics.BUILD_INFO.labels(version=version("pilotfish")).set(1)
        metrics.QUEUE_LONGEST.set_function(self._queue.longest_running)
        self._health.ready.append(limit("the API server is silent", value=self._lease.silence, seconds=API_SILENCE))
        objects = ObjectStates(self._reconciler.states)
        address, wanted = self._settings.listen, self._settings.port
        async with serving(self._health, objects=objects.page, address=address, port=wanted) as port:
            log.info("started", identity=self._settings.identity, port=port)
            try:
                if await self._unless_stopped(self._lease.acquire()) and await self._unless_stopped(self._crd()):
                    await self._lead()
            finally:
                await self._lease.release()
                await self._metrics.close()
                await self._job_progress.close()
                await self._queries.close()
                await self._cluster.close()

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> bool:
        """Wait for it or for the signal; True when it came."""
        task = asyncio.create_task(waiting)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            await task
            return True
        task.cancel()
        return False

    async def _crd(self) -> None:
        """Return once the API server knows ModelDeployments, renewing the Lease meanwhile."""
        holding = asyncio.create_task(self._lease.hold())
        try:
            while True:
                try:
                    await self._cluster.check_served(api_version=API_VERSION, kind=KIND)
                except ClusterError as error:
                    log.warning("cannot list ModelDeployments yet", error=str(error))
                else:
                    return
                await asyncio.wait({holding}, timeout=self._settings.lease_retry)
                if holding.done():
                    await holding
        finally:
            holding.cancel()

    async def _lead(self) -> None:
        """Hold the Lease, watch, work, sweep; the first of them that ends, ends all."""
        self._watch_health()
        workers = Workers(queue=self._queue, reconcile=self._reconciler, count=self._settings.workers)
        stop_kopf = asyncio.Event()
        parts = {
            "lease": asyncio.create_task(self._lease.hold()),
            "watches": asyncio.create_task(self._watch(stop_kopf)),
            "children": asyncio.create_task(self._follow_children()),
            "sweep": asyncio.create_task(self._sweep.run()),
            "workers": asyncio.create_task(self._work(workers)),
            "signal": asyncio.create_task(self._stop.wait()),
        }
        try:
            await asyncio.wait(parts.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._queue.close()
            stop_kopf.set()
            for name in ("sweep", "signal", "children"):
                parts[name].cancel()
            await asyncio.wait({parts["workers"]}, timeout=GRACE)
            parts["workers"].cancel()
            parts["lease"].cancel()
            await self._lease.release()
            # Nothing is written from here on, so the next replica need not wait for the streams to close.
            await asyncio.wait({parts["watches"]}, timeout=GRACE)
            parts["watches"].cancel()
            results = await asyncio.gather(*parts.values(), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _follow_children(self) -> None:
        """Keep the cache up to date, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind, namespace in self._scopes:
                reflector = Reflector(
                    source=self._cluster,
                    cache=self._cache,
                    kind=kind,
                    namespace=namespace,
                    labels={MANAGED_BY: FIELD_MANAGER},
                    saw=self._watched.saw,
                )
                group.create_task(reflector.run(), name=f"{kind[1]} in {namespace or 'all namespaces'}")

    async def _work(self, workers: Workers[Key]) -> None:
        """Pass after pass, once the children are known; without them each pass asks."""
        with suppress(TimeoutError):
            await self._unless_stopped(asyncio.wait_for(self._cache.completed(), CACHE_PATIENCE))
        await workers.run()

    def _heard(self, body: Body) -> None:
        self._watched.saw(body)
        self._cache.heard(body)

    async def _watch(self, stop: asyncio.Event) -> None:
        namespaces = self._settings.watch_namespaces
        registry = handlers.make_registry(
            heard=self._heard,
            heard_gone=self._cache.heard_gone,
            login=lambda: credentials_of(self._client),
        )
        ready = asyncio.Event()
        watches = kopf.operator(
            registry=registry,
            settings=watching.make_settings(),
            namespaces=namespaces,
            clusterwide=not namespaces,
            stop_flag=stop,
            ready_flag=ready,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(watches)
            await ready.wait()
            # kopf has taken the process's signals for itself; its own way out is slower than ours.
            self._take_signals()

    def _watch_health(self) -> None:
        sweeps = SWEEPS_MISSED * self._settings.resync
        self._health.alive += [
            limit("a pass does not end", value=self._queue.longest_running, seconds=2 * PASS_LIMIT),
            limit("no sweep succeeded", value=self._sweep.age, seconds=sweeps + PASS_LIMIT),
            self._watches_deliver,
        ]

    def _watches_deliver(self) -> str | None:
        stuck = self._watched.stuck()
        return f"the watches did not deliver {', '.join(stuck[:3])}" if stuck else None


async def run(settings: OperatorSettings) -> None:
    """Connect and run one replica. Raises NoCluster, LeaseLost and what kopf raises when a watch cannot go on."""
    client = await connect(kubeconfig=settings.kubeconfig)
    await Operator(settings, client).run()


def _problem(details: Any) -> str:
    name = "_".join(["PILOTFISH", *(str(part).upper() for part in details["loc"])]) if details["loc"] else "the Lease"
    return f"{name}: {details['msg'].removeprefix('Value error, ')}"


def main() -> None:
    """Entry point of `pilotfish-operator`: exit code 0 after a signal, 1 otherwise."""
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        sys.exit(f"the settings are wrong: {'; '.join(_problem(details) for details in error.errors())}")
    logs.configure(level=settings.log_level, style=settings.log_format)
    watching.quiet_libraries()
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run(settings))
    except (NoCluster, LeaseLost) as error:
        log.error("stopped", error=str(error))  # noqa: TRY400 - the sentence says it all
        sys.exit(1)
    except Exception:
        log.exception("stopped")
        sys.exit(1)
    finally:
        logging.shutdown()
