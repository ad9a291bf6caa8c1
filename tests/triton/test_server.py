"""The images' Triton and its backends, on a real tritonserver."""

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from pilotfish.api.model_config import WARMUP_FOLDER, ServingConfig, render_model_config, warmup_file
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.resources.triton_flags import ADMIN_HEADER, RESTRICTED_APIS, TritonDrain
from support.repository import expected, linear_onnx, make_config, scalars_onnx, serialize, write_model
from support.switch import Switch
from support.triton import ADMIN_KEY, VERSION, TritonError

pytestmark = pytest.mark.triton

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def infer(client, module, model, arrays, output="y"):
    inputs = []
    for name, array in arrays.items():
        tensor = module.InferInput(name, list(array.shape), {"float32": "FP32", "int64": "INT64"}[array.dtype.name])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return client.infer(model, inputs, model_version="1").as_numpy(output)


def http(server):
    return triton_http.InferenceServerClient(server.http_address, concurrency=8)


def grpc(server):
    return triton_grpc.InferenceServerClient(server.grpc_url)


def metric(server, name):
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


def test_onnx_over_http_and_grpc(tmp_path, start_triton):
    body = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    repository = write_model(tmp_path / "models", "linear", make_config("linear", body=body), linear_onnx())
    server = start_triton(repository).wait_ready("linear")

    assert server.get("/v2")[1].find(f'"version":"{VERSION}"') > 0
    np.testing.assert_allclose(infer(http(server), triton_http, "linear", {"x": X}), expected(X), rtol=1e-6)
    np.testing.assert_allclose(infer(grpc(server), triton_grpc, "linear", {"x": X}), expected(X), rtol=1e-6)
    assert metric(server, "nv_inference_request_success") == 2
    assert metric(server, "nv_inference_count") == 6


def test_concurrent_requests_run_as_one_batch_and_get_their_own_rows(tmp_path, start_triton):
    body = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 2000000 }"
    repository = write_model(tmp_path / "models", "linear", make_config("linear", body=body), linear_onnx())
    server = start_triton(repository).wait_ready("linear")
    rows = [X[[i % 3]] + i for i in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: infer(grpc(server), triton_grpc, "linear", {"x": row}), rows))

    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(answer, expected(row), rtol=1e-6)
    assert metric(server, "nv_inference_count") == 8
    assert metric(server, "nv_inference_exec_count") == 1


def test_scalars_and_free_dimensions_without_batching(tmp_path, start_triton):
    config = """
name: "scalars"
backend: "onnxruntime"
max_batch_size: 0
input { name: "values" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "times" data_type: TYPE_INT64 dims: [ 1 ] }
output { name: "total" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 2 kind: KIND_CPU }
"""
    repository = write_model(tmp_path / "models", "scalars", config, scalars_onnx())
    server = start_triton(repository).wait_ready("scalars")
    client = http(server)

    for size in (1, 5, 1000):
        values = np.ones(size, np.float32)
        answer = infer(client, triton_http, "scalars", {"values": values, "times": np.array([3])}, "total")
        assert answer.shape == (1,)
        assert answer[0] == 3 * size


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "cannot load model 'broken': 1/model.onnx is missing from the model repository"),
        ("truncated", "cannot load model 'broken':"),
        ("other-names", "config.pbtxt names output 'z' but model.onnx has y"),
        ("other-type", "config.pbtxt gives 'x' TYPE_FP64 but model.onnx has tensor(float)"),
        ("bad-threads", "parameter 'intra_op_thread_count' is 'many'; write a whole number"),
    ],
)
def test_a_model_that_cannot_be_served_ends_the_server_with_one_clear_line(tmp_path, start_triton, case, message):
    config, model = make_config("broken"), linear_onnx()
    if case == "missing":
        model = None
    elif case == "truncated":
        model = model[:40]
    elif case == "other-names":
        config = config.replace('"y"', '"z"')
    elif case == "other-type":
        config = config.replace('"x" data_type: TYPE_FP32', '"x" data_type: TYPE_FP64')
    else:
        config += 'parameters { key: "intra_op_thread_count" value { string_value: "many" } }'
    server = start_triton(write_model(tmp_path / "models", "broken", config, model))

    with pytest.raises(TritonError):
        server.wait_ready("broken", seconds=30)
    assert server.wait_ended(seconds=30) != 0
    assert message in server.log
    assert message in server.log[-2048:], "the kubelet keeps only the log's last 2048 bytes as the container's message"


