"""Clients of a gateway that ask all the time: every answer and every failure counts."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

import grpc

HTTP_HOST, GRPC_HOST = "digits.example.org", "grpc.digits.example.org"
GATEWAY = {"name": "public", "hostnames": [HTTP_HOST], "grpc": {"hostnames": [GRPC_HOST]}}
"""spec.serving.gateway for the Gateway of `hack/cluster/cluster gateway`."""
TIMEOUT_SECONDS = 10

AskHttp = Callable[[http.client.HTTPConnection], str]
AskGrpc = Callable[[grpc.Channel], str]
Counts = dict[str, Counter[str]]


class Refused(Exception):
    """An answer that is none."""


class GatewayClients:
    """HTTP in two threads, kept alive, and gRPC in two over one channel.

    `ask_http` and `ask_grpc` make one request and name who answered. `failures`: moment, protocol and words of each
    request that failed.
    """

    def __init__(self, address: str, *, ask_http: AskHttp, ask_grpc: AskGrpc, pause_seconds: float = 0.0) -> None:
        self.answers: Counts = {"http": Counter(), "grpc": Counter()}
        self.failures: list[tuple[float, str, str]] = []
        self._address, self._pause = address, pause_seconds
        self._ask = {"http": ask_http, "grpc": ask_grpc}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._channel = grpc.insecure_channel(address, options=[("grpc.default_authority", GRPC_HOST)])
        loops = (self._loop_http, self._loop_grpc) * 2
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in loops]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def counts(self) -> Counts:
        """Answers so far, by protocol and who answered."""
        with self._lock:
            return {kind: counter.copy() for kind, counter in self.answers.items()}

    def since(self, before: Counts) -> Counts:
        """Answers since then."""
        return {kind: counter - before[kind] for kind, counter in self.counts().items()}

    def counts_while(self, holds: Callable[[], bool]) -> Counts:
        """Answers from now until the last moment of which `holds` was still true afterwards."""
        before = self.counts()
        last = before
        while True:
            now = self.counts()
            if not holds():
                return {kind: counter - before[kind] for kind, counter in last.items()}
            last = now
            time.sleep(0.2)

    def _loop_http(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        while not self._stop.is_set():
            try:
                self._count("http", self._ask["http"](connection))
            except Refused as error:
                self._fail("http", error)
            except (OSError, http.client.HTTPException) as error:
                self._fail("http", error)
                connection.close()
            self._stop.wait(self._pause)
        connection.close()

    def _loop_grpc(self) -> None:
        while not self._stop.is_set():
            try:
                self._count("grpc", self._ask["grpc"](self._channel))
            except (Refused, grpc.RpcError) as error:
                self._fail("grpc", error)
            self._stop.wait(self._pause)

    def _count(self, kind: str, who: str) -> None:
        with self._lock:
            self.answers[kind][who] += 1

    def _fail(self, kind: str, error: Exception) -> None:
        with self._lock:
            self.failures.append((time.time(), kind, repr(error)[:300]))


def until_it_answers(make: Callable[[], GatewayClients], *, attempts: int = 50) -> None:
    """A gateway begins to listen with its first route: until a short while passes without a failure."""
    for _ in range(attempts):
        with make() as clients:
            time.sleep(0.2)
        if not clients.failures and all(clients.answers.values()):
            return
    raise AssertionError(f"the gateway does not answer: {clients.failures[-3:]}")
