"""Closed-loop load over gRPC: so many clients, each with one request under way, each request one sample.

Requests are serialized once and answers are not parsed: the client takes as little CPU as Python can. Before a round
this process asks for the CPU while nobody sends anything: what it does not get then, others take.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.api.report import one_line
from pilotfish.optimizer.benchmark import CONTENDED, available_threads, quantile
from pilotfish.optimizer.tuning.figures import Round
from pilotfish.optimizer.tuning.search import PointError
from pilotfish.optimizer.worker import waiting_seconds

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_CALL_SECONDS = 60.0
_DRAIN_SECONDS = 1.0
_PROBE_SECONDS = 0.02
_CALM_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
_BLOCK = bytes(64 * 1024)
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How long one round takes: `seconds`, and until `min_requests` have ended, at most `max_seconds` or one answer."""

    settle_seconds: float = 0.1
    seconds: float = 0.5
    min_requests: int = 40
    max_seconds: float = 2.5


@dataclass(slots=True)
class _Window:
    """What the clients of one round write down: (end, seconds) of each answer."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    error: BaseException | None = None
    over: bool = False


@dataclass(slots=True)
class Patience:
    """How many seconds in all may be spent on asking who else is at work, and on waiting until nobody is."""

    seconds: float = 5.0
    spent: float = 0.0

    def is_calm(self) -> bool:
        """Whether they do; waits a little for it while there is patience left."""
        threads = available_threads(None)
        began = time.monotonic()
        most = min(_CALM_SECONDS, self.seconds - self.spent)
        calm = foreign_share(threads) <= CONTENDED
        while not calm and time.monotonic() - began < most:
            time.sleep(_PAUSE_SECONDS)
            calm = foreign_share(threads) <= CONTENDED
        self.spent += time.monotonic() - began
        return calm


def drive(
    address: str, requests: Sequence[bytes], *, concurrency: int, plan: LoadPlan, patience: Patience | None = None
) -> Round:
    """One round of load on a server at `address` (host:port); without `patience` nobody asks who else is at work.

    Raises:
        PointError: a request was not answered.
    """
    contended = patience is not None and not patience.is_calm()
    window, seconds = asyncio.run(_round(address, requests, concurrency=concurrency, plan=plan))
    if window.error is not None:
        raise PointError(f"a request failed: {_reason(window.error)}")
    times = sorted(taken for _, taken in window.answers)
    if not times:
        raise PointError(f"no request was answered within {_CALL_SECONDS:g} s")
    return Round(
        requests=len(times),
        throughput=len(times) / seconds,
        p50_ms=quantile(times, 0.50) * 1e3,
        p95_ms=quantile(times, 0.95) * 1e3,
        p99_ms=quantile(times, 0.99) * 1e3,
        contended=contended,
    )


async def _round(address: str, requests: Sequence[bytes], *, concurrency: int, plan: LoadPlan) -> tuple[_Window, float]:
    from grpc import aio

    window = _Window()
    async with aio.insecure_channel(address, options=_OPTIONS) as channel:
        call = channel.unary_unary(_INFER)
        clients = [asyncio.create_task(_client(call, requests, index, window)) for index in range(concurrency)]
        await asyncio.sleep(plan.settle_seconds)
        began = time.perf_counter()
        while not window.error:
            counted = sum(end >= began for end, _ in window.answers)
            now = time.perf_counter() - began
            enough = counted >= plan.min_requests or (counted and now >= plan.max_seconds)
            if (now >= plan.seconds and enough) or now >= _CALL_SECONDS:
                break
            await asyncio.sleep(min(plan.seconds, plan.max_seconds) / 5)
        ended = time.perf_counter()
        window.over = True
        _, late = await asyncio.wait(clients, timeout=_DRAIN_SECONDS)
        for client in late:
            client.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    window.answers = [(end, taken) for end, taken in window.answers if began <= end <= ended]
    return window, ended - began


async def _client(call: Any, requests: Sequence[bytes], index: int, window: _Window) -> None:
    while not window.over:
        began = time.perf_counter()
        try:
            await call(requests[index % len(requests)], timeout=_CALL_SECONDS)
        except Exception as error:  # noqa: BLE001 - the first one ends the round and becomes its reason
            window.error = window.error or error
            return
        ended = time.perf_counter()
        window.answers.append((ended, ended - began))
        index += 1


def _reason(error: BaseException) -> str:
    details = getattr(error, "details", None)
    return one_line(str(details() if callable(details) else error), limit=200)


def foreign_share(threads: int) -> float:
    """Share of a moment that `threads` busy threads waited for a CPU."""
    shares = [0.0] * threads
    workers = [threading.Thread(target=_work, args=(shares, index)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(shares) / threads


def _work(shares: list[float], index: int) -> None:
    waited, began = _waited(), time.perf_counter()
    while time.perf_counter() - began < _PROBE_SECONDS:
        hashlib.sha256(_BLOCK)  # lets go of the interpreter's lock
    shares[index] = (_waited() - waited) / (time.perf_counter() - began)


def _waited() -> float:
    """Seconds that this thread wanted a CPU and did not get one; 0 where the kernel keeps no such figures."""
    return waiting_seconds([Path(f"/proc/self/task/{threading.get_native_id()}")])
