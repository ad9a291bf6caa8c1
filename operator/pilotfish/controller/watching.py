"""How kopf watches: its settings, its identity, its patience. Must not handle anything."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from random import Random
from typing import Any

import kopf

from pilotfish.adapters.connection import Credentials
from pilotfish.api.base import GROUP

RELOGIN = 2.0
"""Seconds between two logins with the same credentials."""
STREAM = 60
"""Seconds that a stream lives: the server ends it with a bookmark, and the next one goes on from there. So one that has
fallen silent while connected is given up soon, without kopf's own limit on silence: that one cancels whatever the
watcher awaits, and met in the moment in which it hands an event on, the watcher would end without a word."""
_NEVER = datetime(9000, 1, 1, tzinfo=UTC)


class EndlessBackoffs(Iterable[float]):
    """1, 2, 4, … seconds, at most 30, for ever, each with up to a third more: kopf outlives any outage of the API."""

    def __iter__(self) -> Iterator[float]:
        jitter = Random()  # noqa: S311 - spreads load, guards nothing
        for seconds in chain((1, 2, 4, 8, 16), repeat(30)):
            yield seconds * jitter.uniform(1, 4 / 3)


class NothingKept(kopf.DiffBaseStorage):
    """No last handled state, and none to compare with: kopf makes one for every event, and `on.event` never asks."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Empty, instead of a deep copy of the object."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """There never was one."""

    def store(self, **_: Any) -> None:
        """Nothing is written to the user's object."""


def make_settings() -> kopf.OperatorSettings:
    """Settings of kopf: alone, silent, patient."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.diffbase_storage = NothingKept()
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.watching.server_timeout = STREAM
    settings.watching.client_timeout = STREAM + 10
    settings.watching.inactivity_timeout = 10 * STREAM
    settings.watching.chunk_size = 500
    settings.watching.reconnect_backoff = 1.0
    settings.queueing.worker_limit = None
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = 20
    return settings


class Logins:
    """What kopf asks for who we are, first and again after each 401.

    kopf ends the process when it is told a second time what the server has refused, but a server that restarts refuses
    for a moment what is valid. So each answer differs in an expiration that never comes, and one that says nothing new
    is given only after a while.
    """

    def __init__(self, login: Callable[[], Awaitable[Credentials]]) -> None:
        self._login = login
        self._last: Credentials | None = None
        self._count = 0

    async def __call__(self) -> kopf.ConnectionInfo:
        """Who we are now."""
        told = await self._login()
        if told == self._last:
            await asyncio.sleep(RELOGIN)
            told = await self._login()
        self._last = told
        self._count += 1
        return replace(connection_info(told), expiration=_NEVER + timedelta(seconds=self._count))


def connection_info(credentials: Credentials) -> kopf.ConnectionInfo:
    """Let kopf talk to the same server as the same identity as our writes."""
    scheme, _, token = (credentials.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        insecure=not credentials.verify,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
        scheme=scheme or None,
        token=token or None,
    )


def quiet_libraries() -> None:
    """Drop kopf's line about each handler's success: a pass logs its own decision."""
    for name in ("kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
