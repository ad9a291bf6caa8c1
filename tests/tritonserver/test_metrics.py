"""The operator's reading of a real tritonserver's counters, against what was really sent."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from pilotfish.adapters.triton_metrics import TritonMetrics
from pilotfish.ports import Unmeasured
from support.infer import grpc, http, infer
from support.repository import linear_onnx, make_config, write_model

pytestmark = pytest.mark.triton

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


class Clock:
    def now(self):
        return datetime.now(tz=UTC)


async def sample(server, model="linear"):
    metrics = TritonMetrics(clock=Clock(), port=server.ports.metrics)
    try:
        return await metrics.sample(address="127.0.0.1", model=model)
    finally:
        await metrics.close()


async def first_sample(server):
    """The metrics' port opens a moment after the server says that it is ready."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            return await sample(server)
        except Unmeasured:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


async def settled(server, *, requests):
    """The server answers a request before it counts it: what is read is complete when it adds up."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        read = await sample(server)
        if read.success + sum(read.failures.values()) >= requests and read.executions >= requests:
            return read
        assert asyncio.get_running_loop().time() < deadline, f"not all {requests} requests were counted: {read}"
        await asyncio.sleep(0.05)


@pytest.fixture
def repository(tmp_path):
    # The config promises any width, the model takes four: a request of another width fails in the backend.
    return write_model(tmp_path / "models", "linear", make_config("linear", dims=-1), linear_onnx())


async def test_counters_are_what_was_sent_over_http_and_grpc(repository, start_triton):
    server = start_triton(repository).wait_ready("linear")
    before = await first_sample(server)
    assert (before.success, before.inferences, before.executions, before.request_us) == (0, 0, 0, 0)
    assert before.failures == {"BACKEND": 0, "CANCELED": 0, "OTHER": 0, "REJECTED": 0}
    assert before.quantiles == {}, "the server says NaN"

    over_http, over_grpc = http(server), grpc(server)
    for _ in range(20):
        infer(over_http, triton_http, "linear", {"x": X})
    for _ in range(30):
        infer(over_grpc, triton_grpc, "linear", {"x": X[:1]})
    for _ in range(2):
        with pytest.raises(triton_http.InferenceServerException):
            infer(over_http, triton_http, "linear", {"x": X[:, :3]})
    with pytest.raises(triton_grpc.InferenceServerException):
        infer(over_grpc, triton_grpc, "linear", {"x": X[:, :3]})

    after = await settled(server, requests=53)
    assert (after.success, after.inferences) == (50, 20 * 3 + 30)
    assert after.failures == {"BACKEND": 3, "CANCELED": 0, "OTHER": 0, "REJECTED": 0}
    assert after.executions == 53, "those that failed ran as well"
    assert 0 < after.queue_us + after.compute_us <= after.request_us
    assert list(after.quantiles) == [0.5, 0.9, 0.95, 0.99, 0.999]
    assert list(after.quantiles.values()) == sorted(after.quantiles.values())
    assert 0 < after.quantiles[0.5] <= after.request_us / 1000
    assert after.buckets == (), "this server has no histogram of plain models"
    with pytest.raises(Unmeasured, match="lack nv_inference_request_success"):
        await sample(server, "other")


async def test_a_server_that_starts_again_counts_from_zero(repository, start_triton):
    first = start_triton(repository, name="first").wait_ready("linear")
    infer(http(first), triton_http, "linear", {"x": X})
    await first_sample(first)
    assert (await settled(first, requests=1)).success == 1
    first.terminate()
    first.wait_ended()
    with pytest.raises(Unmeasured, match="does not accept connections"):
        await sample(first)
    second = start_triton(repository, name="second").wait_ready("linear")
    assert (await first_sample(second)).success == 0
