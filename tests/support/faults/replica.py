"""The real operator in a thread of its own, with its own event loop: real kopf, real client, real workers and Lease.

Many can run beside each other. Their clocks may run faster than the world's (`Pace`): a back-off, a hold or a resync of
a minute takes seconds. What only a process can have is left out: signals, and the kernel's hand that ends it.
"""

import asyncio
import json
import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aiohttp import ClientTimeout

from pilotfish.adapters import kube
from pilotfish.adapters.clock import ServerClock
from pilotfish.adapters.connection import connect
from pilotfish.controller import loop, main
from pilotfish.core.health.samples import Sample, ShadowCounters
from pilotfish.settings import OperatorSettings
from pilotfish.telemetry import logs

PATIENCE = 10
"""Waits for answers are so many times as long: clocks may run that fast and a request still has its time."""
_MAKE_SETTINGS = main.watching.make_settings

SETTINGS: dict[str, Any] = {
    "port": 0,
    "listen": "127.0.0.1",
    "identity": "operator-0",
    "resync": 20,
    "lease_duration": 900,
    "lease_renew_deadline": 800,
    "lease_retry": 10,
    "triton_version": "2.51.0",
    "drain": 0,
}
"""Long leases: a busy machine must not look like a fault."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Time that runs `speed` times as fast since it began; shared by all lives of an operator."""

    speed: float = 1.0
    began: float = field(default_factory=time.monotonic)
    epoch: datetime = field(default_factory=lambda: datetime.now(tz=UTC))

    def seconds(self) -> float:
        """Since it began."""
        return (time.monotonic() - self.began) * self.speed

    def now(self) -> datetime:
        """Aware UTC."""
        return self.epoch + timedelta(seconds=self.seconds())


class _Selector(selectors.DefaultSelector):
    """Waits shorter by the speed."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / self._speed)


class PacedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time runs at a pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__(_Selector(pace.speed))

    def time(self) -> float:
        return 1000 + self._pace.seconds()


def _here() -> "Replica":
    """Whose thread this is."""
    return threading.current_thread().replica  # type: ignore[attr-defined,no-any-return]


class _Clock(ServerClock):
    """The time of the operator that makes it, at its pace; the API server's own pace is not heard of."""

    def __init__(self) -> None:
        super().__init__()
        self._pace = _here().pace

    def hear(self, date: str | None, *, sent: float) -> None:
        """No."""

    def now(self) -> datetime:
        return self._pace.now()


class _Counters:
    """Every pod answers fifty requests a second, all of them well, and agrees with the other revision."""

    def __init__(self, *, clock: Any) -> None:
        self._clock = clock
        self._began = _here().pace.epoch

    async def sample(self, *, address: str, model: str) -> Sample:
        now = self._clock.now()
        count = int((now - self._began).total_seconds() * 50)
        return Sample(
            at=now,
            success=count,
            inferences=count,
            executions=count,
            request_us=count * 1000,
            compute_us=count * 900,
        )

    async def shadow(self, *, address: str) -> ShadowCounters:
        now = self._clock.now()
        count = int((now - self._began).total_seconds() * 50)
        return ShadowCounters(at=now, compared=count, agreed=count)

    async def close(self) -> None:
        """Nothing is open."""


class _Operator(main.Operator):
    """Without signals: they belong to the whole process."""

    def _take_signals(self) -> None:
        """Nobody sends any."""


class Replica:
    """One life of an operator. `ended`: how it ended, None while it runs; `error` what it raised."""

    def __init__(self, kubeconfig: Path, pace: Pace | None = None, **settings: Any) -> None:
        self.pace = pace or Pace()
        self.lines: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self.dead = False
        """Killed: what it logs from then on is not heard by anybody."""
        self._settings = OperatorSettings(**{**SETTINGS, "kubeconfig": kubeconfig, **settings})
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._operator: main.Operator | None = None
        self._thread = threading.Thread(target=self._run, name=f"operator-{id(self):x}", daemon=True)
        self._thread.replica = self  # type: ignore[attr-defined]

    def start(self) -> "Replica":
        """Begin."""
        self._thread.start()
        return self

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    @property
    def operator(self) -> main.Operator:
        """The operator itself, once it was made."""
        assert self._ready.wait(30), "the operator was not made"
        assert self._operator is not None, self.error
        return self._operator

    def kill(self) -> None:
        """End it without a good-bye. Its proxy must have been cut: a thread cannot be stopped in the middle."""
        self.dead = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # its loop is closed: it has ended
                self._loop.call_soon_threadsafe(self._task.cancel)

    def stop(self) -> None:
        """As SIGTERM does."""
        assert self._loop is not None
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.operator._stop.set)

    async def wait(self, *, seconds: float = 30) -> None:
        """Until it has ended. Raises AssertionError when it does not."""
        deadline = time.monotonic() + seconds
        again = time.monotonic() + 1
        while self.running:
            assert time.monotonic() < deadline, "the operator does not end"
            if self.dead and time.monotonic() > again:
                again += 1
                self.kill()
            await asyncio.sleep(0.02)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: PacedLoop(self.pace)) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - how it ended is what a test asks
            self.error = error
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._loop.set_exception_handler(self._complain)
        client = await connect(kubeconfig=self._settings.kubeconfig)
        self._operator = _Operator(self._settings, client)
        self._ready.set()
        if not self.dead:
            await self._operator.run()

    def _complain(self, told_by: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop has to say, sessions that nobody closed among it: a killed life's may be collected in any thread."""
        if not self.dead:
            told_by.default_exception_handler(context)


class _Lines:
    """A stream that gives each line to the operator in whose thread it was written."""

    def write(self, text: str) -> int:
        replica: Replica | None = getattr(threading.current_thread(), "replica", None)
        if replica is not None and not replica.dead and text.strip():
            replica.lines.append(json.loads(text))
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


@contextmanager
def operators_in_threads() -> Iterator[None]:
    """What Replica needs around it: logs by thread, played pods, clocks at a pace, and no hand of the kernel."""
    import logging

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure(level="DEBUG", style="json", stream=_Lines())  # type: ignore[arg-type]
    main.watching.quiet_libraries()
    with ExitStack() as replaced:
        replaced.enter_context(
            patch.multiple(main, ServerClock=_Clock, TritonMetrics=_Counters, end_process_at=lambda _moment: None)
        )
        replaced.enter_context(patch.object(loop, "PASS_LIMIT", loop.PASS_LIMIT * PATIENCE))
        patient = patch.multiple(
            kube,
            REQUEST_TIMEOUT=_patient(kube.REQUEST_TIMEOUT),
            _WATCH_TIMEOUT=_patient(kube._WATCH_TIMEOUT),
        )
        replaced.enter_context(patient)
        replaced.enter_context(patch.object(main.watching, "make_settings", _patient_kopf))
        try:
            yield
        finally:
            root.handlers, root.level = handlers, level


def _patient(timeout: ClientTimeout) -> ClientTimeout:
    """The same at the world's pace, or a busy machine would look like a fault."""
    names = ("total", "connect", "sock_read", "sock_connect")
    given = {name: getattr(timeout, name) for name in names}
    return ClientTimeout(**{name: value * PATIENCE if value else value for name, value in given.items()})


def _patient_kopf(**how: Any) -> Any:
    settings = _MAKE_SETTINGS(**how)
    settings.networking.connect_timeout *= PATIENCE
    settings.networking.request_timeout *= PATIENCE
    return settings
