"""`pilotfish-job shadow`: listens like a Triton pod, until it is told to stop, and then lets what is under way end.

Needs nobody but the pods of both revisions: no token, no store, no operator.
"""

import asyncio
import logging
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import grpc.aio
from aiohttp import web

from pilotfish.api.job_input import ShadowInput
from pilotfish.optimizer.shadow.answers import widest_bounds
from pilotfish.optimizer.shadow.comparing import Comparer
from pilotfish.optimizer.shadow.counts import Counts
from pilotfish.optimizer.shadow.grpc_proxy import SERVER_OPTIONS, GrpcProxy
from pilotfish.optimizer.shadow.http_proxy import HttpProxy
from pilotfish.optimizer.shadow.limits import Limits
from pilotfish.optimizer.shadow.upstreams import Resolve, Upstream, Upstreams, resolve

_KEEPALIVE_SECONDS = 75.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a test may put in the place of the real thing. `listen` None: on all interfaces."""

    listen: str | None = None
    limits: Limits = field(default_factory=Limits)
    resolve: Resolve = resolve
    chance: random.Random | None = None


def run_until_stopped(order: ShadowInput) -> Counts:
    """Serve until SIGTERM or SIGINT. Returns what was counted."""
    return asyncio.run(_until_stopped(order))


async def _until_stopped(order: ShadowInput) -> Counts:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with shadow(order) as counts:
        sys.stdout.write(f"Shadow of model {order.model} listens\n")
        sys.stdout.flush()
        await stopped.wait()
    return counts


@asynccontextmanager
async def shadow(order: ShadowInput, *, world: World = World()) -> AsyncIterator[Counts]:
    """The shadow, listening. On leaving, what is under way gets its time to end."""
    limits = world.limits
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        )
        stable, candidate = (
            Upstream(side, model=order.model, session=session, limits=limits, resolve=world.resolve)
            for side in (order.stable, order.candidate)
        )
        upstreams = Upstreams(stable, candidate)
        await upstreams.look()
        stack.push_async_callback(_cancel, asyncio.create_task(upstreams.watch()))
        comparer = Comparer(
            rate=lambda: order.sample_rate * upstreams.endpoints,
            bounds=widest_bounds(order.precisions, order.tolerance),
            limits=limits,
            chance=world.chance,
        )
        stack.push_async_callback(comparer.stop)
        host, ports = world.listen, order.ports
        await _listen(_telling(comparer.counts), host, ports.metrics, stack=stack, drain=0)
        await _listen_grpc(GrpcProxy(upstreams, comparer), host, ports.grpc, stack=stack, drain=limits.drain)
        proxy = HttpProxy(upstreams, comparer, session, model=order.model)
        await _listen(proxy.application(), host, ports.http, stack=stack, drain=limits.drain)
        yield comparer.counts


def _telling(counts: Counts) -> web.Application:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=counts.as_text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def live(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/live", live)
    return app


async def _listen(app: web.Application, host: str | None, port: int, *, stack: AsyncExitStack, drain: float) -> None:
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_silent(),
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=drain,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port).start()


async def _listen_grpc(proxy: GrpcProxy, host: str | None, port: int, *, stack: AsyncExitStack, drain: float) -> None:
    stack.push_async_callback(proxy.close)
    server = grpc.aio.server(handlers=(proxy,), options=SERVER_OPTIONS)
    server.add_insecure_port(f"{host or '[::]'}:{port}")
    stack.push_async_callback(server.stop, drain)
    await server.start()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _silent() -> logging.Logger:
    """The server's own log repeats what it could not read, and that may be part of a tensor."""
    log = logging.getLogger("pilotfish.shadow.http")
    log.disabled = True
    return log
