"""HTTP to parties that may be slow, broken or hostile: short, small, no redirects, no cookies, no proxy.

Every trouble is `Unmeasured` with one short sentence. Must not interpret what comes back.
"""

import asyncio
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

import aiohttp

from pilotfish.ports import Unmeasured

LONGEST_ANSWER = 1 << 20
_CHUNK = 1 << 16


def host_of(address: str) -> str:
    """An IP address of a pod as the host of a URL. Raises Unmeasured for everything else.

    No name is ever looked up. Link-local addresses are no pod's: clouds keep the credentials of their machines there.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        raise Unmeasured("its address is no IP address") from None
    meant = (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed
    if meant.is_link_local or meant.is_multicast or meant.is_unspecified:
        raise Unmeasured("its address is no pod's")
    return f"[{parsed}]" if isinstance(parsed, IPv6Address) else str(parsed)


class BoundedHttp:
    """A client that opens nothing before its first request.

    seconds: for one whole exchange. at_once: how many may be under way; waiting for a turn costs no time.
    """

    def __init__(self, *, seconds: float, at_once: int) -> None:
        self._seconds = seconds
        self._turn = asyncio.Semaphore(at_once)
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, url: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body; a POST where there is a form. Raises Unmeasured."""
        try:
            async with self._turn:
                return await self._exchange(url, form, headers or {})
        except TimeoutError as error:
            raise Unmeasured(f"no answer within {self._seconds:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unmeasured("it does not accept connections") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unmeasured(f"it does not speak HTTP as expected ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close what was opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(
        self, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        request = self._opened().request(
            "GET" if form is None else "POST",
            url,
            data=form,
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
        )
        async with request as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > LONGEST_ANSWER:
                    raise Unmeasured(f"its answer is longer than {LONGEST_ANSWER} bytes")
            return response.status, bytes(body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection that stays open would hold up a server that is told to stop.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session
