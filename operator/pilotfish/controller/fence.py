"""A cluster that writes only while this replica holds the Lease; reading is always allowed.

A process that is stopped (SIGSTOP, a frozen cgroup) between looking at the Lease and sending its write knows nothing of
the time that has passed when it goes on. The kernel does: `end_process_at` has it end the process first.
"""

import asyncio
import ctypes
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from pilotfish.ports import Body, Cluster, ClusterError, ObjectRef


class NotLeader(ClusterError):
    """This replica does not hold the Lease (any more): nothing was written."""


class FencedCluster:
    """Every write asks `may_write_until` (loop time or None) first, and is cut off at that moment."""

    def __init__(self, cluster: Cluster, *, may_write_until: Callable[[], float | None]) -> None:
        self._cluster = cluster
        self._may_write_until = may_write_until

    async def get(self, ref: ObjectRef) -> Body | None:
        """The object, or None."""
        return await self._cluster.get(ref)

    async def list(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> tuple[Body, ...]:
        """All objects of a kind with these labels, sorted by namespace and name."""
        return await self._cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)

    async def apply(self, body: Body) -> Body:
        """As the cluster's; raises NotLeader."""
        async with self._writing():
            return await self._cluster.apply(body)

    async def delete(self, ref: ObjectRef) -> None:
        """As the cluster's; raises NotLeader."""
        async with self._writing():
            await self._cluster.delete(ref)

    async def write_status(self, body: Body) -> Body:
        """As the cluster's; raises NotLeader."""
        async with self._writing():
            return await self._cluster.write_status(body)

    async def emit(self, event: Body) -> None:
        """As the cluster's; raises NotLeader."""
        async with self._writing():
            await self._cluster.emit(event)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        until = self._may_write_until()
        if until is None:
            raise NotLeader("this replica does not hold the lease")
        try:
            async with asyncio.timeout_at(until):
                yield
        except TimeoutError as error:
            raise NotLeader("the lease ran out during a write") from error


def end_process_at(moment: float | None) -> None:
    """Let the kernel end this process at that loop time, before any other instruction; None: no more.

    The handler is libc's `_exit` itself (exit code SIGALRM, 14): Python's would run after other Python code, and the
    signal's default action does not end the first process of a container.
    """
    if moment is None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGALRM, ctypes.cast(libc._exit, ctypes.c_void_p))  # noqa: SLF001 - the name of a C function
    signal.setitimer(signal.ITIMER_REAL, max(1e-6, moment - asyncio.get_running_loop().time()))
