"""Waiting for something that no event tells: the first true answer, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(what: str, probe: Callable[[], Awaitable[T]], *, seconds: float = 60.0) -> T:
    """The first true answer of `probe`. Raises AssertionError."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.1)
    return found
