"""How a tritonserver lets go of its clients, on a real one."""

import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from pilotfish.resources.triton_flags import TritonDrain
from support.infer import grpc, http, infer, metric
from support.repository import expected, linear_onnx, make_config, write_model
from support.switch import Switch

pytestmark = pytest.mark.triton

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def test_requests_in_the_queue_are_answered_after_sigterm(tmp_path, start_triton):
    body = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 1500000 }"
    repository = write_model(tmp_path / "models", "linear", make_config("linear", body=body), linear_onnx())
    server = start_triton(repository, drain=TritonDrain(exit_timeout_seconds=10)).wait_ready("linear")
    answers = {}

    def ask(name, client, module):
        answers[name] = infer(client, module, "linear", {"x": X})
        client.close()

    threads = [
        threading.Thread(target=ask, args=("http", http(server), triton_http)),
        threading.Thread(target=ask, args=("grpc", grpc(server), triton_grpc)),
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while metric(server, "nv_inference_pending_request_count") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert metric(server, "nv_inference_pending_request_count") == 2
    server.terminate()
    for thread in threads:
        thread.join(20)

    assert server.wait_ended(seconds=20) == 0
    for answer in (answers["http"], answers["grpc"]):
        np.testing.assert_allclose(answer, expected(X), rtol=1e-6)


def test_an_update_with_clients_all_the_time_loses_no_request(tmp_path, start_triton):
    """What the operator does: traffic moves, the old server gets SIGTERM once every channel's age has passed.

    An HTTP client that keeps one connection must renew it within that time: Triton closes none by itself.
    """
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    drain = TritonDrain(exit_timeout_seconds=15, grpc_connection_age_seconds=1)
    old = start_triton(repository, drain=drain, name="old").wait_ready("linear")
    new = start_triton(repository, drain=drain, name="new").wait_ready("linear")
    stop, failures, answers = threading.Event(), [], dict.fromkeys(("http", "http-new", "grpc"), 0)

    def ask(kind, address, renew_after):
        module = triton_grpc if kind == "grpc" else triton_http
        client, born = None, 0.0
        while not stop.is_set():
            if client is None or time.monotonic() - born > renew_after:
                client, born = module.InferenceServerClient(address), time.monotonic()
            try:
                infer(client, module, "linear", {"x": X})
                answers[kind] += 1
            except Exception as error:  # noqa: BLE001 -- every kind of failure counts
                failures.append((kind, str(error)))
                client = None

    with Switch(http=old.ports.http, grpc=old.ports.grpc) as service:
        clients = {"http": (service.http, 1), "http-new": (service.http, 0), "grpc": (service.grpc, float("inf"))}
        threads = [threading.Thread(target=ask, args=(kind, *settings)) for kind, settings in clients.items()]
        for thread in threads:
            thread.start()
        wait_until(lambda: min(answers.values()) > 20)
        service.move(http=new.ports.http, grpc=new.ports.grpc)
        # Channels end at their age, give or take a tenth: all of them, and no sooner, leave the old server.
        wait_until(lambda: service.connections_to(old.ports.http, old.ports.grpc) == 0)
        old.terminate()
        code = old.wait_ended(seconds=15)
        before = dict(answers)
        wait_until(lambda: all(answers[kind] > before[kind] + 20 for kind in answers))
        stop.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert code == 0, "nothing held the old server up"
    assert metric(new, "nv_inference_request_success") > 60


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.05)
