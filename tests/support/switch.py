"""A stand-in for a Service: new connections go where it points now, open ones stay where they are."""

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Self


class Switch:
    """Two loopback ports, `http` and `grpc` (host:port), forwarded to the ports given here or to `move`."""

    def __init__(self, *, http: int, grpc: int) -> None:
        self.http = self.grpc = ""
        self._targets = {"http": http, "grpc": grpc}
        self._open: Counter[int] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def move(self, *, http: int, grpc: int) -> None:
        """Send new connections elsewhere."""
        self._targets = {"http": http, "grpc": grpc}

    def connections_to(self, *ports: int) -> int:
        """How many connections are open to these ports."""
        return sum(self._open[port] for port in ports)

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        self.http, self.grpc = (
            asyncio.run_coroutine_threadsafe(self._listen(kind), self._loop).result() for kind in ("http", "grpc")
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut what is open."""
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, kind: str) -> str:
        server = await asyncio.start_server(lambda *ends: self._serve(kind, *ends), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _serve(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._targets[kind]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        self._open[port] += 1
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._open[port] -= 1

    async def _cancel(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
