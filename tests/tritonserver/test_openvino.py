"""ONNX files behind the images' backend "openvino", on a real tritonserver, configured as the operator configures it."""

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml
from google.protobuf import text_format
from onnx import TensorProto, helper
from safetensors.numpy import load_file
from tritonclient.grpc import model_config_pb2

from pilotfish.api.model_config import WARMUP_FOLDER, ServingConfig, render_model_config, warmup_file
from pilotfish.api.openvino_config import BFLOAT16, EXACT
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.environment import has_bfloat16
from pilotfish.optimizer.local import run_local
from support.infer import grpc, http, infer
from support.onnx_models import save_mlp
from support.orders import difference
from support.repository import expected, linear_onnx, serialize, write_model
from support.triton import TritonError, install

pytestmark = pytest.mark.triton

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
LINEAR = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(4,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),),
    batched=True,
)


def _repository(folder, name="linear", *, signature=LINEAR, model=None, serving=None, parameters=EXACT, config=None):
    text = config or render_model_config(
        name=name,
        backend=Backend.OPENVINO,
        signature=signature,
        serving=serving or ServingConfig(intra_op_threads=1),
        parameters=parameters,
    )
    write_model(folder, name, text, linear_onnx() if model is None else model)
    warm = folder / name / WARMUP_FOLDER
    warm.mkdir()
    for index, spec in enumerate(signature.inputs):
        size = [1 if d < 0 else d for d in (spec.example or spec.shape)]
        (warm / warmup_file(index)).write_bytes(np.zeros(size, np.float32).tobytes())
    return folder


def test_batches_as_clients_make_them_over_http_and_grpc(tmp_path, start_triton):
    repository = _repository(tmp_path / "models", serving=ServingConfig(intra_op_threads=1, instances=2))
    server = start_triton(repository).wait_ready("linear")

    for client, module in ((http(server), triton_http), (grpc(server), triton_grpc)):
        for rows in (X[:1], X, np.tile(X, (7, 1))):
            answer = infer(client, module, "linear", {"x": rows})
            assert answer.dtype == np.float32
            np.testing.assert_allclose(answer, expected(rows), rtol=1e-6, atol=1e-6)


def test_the_precision_is_the_configs_and_never_openvinos(tmp_path, start_triton):
    """Without the hint all three would be rough on a CPU with bfloat16; without bfloat16 none is."""
    folder = tmp_path / "models"
    _repository(folder, "exact")
    _repository(folder, "unsaid", parameters={})
    _repository(folder, "rough", parameters=BFLOAT16)
    server = start_triton(folder)
    for name in ("exact", "unsaid", "rough"):
        server.wait_ready(name)
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)

    far = {
        name: float(np.abs(infer(grpc(server), triton_grpc, name, {"x": x}) - expected(x)).max())
        for name in ("exact", "unsaid", "rough")
    }

    assert far["exact"] < 1e-6
    assert far["unsaid"] < 1e-6
    assert (1e-4 < far["rough"] < 1e-1) if has_bfloat16() else far["rough"] < 1e-6


def test_several_inputs_types_and_free_dimensions_without_batching(tmp_path, start_triton):
    signature = ModelSignature(
        inputs=(
            TensorSpec(name="values", dtype="FP32", shape=(-1,), example=(5,)),
            TensorSpec(name="times", dtype="INT64", shape=(1,)),
        ),
        outputs=(TensorSpec(name="scaled", dtype="FP32", shape=(-1,)),),
        batched=False,
    )
    nodes = [
        helper.make_node("Cast", ["times"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "factor"], ["scaled"]),
    ]
    inputs = [
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("times", TensorProto.INT64, [1]),
    ]
    outputs = [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["n"])]
    model = serialize(helper.make_graph(nodes, "scale", inputs, outputs))
    serving = ServingConfig(warmup=False)
    repository = _repository(tmp_path / "models", "scale", signature=signature, model=model, serving=serving)
    server = start_triton(repository).wait_ready("scale")

    for size in (1, 5, 100):
        values = np.arange(size, dtype=np.float32)
        answer = infer(http(server), triton_http, "scale", {"values": values, "times": np.array([3])}, "scaled")
        np.testing.assert_array_equal(answer, values * 3)


