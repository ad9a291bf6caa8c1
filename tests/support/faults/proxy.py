"""A reverse proxy before an API server, TLS on both sides, that carries out a plan of faults.

It lives in a thread of its own, so a test may block while an operator talks through it. Everything an operator does to
the world goes through its proxy: once that is cut, the operator is as dead to the world as after SIGKILL.

    with proxies() as host:
        proxy = host.open(account_kubeconfig, plan)
        with running_operator(proxy.kubeconfig): ...
        proxy.set(Plan((Fault(act=Act.ANSWER, on=On.ANY, code=503, times=FOR_EVER),)))   # an outage begins
        proxy.set(NONE)                                                                  # and ends
        proxy.cut(); proxy.mend()                                                        # connections refused
"""

import asyncio
import base64
import json
import secrets
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import yaml
from aiohttp import web
from multidict import CIMultiDict

from support.faults.certificates import Certificate, make_certificate
from support.faults.plan import CRASHES, EVERYTHING, NONE, Act, Counted, Fault, On, Plan, as_status
from support.faults.requests import About, Delivered, Exchange, Trace, read_about
from support.status_check import check_status

T = TypeVar("T")
_HOP = {
    "connection",
    "transfer-encoding",
    "keep-alive",
    "content-length",
    "host",
    "accept-encoding",
    "content-encoding",
}
_LONG = aiohttp.ClientTimeout(total=None, sock_connect=10)
LIMIT = 16 * 2**20
_NOT_LISTED = {"Event", "", "customresourcedefinitions"}
"""What the operator may not list has no earlier view to show."""


class _Gone(Exception):
    """The connection was broken on purpose: nothing is answered."""


