"""Closed-loop load: so many threads, each asking again as soon as it is answered. Bounded in time and in count."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from pilotfish.cli.bench.figures import Level, summarize
from pilotfish.cli.bench.wires import Ask, OpenWire
from pilotfish.cli.port_forward import NoAnswer

WARM_UP = 3
"""Requests of each connection before anything counts."""
TICK = 0.1
"""Seconds between two words to whoever watches."""
MAX_ERRORS = 100
"""Of one thread, after which it gives up: nothing is learnt from more."""

OnTick = Callable[[float, int], None]
"""Hears the seconds and the answered requests so far."""


@dataclass(slots=True)
class _Tally:
    """What one thread saw."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""


def measure(
    open_wire: OpenWire, *, concurrency: int, seconds: float, max_requests: int, batch_size: int, on_tick: OnTick
) -> Level:
    """One level. Raises NoAnswer when the very first requests fail: then the rest would too."""
    with ExitStack() as stack:
        asks = [stack.enter_context(open_wire()) for _ in range(concurrency)]
        for ask in asks:
            for _ in range(WARM_UP):
                ask()
        tallies = [_Tally() for _ in asks]
        stop = threading.Event()
        share = -(-max_requests // concurrency)
        threads = [
            threading.Thread(target=_work, args=(ask, tally, stop, share), daemon=True)
            for ask, tally in zip(asks, tallies, strict=True)
        ]
        began, used = time.perf_counter(), time.process_time()
        try:
            for thread in threads:
                thread.start()
            _watch(threads, tallies, began + seconds, on_tick)
        finally:
            stop.set()
            ended, spent = time.perf_counter() - began, time.process_time() - used
        for thread in threads:
            thread.join()
    latencies = [latency for tally in tallies for latency in tally.latencies]
    return Level(
        concurrency=concurrency,
        requests=len(latencies),
        errors=sum(tally.errors for tally in tallies),
        seconds=ended,
        batch_size=batch_size,
        latency=summarize(latencies),
        client_busy=spent / ended if ended else 0.0,
        first_error=next((tally.first_error for tally in tallies if tally.first_error), ""),
    )


def _watch(threads: list[threading.Thread], tallies: list[_Tally], deadline: float, on_tick: OnTick) -> None:
    """Until the time is over or all threads have done their share."""
    began = time.perf_counter()
    while (left := deadline - time.perf_counter()) > 0 and any(thread.is_alive() for thread in threads):
        alive = next((thread for thread in threads if thread.is_alive()), threads[0])
        alive.join(timeout=min(TICK, left))
        on_tick(time.perf_counter() - began, sum(len(tally.latencies) for tally in tallies))


def _work(ask: Ask, tally: _Tally, stop: threading.Event, share: int) -> None:
    clock, latencies = time.perf_counter, tally.latencies
    while not stop.is_set() and len(latencies) + tally.errors < share and tally.errors < MAX_ERRORS:
        began = clock()
        try:
            ask()
        except NoAnswer as error:
            tally.errors += 1
            tally.first_error = tally.first_error or str(error)
            continue
        latencies.append(clock() - began)