_CONFIG = """
name: "linear"
backend: "openvino"
default_model_filename: "{file}"
max_batch_size: 0
input {{ name: "x" data_type: {kind} dims: [ -1, {width} ] }}
output {{ name: "{output}" data_type: TYPE_FP32 dims: [ -1, 3 ] }}
instance_group {{ count: 1 kind: KIND_CPU }}
{more}
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "model.xml"}, "1/model.xml is missing from the model repository"),
        ({"output": "z"}, "config.pbtxt names output 'z' but model.onnx has y"),
        ({"kind": "TYPE_FP64"}, "config.pbtxt gives 'x' TYPE_FP64 but model.onnx has f32"),
        ({"width": 5}, "config.pbtxt gives 'x' the dims [-1, 5] but model.onnx has the shape [?,4]"),
        ({"more": "HINT_BF16=NO"}, "parameter 'HINT_BF16' is 'NO'; write YES or leave it out"),
        ({"more": "INFERENCE_PRECISION_HINT=int4"}, "is 'int4'; write one of f32, bf16"),
        ({"more": "INFERENCE_NUM_THREADS=two"}, "parameter 'INFERENCE_NUM_THREADS' is 'two'; write a whole number"),
    ],
    ids=lambda value: next(iter(value.items()))[0] if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_with_a_sentence(tmp_path, start_triton, changes, message):
    fields = {"file": "model.onnx", "kind": "TYPE_FP32", "width": 4, "output": "y", "more": ""} | changes
    if fields["more"]:
        key, _, text = fields["more"].partition("=")
        fields["more"] = f'parameters {{ key: "{key}" value {{ string_value: "{text}" }} }}'
    server = start_triton(_repository(tmp_path / "models", config=_CONFIG.format(**fields)))

    with pytest.raises(TritonError, match="ended"):
        server.wait_ready("linear", seconds=120)
    assert message in server.log[-4096:]


def test_nothing_in_the_image_reports_home():
    assert not list(install().packages.glob("openvino_telemetry*"))


def test_a_config_asks_nvidias_backend_for_nothing_that_it_refuses():
    """Its documented parameters, and its rule that a model with max_batch_size computes that many samples every time."""
    text = render_model_config(
        name="m",
        backend=Backend.OPENVINO,
        signature=LINEAR,
        serving=ServingConfig(intra_op_threads=2, instances=3, max_batch_size=8, preferred_batch_sizes=(4,)),
        parameters=BFLOAT16,
    )
    config = text_format.Parse(text, model_config_pb2.ModelConfig())

    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("openvino", "model.onnx", 0)
    assert not config.HasField("dynamic_batching")
    assert [list(tensor.dims) for tensor in (*config.input, *config.output)] == [[-1, 4], [-1, 3]]
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "INFERENCE_NUM_THREADS": "6",
        "NUM_STREAMS": "3",
        "INFERENCE_PRECISION_HINT": "bf16",
        "HINT_BF16": "YES",
    }
    assert [(w.batch_size, list(w.inputs["x"].dims)) for w in config.model_warmup] == [(0, [1, 4])]


def test_an_optimized_model_answers_on_triton_as_it_was_proven(tmp_path, start_triton):
    """The artifact as the optimizer wrote it; where the CPU has no bfloat16, the original's file serves."""
    source = save_mlp(tmp_path / "m.onnx")
    manifest = tmp_path / "m.yaml"
    optimization = {"precisions": ["BF16"], "batchSizes": [1], "objective": "None"}
    spec = {"model": {"uri": source.name}, "optimization": optimization}
    manifest.write_text(yaml.safe_dump({"kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": spec}))
    plan = BenchmarkPlan(rounds=1, extra_rounds=0, min_runs=3, min_seconds=0.01, max_seconds=0.2, load_seconds=0.01)
    artifact = run_local(manifest, tmp_path / "out", plan=plan).artifact
    assert artifact.backend == ("openvino" if has_bfloat16() else "onnxruntime")
    server = start_triton(tmp_path / "out" / artifact.path / "model_repository").wait_ready("m")

    golden = tmp_path / "out" / artifact.path / "golden"
    inputs, outputs = load_file(golden / "inputs.safetensors"), load_file(golden / "outputs.safetensors")
    for rows in (1, 3, 8):
        answer = infer(grpc(server), triton_grpc, "m", {"x": inputs["x"][:rows]})
        assert difference(answer, outputs["y"][:rows]) < 2e-2