def test_a_server_told_to_stay_reports_a_broken_model_as_not_ready(tmp_path, start_triton):
    repository = write_model(tmp_path / "models", "broken", make_config("broken"), None)
    write_model(repository, "linear", make_config("linear"), linear_onnx())
    server = start_triton(repository, exit_on_error=False)
    server.wait_ready("linear")

    assert not server.ready("broken")
    assert not server.ready(), "strict readiness counts every model"


def test_clients_cannot_change_the_server(tmp_path, start_triton):
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    server = start_triton(repository).wait_ready("linear")
    admin = {ADMIN_HEADER: ADMIN_KEY}

    for path in ("/v2/repository/models/linear/unload", "/v2/systemsharedmemory/region/a/register"):
        assert _post(server, path) == 403
    assert _post(server, "/v2/repository/models/linear/unload", admin) == 503, "mode none refuses with the key as well"
    for call in (
        lambda client: client.unload_model("linear"),
        lambda client: client.register_system_shared_memory("a", "/a", 8),
    ):
        with pytest.raises(triton_grpc.InferenceServerException, match="restricted"):
            call(grpc(server))
    assert server.ready("linear")
    assert set(RESTRICTED_APIS) == {"model-repository", "shared-memory", "trace", "logging"}


def _post(server, path, headers=None):
    request = urllib.request.Request(server.http_url + path, b"{}", headers or {}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_wrong_request_is_the_clients_error_alone(tmp_path, start_triton):
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    server = start_triton(repository).wait_ready("linear")
    client = http(server)

    for arrays, message in (
        ({"x": X[:, :3]}, "unexpected shape"),
        ({"x": X.astype(np.int64)}, "data-type"),
        ({"z": X}, "unexpected inference input 'z'"),
        ({"x": np.zeros((9, 4), np.float32)}, "batch-size must be <= 8"),
    ):
        with pytest.raises(triton_http.InferenceServerException, match=message):
            infer(client, triton_http, "linear", arrays)
    np.testing.assert_allclose(infer(client, triton_http, "linear", {"x": X}), expected(X), rtol=1e-6)
    assert server.process.poll() is None


def test_a_request_that_the_model_refuses_fails_alone(tmp_path, start_triton):
    """The config promises any width, the model takes four: the runtime's own error reaches that client."""
    repository = write_model(tmp_path / "models", "linear", make_config("linear", dims=-1), linear_onnx())
    server = start_triton(repository).wait_ready("linear")
    client = http(server)

    with pytest.raises(triton_http.InferenceServerException, match=r"model 'linear' failed: .*Expected: 4"):
        infer(client, triton_http, "linear", {"x": X[:, :3]})
    np.testing.assert_allclose(infer(client, triton_http, "linear", {"x": X}), expected(X), rtol=1e-6)


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


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
def test_a_rendered_config_with_scalars_is_served(tmp_path, start_triton, batched):
    """[n] and [] travel as [n, 1] and [1]; the model sees what its file says."""
    lead = ["batch"] if batched else []
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "bias"], ["y"])],
        "add",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, lead)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, lead)],
        [onnx.numpy_helper.from_array(np.array(1, np.float32), "bias")],
    )
    signature = ModelSignature(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=()),),
        outputs=(TensorSpec(name="y", dtype="FP32", shape=()),),
        batched=batched,
    )
    config = render_model_config(
        name="add", backend=Backend.ONNXRUNTIME, signature=signature, serving=ServingConfig(warmup=False)
    )
    server = start_triton(write_model(tmp_path / "models", "add", config, serialize(graph))).wait_ready("add")

    x = np.array([[1], [2]] if batched else [1], np.float32)
    np.testing.assert_array_equal(infer(http(server), triton_http, "add", {"x": x}), x + 1)


@pytest.mark.parametrize("sample", ["there", "missing"])
def test_a_rendered_warm_up_runs_before_the_model_is_ready(tmp_path, start_triton, sample):
    signature = ModelSignature(
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(4,)),),
        outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),),
        batched=True,
    )
    config = render_model_config(
        name="linear", backend=Backend.ONNXRUNTIME, signature=signature, serving=ServingConfig(instances=2)
    )
    repository = write_model(tmp_path / "models", "linear", config, linear_onnx())
    if sample == "there":
        folder = repository / "linear" / WARMUP_FOLDER
        folder.mkdir()
        (folder / warmup_file(0)).write_bytes(X[0].tobytes())
    server = start_triton(repository)

    if sample == "there":
        server.wait_ready("linear")
        np.testing.assert_allclose(infer(http(server), triton_http, "linear", {"x": X}), expected(X), rtol=1e-6)
    else:
        with pytest.raises(TritonError, match="failed to load 'linear'"):
            server.wait_ready("linear")


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
