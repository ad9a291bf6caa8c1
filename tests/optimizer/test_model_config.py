"""config.pbtxt as Triton's own protobuf reads it."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pilotfish.api.model_config import ServingConfig, render_model_config
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.api.tuning import Accelerator

IMAGE = TensorSpec(name="image", dtype="FP32", shape=(3, 8, 8))
LOGITS = TensorSpec(name="logits", dtype="FP32", shape=(10,))


def _parse(**changes):
    arguments = {
        "name": "m",
        "backend": Backend.ONNXRUNTIME,
        "signature": ModelSignature(inputs=(IMAGE,), outputs=(LOGITS,), batched=True),
        "serving": ServingConfig(max_batch_size=8, preferred_batch_sizes=(4, 8), intra_op_threads=2),
    } | changes
    return text_format.Parse(render_model_config(**arguments), model_config_pb2.ModelConfig())


def test_a_batched_model_has_a_batcher_and_dims_without_the_batch():
    config = _parse()
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 8)
    assert list(config.input[0].dims) == [3, 8, 8]
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    assert [w.batch_size for w in config.model_warmup] == [1, 8]
    assert config.model_warmup[0].inputs["image"].input_data_file == "input_0"


def test_an_unbatched_model_has_no_batcher():
    config = _parse(signature=ModelSignature(inputs=(IMAGE,), outputs=(LOGITS,), batched=False))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [w.batch_size for w in config.model_warmup] == [0]


def test_batching_turned_off_keeps_the_batch_dimension():
    config = _parse(serving=ServingConfig(max_batch_size=0))
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


def test_a_gpu_lets_triton_choose_the_device():
    assert (
        _parse(serving=ServingConfig(gpu=True)).instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO
    )
    assert _parse().instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


@pytest.mark.parametrize("accelerator", list(Accelerator))
def test_an_accelerator_is_for_gpus_alone_and_never_falls_to_the_cpu(accelerator):
    config = _parse(serving=ServingConfig(gpu=True, accelerator=accelerator))
    (found,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    precision = "FP16" if accelerator is Accelerator.TENSORRT_FP16 else "FP32"
    assert (found.name, found.parameters["precision_mode"]) == ("tensorrt", precision)
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert not _parse(serving=ServingConfig(accelerator=accelerator)).HasField("optimization")


def test_a_scalar_is_reshaped_and_a_free_size_warms_up_with_its_example():
    signature = ModelSignature(
        inputs=(
            TensorSpec(name="tokens", dtype="INT64", shape=(-1,), example=(16,)),
            TensorSpec(name="rate", dtype="INT64", shape=()),
        ),
        outputs=(LOGITS,),
        batched=True,
    )
    config = _parse(signature=signature)
    assert list(config.input[0].dims) == [-1]
    assert config.input[1].HasField("reshape")
    assert list(config.model_warmup[0].inputs["tokens"].dims) == [16]


def test_the_pytorch_backend_gets_its_own_parameter_names():
    config = _parse(backend=Backend.PYTORCH)
    assert config.parameters["INTRA_OP_THREAD_COUNT"].string_value == "2"


@pytest.mark.parametrize(
    ("names", "fine"),
    [(("a__0", "b__1"), True), (("a__1", "b__0"), False), (("a", "b__0"), True), (("x__y__1", "b__0"), True)],
)
def test_names_that_nvidias_pytorch_backend_would_misread_are_refused(names, fine):
    inputs = tuple(TensorSpec(name=n, dtype="FP32", shape=(1,)) for n in names)
    signature = ModelSignature(inputs=inputs, outputs=(LOGITS,), batched=True)
    if fine:
        assert [i.name for i in _parse(backend=Backend.PYTORCH, signature=signature).input] == list(names)
        return
    with pytest.raises(ValueError, match="position 0"):
        _parse(backend=Backend.PYTORCH, signature=signature)


def test_an_unknown_type_is_refused():
    bad = TensorSpec(name="x", dtype="FLOAT", shape=(1,))
    with pytest.raises(ValueError, match="use one of"):
        _parse(signature=ModelSignature(inputs=(bad,), outputs=(LOGITS,), batched=True))
