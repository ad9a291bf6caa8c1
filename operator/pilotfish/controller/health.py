"""Is this replica alive, is it ready, what does it count: three pages over HTTP.

Alive means that work gets done, not that HTTP answers: passes end, sweeps succeed, the watches deliver. An unreachable
API server is no reason to be killed: a restart would not help.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pilotfish.telemetry import metrics

Check = Callable[[], str | None]
"""None when all is well, else one sentence."""
_METRICS_HEADERS = {"Content-Type": CONTENT_TYPE_LATEST}


class Health:
    """Two ordered lists of checks."""

    def __init__(self) -> None:
        self.alive: list[Check] = []
        self.ready: list[Check] = []

    async def healthz(self, _request: web.Request) -> web.Response:
        """Liveness."""
        return _answer(self.alive)

    async def readyz(self, _request: web.Request) -> web.Response:
        """Readiness: a standby that watches the Lease is ready."""
        return _answer(self.ready)


def limit(what: str, *, value: Callable[[], float], seconds: float) -> Check:
    """A check that an age stays below a limit."""

    def check() -> str | None:
        age = value()
        return None if age < seconds else f"{what}: {age:.0f} s, more than {seconds:g} s"

    return check


@asynccontextmanager
async def serving(health: Health, *, objects: Callable[[], bytes], address: str, port: int) -> AsyncIterator[int]:
    """Serve /healthz, /readyz and /metrics; gives the port. An empty address means all interfaces.

    objects: the part of /metrics that is about objects.
    """

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY) + objects(), headers=_METRICS_HEADERS)

    app = web.Application()
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", metrics_page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, address or None, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _answer(checks: list[Check]) -> web.Response:
    problems = [problem for check in checks if (problem := check()) is not None]
    return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)
