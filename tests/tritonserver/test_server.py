"""The images' Triton and its backends, on a real tritonserver."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from pilotfish.api.model_config import WARMUP_FOLDER, ServingConfig, render_model_config, warmup_file
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.resources.triton_flags import ADMIN_HEADER, RESTRICTED_APIS
from support.infer import grpc, http, infer, metric
from support.repository import expected, linear_onnx, make_config, scalars_onnx, serialize, write_model
from support.triton import ADMIN_KEY, VERSION, TritonError

pytestmark = pytest.mark.triton

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def test_onnx_over_http_and_grpc(tmp_path, start_triton):
    body = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    repository = write_model(tmp_path / "models", "linear", make_config("linear", body=body), linear_onnx())
    server = start_triton(repository).wait_ready("linear")

    assert server.get("/v2")[1].find(f'"version":"{VERSION}"') > 0
    np.testing.assert_allclose(infer(http(server), triton_http, "linear", {"x": X}), expected(X), rtol=1e-6)
    np.testing.assert_allclose(infer(grpc(server), triton_grpc, "linear", {"x": X}), expected(X), rtol=1e-6)
    assert metric(server, "nv_inference_request_success") == 2
    assert metric(server, "nv_inference_count") == 6


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_tensors_that_lie_beside_their_file(tmp_path, start_triton, backend):
    """As large models are served."""
    body = 'default_model_filename: "model.onnx" parameters { key: "INFERENCE_PRECISION_HINT" value { string_value: "f32" } }'
    repository = write_model(tmp_path / "models", "linear", make_config("linear", backend=backend, body=body), None)
    file = repository / "linear" / "1" / "model.onnx"
    model = onnx.load_model_from_string(linear_onnx())
    onnx.save(model, file, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert (file.parent / "model.onnx.data").is_file()

    server = start_triton(repository).wait_ready("linear")
    np.testing.assert_allclose(infer(grpc(server), triton_grpc, "linear", {"x": X}), expected(X), rtol=1e-6, atol=4e-6)


def test_concurrent_requests_run_as_one_batch_and_get_their_own_rows(tmp_path, start_triton):
    body = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 2000000 }"
    repository = write_model(tmp_path / "models", "linear", make_config("linear", body=body), linear_onnx())
    server = start_triton(repository).wait_ready("linear")
    rows = [X[[i % 3]] + i for i in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: infer(grpc(server), triton_grpc, "linear", {"x": row}), rows))

    for row, answer in zip(rows, answers, strict=True):
        # A row's place in the batch decides the order of its sum: float32's epsilon times the summands, not the sum.
        np.testing.assert_allclose(answer, expected(row), rtol=1e-6, atol=4e-6)
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