class FaultProxy:
    """One listener. `counted` and `trace` may be handed on to the next one, when an operator starts again."""

    def __init__(self, host: "ProxyHost", source: Path, counted: Counted, trace: Trace) -> None:
        self.counted = counted
        self.trace = trace
        self.violations: list[str] = []
        """What does not hold of a status that was stored."""
        self.crashed: Callable[[], None] = lambda: None
        """Called, in the proxy's thread, when the plan lets the operator die."""
        self.changes_event: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda event: event
        """A test's own hand on every event of every stream; None drops it."""
        self.host = host
        self._source = source
        self._upstream = _Upstream(source)
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._frozen: str | None = None
        self.kubeconfig = host.folder / f"{secrets.token_hex(6)}.kubeconfig"

    # What a test may do, from any thread

    def set(self, plan: Plan) -> None:
        """From now on this plan; counting begins."""
        self._frozen = None
        self.counted.set(plan)

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self.host.do(self._close())

    def mend(self) -> None:
        """Listen again, on the same port."""
        self.host.do(self._listen())

    def close(self) -> None:
        """For good."""
        self.host.do(self._close())
        self.host.do(self._upstream.close())

    # The listener

    async def _listen(self) -> None:
        app = web.Application(client_max_size=LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(
            runner, "127.0.0.1", self._port, ssl_context=self.host.certificate.server_context(), reuse_address=True
        )
        await site.start()
        self._runner = runner
        if not self._port:
            self._port = int(runner.addresses[0][1])
            self._write_kubeconfig()

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        if runner.server is not None:
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        with suppress(Exception):
            await runner.cleanup()

    def _write_kubeconfig(self) -> None:
        told = yaml.safe_load(self._source.read_text())
        authority = base64.b64encode(self.host.certificate.certificate.read_bytes()).decode()
        for cluster in told["clusters"]:
            cluster["cluster"] = {
                "server": f"https://127.0.0.1:{self._port}",
                "certificate-authority-data": authority,
            }
        self.kubeconfig.write_text(yaml.safe_dump(told))

    # One request

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        about = read_about(request.method, request.path, request.query)
        exchange = Exchange(about=about, query=dict(request.query), at=time.monotonic())
        self.trace.exchanges.append(exchange)
        body = await request.read()
        try:
            return await self._answer(request, exchange, body)
        except _Gone:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPServiceUnavailable from None
        except aiohttp.ClientError:
            if request.transport is not None:
                request.transport.abort()
            raise web.HTTPBadGateway from None

    async def _answer(self, request: web.Request, exchange: Exchange, body: bytes) -> web.StreamResponse:
        about = exchange.about
        fault = self.counted.meet(about.on, kind=about.kind, name=about.name, verb=about.verb)
        if fault is not None and fault.act is Act.FREEZE and (about.kind in _NOT_LISTED or not self.trace.versions):
            fault = None
        exchange.fault = fault
        query = dict(request.query)
        if fault is not None:
            early = await self._before(fault, exchange, query)
            if early is not None:
                return early
        if about.watch:
            return await self._stream(request, exchange)
        told = await self._ask(request, request.path, dict(request.query), body)
        if fault is not None and fault.act is Act.FREEZE:
            told = await self._ask_frozen(request, about, query, live=told)
        exchange.code = told.status
        self._note(exchange, told.text)
        return await self._after(request, exchange, told)

    async def _ask(self, request: web.Request, path: str, query: dict[str, str], body: bytes) -> "_Answer":
        async with self._upstream.ask(request, path, query, body) as answer:
            return _Answer(answer.status, _kept(answer.headers), await answer.read())

    async def _ask_frozen(
        self, request: web.Request, about: About, query: dict[str, str], *, live: "_Answer"
    ) -> "_Answer":
        """The answer of an earlier moment; the present one where that moment is not kept any more."""
        path = request.path.rpartition("/")[0] if about.name else request.path
        told = await self._ask(request, path, query, b"")
        if told.status == 410:
            return live
        return _one_of(told) if about.name else told

    async def _before(self, fault: Fault, exchange: Exchange, query: dict[str, str]) -> web.StreamResponse | None:
        match fault.act:
            case Act.CRASH_BEFORE:
                await self._die()
            case Act.RESET:
                raise _Gone
            case Act.ANSWER:
                exchange.told = fault.code
                headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
                told = as_status(fault.code, retry_after=fault.retry_after)
                return web.json_response(told, status=fault.code, headers=headers)
            case Act.DELAY:
                await asyncio.sleep(fault.seconds)
            case Act.BLACK_HOLE:
                await asyncio.sleep(fault.seconds or 3600)
                raise _Gone
            case Act.FREEZE:
                self._freeze(fault, exchange.about, query)
        return None

    def _freeze(self, fault: Fault, about: About, query: dict[str, str]) -> None:
        """Ask for the view of an earlier moment; the moment is chosen at the first frozen read."""
        if self._frozen is None or self.counted.acted.count(fault) == 1:
            seen = self.trace.versions
            back = len(seen) if fault.back == EVERYTHING else fault.back + 1
            self._frozen = str(seen[max(0, len(seen) - back)])
        query.update(resourceVersion=self._frozen, resourceVersionMatch="Exact")
        if about.name:
            query["fieldSelector"] = f"metadata.name={about.name}"

    async def _after(self, request: web.Request, exchange: Exchange, told: "_Answer") -> web.StreamResponse:
        act = None if exchange.fault is None else exchange.fault.act
        if act is Act.CRASH_AFTER:
            await self._die()
        if act is Act.LOSE_ANSWER:
            raise _Gone
        if act is Act.TRUNCATE:
            told.headers["Content-Length"] = str(len(told.text))
            half = web.StreamResponse(status=told.status, headers=told.headers)
            await half.prepare(request)
            await half.write(told.text[: len(told.text) // 2])
            raise _Gone
        exchange.told = told.status
        return web.Response(status=told.status, headers=told.headers, body=told.text)

    async def _die(self) -> None:
        """The operator's last moment: nothing that it says from here on reaches anybody."""
        self.crashed()
        self.host.later(self._close())
        raise _Gone

    def _note(self, exchange: Exchange, text: bytes) -> None:
        if not exchange.is_write or exchange.code >= 300:
            return
        with suppress(ValueError):
            exchange.stored = json.loads(text)
        stored = exchange.stored or {}
        self.trace.saw(stored.get("metadata", {}).get("resourceVersion"))
        if exchange.about.subresource == "status" and exchange.about.kind == "ModelDeployment":
            try:
                check_status(stored)
            except AssertionError as error:
                self.violations.append(str(error))

    # Streams

    async def _stream(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        async with self._upstream.ask(request, request.path, dict(request.query), b"") as answer:
            exchange.code = exchange.told = answer.status
            if answer.status >= 300:
                return web.Response(status=answer.status, headers=_kept(answer.headers), body=await answer.read())
            stream = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
            await stream.prepare(request)
            try:
                async for line in answer.content:
                    for told in await self._event(exchange.about, line, stream):
                        await stream.write(told)
            except ConnectionError:
                raise _Gone from None
            except _Gone:
                # What was written must arrive before the connection breaks.
                await asyncio.sleep(0.01)
                raise
            with suppress(ConnectionError):
                await stream.write_eof()
            return stream

    async def _event(self, about: About, line: bytes, stream: web.StreamResponse) -> list[bytes]:
        event = self.changes_event(json.loads(line))
        if event is None:
            return []
        metadata = event["object"].get("metadata", {})
        self.trace.saw(metadata.get("resourceVersion"))
        line = json.dumps(event).encode() + b"\n"
        if event["type"] in {"BOOKMARK", "ERROR"}:
            return [line]
        name = metadata.get("name", "")
        fault = self.counted.meet((On.EVENT,), kind=about.kind, name=name, type=event["type"])
        self.trace.events.append(
            Delivered(type=event["type"], kind=about.kind, name=name, at=time.monotonic(), fault=fault)
        )
        return [line] if fault is None else await self._fault_in_stream(fault, line, stream)

    async def _fault_in_stream(self, fault: Fault, line: bytes, stream: web.StreamResponse) -> list[bytes]:
        match fault.act:
            case Act.DROP:
                return []
            case Act.DOUBLE:
                return [line, line]
            case Act.SAY:
                return [json.dumps({"type": "ERROR", "object": as_status(fault.code)}).encode() + b"\n"]
            case Act.TRUNCATE:
                await stream.write(line[: len(line) // 2])
                raise _Gone
            case Act.RESET:
                raise _Gone
            case Act.DELAY:
                await asyncio.sleep(fault.seconds)
            case Act.BLACK_HOLE:
                await asyncio.sleep(fault.seconds or 3600)
                raise _Gone
            case act if act in CRASHES:
                await self._die()
        return [line]


def _kept(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in _HOP)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the API server answered, whole."""

    status: int
    headers: CIMultiDict[str]
    text: bytes


def _one_of(told: _Answer) -> _Answer:
    """The only object of a list, as a get would answer."""
    if told.status != 200:
        return told
    listed = json.loads(told.text)
    if not listed["items"]:
        return _Answer(404, told.headers, json.dumps(as_status(404)).encode())
    kind = listed["kind"].removesuffix("List")
    one = {**listed["items"][0], "apiVersion": listed["apiVersion"], "kind": kind}
    return _Answer(200, told.headers, json.dumps(one).encode())


class _Upstream:
    """The API server behind a kubeconfig, with its client certificate if it names one."""

    def __init__(self, source: Path) -> None:
        told = yaml.safe_load(source.read_text())
        self._server = told["clusters"][0]["cluster"]["server"].rstrip("/")
        self._context = _client_context(told)
        self._session: aiohttp.ClientSession | None = None

    def ask(self, request: web.Request, path: str, query: dict[str, str], body: bytes) -> Any:
        """The same request there."""
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_LONG, auto_decompress=True, read_bufsize=LIMIT
            )
        url = f"{self._server}{path}{'?' + urlencode(query) if query else ''}"
        return self._session.request(
            request.method, url, headers=_kept(request.headers), data=body or None, allow_redirects=False
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _client_context(told: dict[str, Any]) -> ssl.SSLContext:
    cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
    context = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority"))
    certificate = _pem(user, "client-certificate")
    if certificate:
        with tempfile.NamedTemporaryFile("w") as both:
            both.write(f"{certificate}\n{_pem(user, 'client-key')}")
            both.flush()
            context.load_cert_chain(both.name)
    return context


def _pem(section: dict[str, Any], name: str) -> str:
    if f"{name}-data" in section:
        return base64.b64decode(section[f"{name}-data"]).decode()
    return Path(section[name]).read_text() if name in section else ""


class ProxyHost:
    """The thread of all proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate: Certificate = make_certificate(folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._open: list[FaultProxy] = []

    def open(
        self, kubeconfig: Path, plan: Plan = NONE, *, counted: Counted | None = None, trace: Trace | None = None
    ) -> FaultProxy:
        """A listener before the API server of a kubeconfig; `proxy.kubeconfig` leads through it, as the same user."""
        proxy = FaultProxy(self, kubeconfig, counted or Counted(plan), trace or Trace())
        self.do(proxy._listen())
        self._open.append(proxy)
        return proxy

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the proxies' thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start it, from within the proxies' thread."""
        task = self._loop.create_task(work)
        task.add_done_callback(lambda done: done.exception())

    def close(self) -> None:
        """All of them, and the thread."""
        for proxy in self._open:
            proxy.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


@contextmanager
def proxies() -> Iterator[ProxyHost]:
    """A host for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        host = ProxyHost(Path(folder))
        try:
            yield host
        finally:
            host.close()
