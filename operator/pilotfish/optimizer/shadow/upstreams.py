"""Who is there: the pods of one revision by address, looked up again and again, and which of them are ready.

Goes on with the last known addresses while names cannot be resolved: a dead resolver stops nobody's requests.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import count
from typing import NoReturn

import aiohttp
from yarl import URL

from pilotfish.api.job_input import ShadowSide
from pilotfish.optimizer.shadow.limits import Limits

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]
_OK = 200


async def resolve(host: str) -> tuple[str, ...]:
    """All addresses of a name, sorted. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(sorted({str(address[0]) for *_, address in found}))


class Upstream:
    """One revision's pods."""

    def __init__(
        self, side: ShadowSide, *, model: str, session: aiohttp.ClientSession, limits: Limits, resolve: Resolve
    ) -> None:
        self.side = side
        self.hosts: tuple[str, ...] = ()
        self.ready: tuple[str, ...] = ()
        self._path = f"/v2/models/{model}/versions/1/ready"
        self._session, self._limits, self._resolve = session, limits, resolve
        self._turn = count()

    async def watch(self) -> NoReturn:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._limits.look)

    async def look(self) -> None:
        """Who is there now, and who of them is ready."""
        try:
            async with asyncio.timeout(self._limits.ready):
                self.hosts = await self._resolve(self.side.host)
        except (OSError, UnicodeError):
            pass  # The last known ones stay; whether they are ready is asked of themselves.
        answers = await asyncio.gather(*(self._is_ready(host) for host in self.hosts))
        self.ready = tuple(host for host, ready in zip(self.hosts, answers, strict=True) if ready)

    def pick(self, *, but: frozenset[str] = frozenset()) -> str | None:
        """A ready pod's address, each in its turn; None when there is none."""
        chosen = [host for host in self.ready if host not in but]
        return chosen[next(self._turn) % len(chosen)] if chosen else None

    def lost(self, host: str) -> None:
        """It did not take a request: not again before it was looked at."""
        self.ready = tuple(known for known in self.ready if known != host)

    def url(self, host: str, path: str) -> URL:
        """The address of a raw path, its escapes as they came."""
        return URL(f"http://{_bracketed(host)}:{self.side.http}{path}", encoded=True)

    def target(self, host: str) -> str:
        """host:port of the gRPC endpoint."""
        return f"{_bracketed(host)}:{self.side.grpc}"

    async def _is_ready(self, host: str) -> bool:
        patience = aiohttp.ClientTimeout(total=self._limits.ready, sock_connect=self._limits.connect)
        try:
            async with self._session.get(self.url(host, self._path), timeout=patience) as answer:
                return answer.status == _OK
        except (aiohttp.ClientError, OSError):
            return False


class Upstreams:
    """The stable revision, which answers, and the candidate, which is compared."""

    def __init__(self, stable: Upstream, candidate: Upstream) -> None:
        self.stable, self.candidate = stable, candidate

    async def look(self) -> None:
        """Look at both once."""
        await asyncio.gather(self.stable.look(), self.candidate.look())

    async def watch(self) -> None:
        """Look at both for ever."""
        await asyncio.gather(self.stable.watch(), self.candidate.watch())

    @property
    def endpoints(self) -> int:
        """Ready endpoints of the traffic Service: both revisions' and the shadow itself."""
        return len(self.stable.ready) + len(self.candidate.ready) + 1

    def choose(self, *, but: frozenset[str] = frozenset()) -> tuple[Upstream, str] | None:
        """Who answers: a stable pod. With none of them ready the candidate, as the Service itself would have it."""
        for side in (self.stable, self.candidate):
            host = side.pick(but=but)
            if host is not None:
                return side, host
        host = next((host for host in self.stable.hosts if host not in but), None)
        return None if host is None else (self.stable, host)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
