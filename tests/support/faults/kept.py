"""An operator that is started again whenever it ends, as the kubelet does; a process of its own, or a thread."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

from support.faults.replica import Replica
from support.operator_process import OperatorProcess, running_operator

POLL = 0.05


class Life(Protocol):
    """One life of an operator."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""

    def end(self) -> None:
        """At once, without a good-bye; waits for it."""


class ProcessLife:
    """A process; `code` is its exit code once it has ended."""

    def __init__(self, kubeconfig: Path, **settings: Any) -> None:
        self._stack = ExitStack()
        self.process: OperatorProcess = self._stack.enter_context(running_operator(kubeconfig, **settings))

    @property
    def running(self) -> bool:
        return self.process.process.poll() is None

    @property
    def code(self) -> int | None:
        """None while it runs."""
        return self.process.process.poll()

    def end(self) -> None:
        self._stack.close()


class ThreadLife:
    """A thread; its proxy should be cut before it ends."""

    def __init__(self, kubeconfig: Path, **settings: Any) -> None:
        self.replica = Replica(kubeconfig, **settings).start()

    @property
    def running(self) -> bool:
        return self.replica.running

    def end(self) -> None:
        self.replica.kill()
        asyncio.run(self.replica.wait(seconds=60))


class Kept:
    """`lives` in their order: the last one is the present one.

    async with Kept(lambda: ProcessLife(proxy.kubeconfig)) as kept: ...
    """

    def __init__(self, begin: Callable[[], Life]) -> None:
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._stop = False
        self.lives: list[Any] = []

    @property
    def restarts(self) -> int:
        """How often it ended by itself."""
        return len(self.lives) - 1

    async def __aenter__(self) -> Self:
        self.lives.append(await asyncio.to_thread(self._begin))
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._stop = True
        await self._task
        await asyncio.gather(*(asyncio.to_thread(life.end) for life in self.lives))

    async def _keep(self) -> None:
        while not self._stop:
            if not self.lives[-1].running:
                self.lives.append(await asyncio.to_thread(self._begin))
            await asyncio.sleep(POLL)
