"""Which requests are asked of the candidate too, and what comes of it. Never in the way of a client.

A request is asked again only after its client has the whole answer, at most so many at once; what is chosen beyond that
is dropped. Nothing of a request or an answer is kept or told, only counted.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from pilotfish.optimizer.shadow.answers import Outputs, UnreadableError, agree
from pilotfish.optimizer.shadow.counts import Counts
from pilotfish.optimizer.shadow.limits import Limits
from pilotfish.optimizer.verify import Bounds


class FailedError(Exception):
    """The candidate did not answer, or not with an answer."""


class TooLargeError(Exception):
    """An answer that is not compared."""


Read = Callable[[], Outputs]
"""Decodes an answer that is there; runs beside the event loop. Raises UnreadableError."""
Ask = Callable[[], Awaitable[Read]]
"""Sends the same bytes to the candidate. Raises FailedError or TooLargeError."""


class Comparer:
    """Chooses, asks, compares, counts."""

    def __init__(
        self, *, rate: Callable[[], float], bounds: Bounds, limits: Limits, chance: random.Random | None = None
    ) -> None:
        self.counts = Counts()
        self.limits = limits
        self._rate, self._bounds = rate, bounds
        self._chance = chance or random.Random()  # noqa: S311 - a sample, not a secret
        self._free = limits.copies
        self._tasks: set[asyncio.Task[None]] = set()

    def choose(self) -> "Sample | None":
        """A place for this request, when it is one of the sample and there is a place. Close it."""
        if self._chance.random() >= self._rate():
            return None
        if self._free == 0:
            self.counts.dropped += 1
            return None
        self._free -= 1
        return Sample(_comparer=self)

    def begin(self, read: Read, ask: Ask) -> None:
        """Compare in the background; the place is free again when it is done."""
        task = asyncio.create_task(self._compare(read, ask))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def free(self) -> None:
        """A place that was not used."""
        self._free += 1

    async def stop(self) -> None:
        """Forget what is under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.free()
        if not task.cancelled() and task.exception() is not None:
            self.counts.dropped += 1

    async def _compare(self, read: Read, ask: Ask) -> None:
        try:
            wanted = await asyncio.to_thread(read)
            async with asyncio.timeout(self.limits.candidate):
                answer = await ask()
        except (FailedError, TimeoutError):
            self.counts.failed += 1
            return
        except (UnreadableError, TooLargeError):
            self.counts.dropped += 1
            return
        equal = False
        with suppress(UnreadableError):
            equal = await asyncio.to_thread(lambda: agree(answer(), wanted, self._bounds))
        self.counts.compared += 1
        self.counts.agreed += equal


@dataclass(slots=True, kw_only=True)
class Sample:
    """A request that was chosen, while its client gets the answer."""

    _comparer: Comparer
    _chunks: list[bytes] = field(default_factory=list)
    _size: int = 0
    _gone: bool = False

    def __enter__(self) -> Self:
        """The place is taken already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back unless a comparison has it."""
        if not self._gone:
            self._gone = True
            self._comparer.free()

    def keep(self, chunk: bytes) -> None:
        """A part of the stable revision's answer, as long as it is not too large."""
        self._size += len(chunk)
        if self._size > self._comparer.limits.answer_bytes:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def compare(self, read: Callable[[bytes], Outputs], ask: Ask) -> None:
        """The client has its answer: ask the candidate and compare."""
        if self._size > self._comparer.limits.answer_bytes:
            self._comparer.counts.dropped += 1
            return
        body = b"".join(self._chunks)
        self._gone = True
        self._comparer.begin(lambda: read(body), ask)
