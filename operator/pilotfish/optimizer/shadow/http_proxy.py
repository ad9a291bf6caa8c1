"""HTTP: every request to the stable revision and its answer back, byte by byte; a sample to the candidate as well."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from pilotfish.optimizer.shadow.answers import HEADER_LENGTH, read_http
from pilotfish.optimizer.shadow.comparing import Comparer, FailedError, Read, Sample, TooLargeError
from pilotfish.optimizer.shadow.upstreams import Upstream, Upstreams

# Of one connection, not of the request (RFC 9110, 7.6.1); the server has answered an Expect already.
_OWN = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_ADDED = (hdrs.CONTENT_TYPE, hdrs.DATE, hdrs.SERVER)
_COPIED = (hdrs.CONTENT_TYPE, hdrs.CONTENT_ENCODING, hdrs.ACCEPT_ENCODING, HEADER_LENGTH)
_CHUNK = 256 * 1024
_OK = 200
_TRIES = 2
# No more: a request that ends servers must not end all of them.
_HEADERS = web.ResponseKey("headers", CIMultiDict[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request as it came. `body` None: it is streamed and can be sent once."""

    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes | None
    stream: AsyncIterator[bytes] | None = None


class HttpProxy:
    """The handler of every path."""

    def __init__(self, upstreams: Upstreams, comparer: Comparer, session: aiohttp.ClientSession, *, model: str) -> None:
        self._upstreams, self._comparer, self._session = upstreams, comparer, session
        self._limits = comparer.limits
        self._infer = re.compile(rf"/v2/models/{re.escape(model)}(?:/versions/\d+)?/infer")
        self._held = 0

    def application(self) -> web.Application:
        """Takes any method and path."""
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self.handle)
        app.on_response_prepare.append(_only_its_own)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on."""
        self._comparer.counts.requests += 1
        size = request.content_length
        held = size if size is not None and size <= self._room() else 0
        self._held += held
        try:
            return await self._pass_on(request, buffers=held > 0 or not request.can_read_body)
        finally:
            self._held -= held

    def _room(self) -> int:
        return min(self._limits.request_bytes, self._limits.held_bytes - self._held)

    async def _pass_on(self, request: web.Request, *, buffers: bool) -> web.StreamResponse:
        asked = _Asked(
            method=request.method,
            path=request.raw_path if request.raw_path.startswith("/") else f"/{request.raw_path}",
            headers=_without_own(request.headers),
            body=await _read(request) if buffers else None,
            stream=None if buffers else request.content.iter_chunked(_CHUNK),
        )
        tried: frozenset[str] = frozenset()
        for _ in range(_TRIES if buffers else 1):
            chosen = self._upstreams.choose(but=tried)
            if chosen is None:
                break
            side, host = chosen
            try:
                answer = await self._ask(asked, side, host)
            except aiohttp.SocketTimeoutError:
                return _unavailable(504, "the server did not answer in time")
            except (aiohttp.ClientConnectionError, ConnectionError):
                side.lost(host)
                tried |= {host}
                continue
            except aiohttp.ClientError:
                return _unavailable(502, "the server did not answer as it should")
            sampled = self._sample(asked, side)
            async with answer:
                with sampled or nullcontext():
                    told = await _relay(request, answer, sampled)
                    if sampled is not None and answer.status == _OK:
                        self._compare(asked, answer.headers, sampled)
                    return told
        return _unavailable(503, "no server of this model is ready")

    async def _ask(self, asked: _Asked, side: Upstream, host: str) -> aiohttp.ClientResponse:
        patience = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect, sock_read=self._limits.answer)
        return await self._session.request(
            asked.method,
            side.url(host, asked.path),
            headers=asked.headers,
            data=asked.stream if asked.body is None else (asked.body or None),
            allow_redirects=False,
            skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
            timeout=patience,
        )

    def _sample(self, asked: _Asked, side: Upstream) -> Sample | None:
        """A place for it, when it is an inference that the stable revision answers and that can be sent again."""
        is_infer = asked.method == hdrs.METH_POST and self._infer.fullmatch(asked.path.partition("?")[0])
        if not is_infer or side is not self._upstreams.stable or not self._upstreams.candidate.hosts:
            return None
        sample = self._comparer.choose()
        if sample is not None and not asked.body:
            with sample:
                self._comparer.counts.dropped += 1
            return None
        return sample

    def _compare(self, asked: _Asked, headers: Mapping[str, str], sample: Sample) -> None:
        sample.compare(partial(read_http, headers=headers, most=self._limits.answer_bytes), partial(self._copy, asked))

    async def _copy(self, asked: _Asked) -> Read:
        """The same bytes to the candidate."""
        host = self._upstreams.candidate.pick()
        if host is None:
            raise FailedError
        headers = {name: asked.headers[name] for name in _COPIED if name in asked.headers}
        try:
            async with self._session.post(
                self._upstreams.candidate.url(host, asked.path),
                headers=headers,
                data=asked.body,
                allow_redirects=False,
                skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
                timeout=aiohttp.ClientTimeout(total=self._limits.candidate, sock_connect=self._limits.connect),
            ) as answer:
                if answer.status != _OK:
                    raise FailedError
                body = await _bounded(answer.content, self._limits.answer_bytes)
                return partial(read_http, body, answer.headers, most=self._limits.answer_bytes)
        except (aiohttp.ClientError, OSError):
            raise FailedError from None


async def _read(request: web.Request) -> bytes:
    """The whole body, as long as it was said to be."""
    return await request.content.read() if request.can_read_body else b""


async def _bounded(content: aiohttp.StreamReader, most: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > most:
            raise TooLargeError
    return bytes(body)


async def _relay(request: web.Request, answer: aiohttp.ClientResponse, sample: Sample | None) -> web.StreamResponse:
    """The answer as it comes; when it breaks off, so does the client's."""
    told = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_without_own(answer.headers))
    told[_HEADERS] = told.headers.copy()
    await told.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            if sample is not None:
                sample.keep(chunk)
            await told.write(chunk)
    except (aiohttp.ClientError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
        raise asyncio.CancelledError from None
    await told.write_eof()
    return told


async def _only_its_own(_request: web.Request, response: web.StreamResponse) -> None:
    """A passed-on answer has the headers that the server gave it, and no others."""
    given = response.get(_HEADERS)
    if given is not None:
        for name in _ADDED:
            if name not in given:
                response.headers.popall(name, None)


def _without_own(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get(hdrs.CONNECTION, "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OWN | named)


def _unavailable(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": f"shadow: {sentence}"}, status=status)
