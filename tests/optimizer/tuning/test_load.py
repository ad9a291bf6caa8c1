"""The load on a server that is nothing but gRPC: how many requests at once, what counts, what ends a round."""

import threading
import time
from concurrent import futures

import grpc
import pytest

from pilotfish.optimizer.tuning import load
from pilotfish.optimizer.tuning.load import LoadPlan, Patience, drive
from pilotfish.optimizer.tuning.search import PointError

SHORT = LoadPlan(settle_seconds=0.02, seconds=0.05, min_requests=12, max_seconds=0.2)


class Server:
    """Answers after `seconds`; counts how many requests were under way at once, and which came."""

    def __init__(self, seconds=0.002):
        self.seconds, self.refuses = seconds, False
        self.running = self.most = 0
        self.seen = set()
        self._lock = threading.Lock()

    def infer(self, request, context):
        with self._lock:
            self.seen.add(request)
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self._lock:
            self.running -= 1
        if self.refuses:
            context.abort(grpc.StatusCode.INTERNAL, "model 'm' failed:\n out of memory")
        return b"answer"


@pytest.fixture
def start():
    started = []

    def make(**settings):
        found = Server(**settings)
        handler = grpc.method_handlers_generic_handler(
            "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(found.infer)}
        )
        server = grpc.server(futures.ThreadPoolExecutor(16))
        server.add_generic_rpc_handlers((handler,))
        found.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        started.append(server)
        return found

    yield make
    for server in started:
        server.stop(None)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_so_many_requests_are_under_way_and_no_more(start, concurrency):
    server = start()
    told = drive(server.address, (b"a", b"b", b"c"), concurrency=concurrency, plan=SHORT)
    assert server.most == concurrency
    assert server.seen == {b"a", b"b", b"c"}
    assert told.requests >= 12
    assert 2 <= told.p50_ms <= told.p95_ms <= told.p99_ms
    assert 0 < told.throughput <= concurrency / server.seconds
    assert not told.contended


def test_a_slow_server_has_one_answer_at_least(start):
    told = drive(start(seconds=0.4).address, (b"a",), concurrency=2, plan=SHORT)
    assert told.requests >= 1
    assert told.p50_ms >= 400


def test_a_request_that_fails_ends_the_point(start):
    server = start()
    server.refuses = True
    with pytest.raises(PointError, match="a request failed: model 'm' failed: out of memory"):
        drive(server.address, (b"a",), concurrency=4, plan=SHORT)


def test_a_server_that_is_gone_ends_the_point():
    with pytest.raises(PointError, match="a request failed"):
        drive("127.0.0.1:1", (b"a",), concurrency=1, plan=SHORT)


def test_waiting_for_others_ends_with_the_patience(monkeypatch):
    asked = []
    monkeypatch.setattr(load, "foreign_share", lambda threads: asked.append(threads) or 0.9)
    monkeypatch.setattr(load, "_PAUSE_SECONDS", 0.01)
    patience = Patience(seconds=0.05)
    assert not patience.is_calm()
    assert patience.spent >= 0.05
    asked.clear()
    assert not patience.is_calm()
    assert len(asked) == 1, "it asks, and waits no more"
    monkeypatch.setattr(load, "foreign_share", lambda threads: 0.0)
    assert patience.is_calm()


def test_a_round_says_that_it_was_disturbed(start, monkeypatch):
    monkeypatch.setattr(load, "foreign_share", lambda threads: 0.9)
    told = drive(start().address, (b"a",), concurrency=1, plan=SHORT, patience=Patience(seconds=0.0))
    assert told.contended


def test_the_share_that_others_take_is_a_share():
    assert all(0 <= load.foreign_share(threads) <= 1.01 for threads in (1, 2, 8))
