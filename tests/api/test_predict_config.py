"""The second model's config.pbtxt, and what is refused before any pod starts: a sentence for each."""

import json
import re
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from pilotfish.api.predict import Predict
from pilotfish.api.predict_config import Answering, make_contract, render_predict_config
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.core.failures import Finding
from pilotfish.core.revision import new_record
from support.builders import make_result
from support.two_revisions import scope_of

WHO = Answering(model="digits", revision="bcdfghjk", variant="onnx-fp32", max_batch_size=8, drift=True, tokenizer=True)


def _signature(*inputs, outputs=(("y", "FP32", (10,)),), batched=True):
    def specs(told):
        return tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in told)

    return ModelSignature(inputs=specs(inputs), outputs=specs(outputs), batched=batched)


def _tokens(shape=(-1,), dtype="INT64", names=("input_ids", "attention_mask"), *, batched=True):
    outputs = (("y", "FP32", (10,) if batched else (1, 10)),)
    return _signature(*((name, dtype, shape) for name in names), outputs=outputs, batched=batched)


IMAGE = _signature(("image", "FP32", (3, 8, 8)))
TABLE = _signature(("x", "FP32", (4,)))


def _config(signature, **predict):
    text = render_predict_config(signature=signature, predict=Predict.model_validate(predict), answering=WHO)
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_config_is_whole_and_says_who_answers():
    words = ['a "quoted" word', "zwölf", "back\\slash", *map(str, range(7))]
    config = _config(TABLE, labels=words, top=4)

    assert (config.name, config.backend, config.max_batch_size) == ("digits-predict", "python", 8)
    assert [(t.name, list(t.dims)) for t in config.input] == [("x", [4])]
    assert [(t.name, list(t.dims)) for t in config.output] == [
        ("label", [1]),
        ("probability", [1]),
        ("labels", [4]),
        ("probabilities", [4]),
        ("revision", [1]),
        ("variant", [1]),
    ]
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert (told["revision"], told["variant"]) == ("bcdfghjk", "onnx-fp32")
    assert json.loads(told["predict"])["labels"] == words
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


@pytest.mark.parametrize(
    ("shape", "batched", "resize", "picture"),
    [
        ((3, 32, 48), True, (), (32, 48, 3, True)),
        ((32, 48, 1), True, (), (32, 48, 1, False)),
        ((1, 3, 32, 48), False, (), (32, 48, 3, True)),
        ((3, -1, -1), True, (64, 96), (64, 96, 3, True)),
    ],
)
def test_where_pixels_go_is_read_from_the_shape(shape, batched, resize, picture):
    signature = _signature(
        ("image", "FP32", shape), outputs=(("y", "FP32", (10,) if batched else (1, 10)),), batched=batched
    )
    predict = Predict.model_validate({"input": "Image", "preprocessing": {"resize": list(resize)}})
    found = make_contract(signature, predict).picture
    assert (found.height, found.width, found.channels, found.channels_first) == picture


@pytest.mark.parametrize(
    ("signature", "predict", "says"),
    [
        (TABLE, {"labels": ["cat"]}, "labels names 1 classes but output 'y' has 10"),
        (TABLE, {"input": "Image"}, "'x' has the shape [4]; images are"),
        (_signature(("a", "FP32", (3, 8, 8)), ("b", "FP32", (1,))), {"input": "Image"}, "has the inputs a, b"),
        (_signature(("image", "FP32", (3, -1, -1))), {"input": "Image"}, "write spec.serving.predict.preprocessing.re"),
        (IMAGE, {"input": "Image", "preprocessing": {"resize": [9, 9]}}, "takes [8, 8] alone; remove resize"),
        (_signature(("image", "INT32", (3, 8, 8))), {"input": "Image"}, "takes INT32; write Values"),
        (_signature(("image", "FP32", (5, 3, 8, 8)), batched=False), {"input": "Image"}, "images are [channels"),
        (IMAGE, {"input": "Image", "preprocessing": {"mean": ["1", "2"]}}, "2 numbers but images have 3 channels"),
        (TABLE, {"preprocessing": {"mean": ["1", "2"]}}, "holds 2 numbers but 'x' has the shape [4]"),
        (TABLE, {"preprocessing": {"std": ["0"]}}, "std holds 0"),
        (TABLE, {"input": "Text"}, "has the inputs x; texts become input_ids, attention_mask and token_type_ids"),
        (_tokens(names=("input_ids", "position_ids")), {"input": "Text"}, "has the inputs input_ids, position_ids"),
        (_tokens(dtype="FP32"), {"input": "Text"}, "'input_ids' takes FP32 [-1]; tokens are one row"),
        (_tokens((4, 16)), {"input": "Text"}, "'input_ids' takes INT64 [4, 16]; tokens are one row"),
        (_tokens((4, 16), batched=False), {"input": "Text"}, "'input_ids' takes INT64 [4, 16]; tokens are one row"),
        (_tokens(names=("input_ids",)), {"input": "Text"}, "no input attention_mask"),
        (_tokens((16,)), {"input": "Text", "preprocessing": {"maxTokens": 17}}, "write at most 16"),
        (
            _signature(("input_ids", "INT64", (16,)), ("attention_mask", "INT64", (8,))),
            {"input": "Text"},
            "differ in length: 'input_ids' [16], 'attention_mask' [8]",
        ),
        (_signature(("x", "FP32", (-1, -1))), {}, "has 2 free dimensions"),
        (_signature(("x", "BYTES", (1,))), {}, "'x' has BYTES"),
        (_signature(("x", "BF16", (1,))), {}, "'x' has BF16"),
        (
            _signature(("x", "FP32", (1,)), outputs=(("y", "INT64", (10,)),)),
            {},
            "write spec.serving.predict.scores: No",
        ),
        (_signature(("x", "FP32", (1,)), outputs=(("y", "FP32", (4, 4)),)), {}, "holds no scores of classes"),
        (_signature(("x", "FP32", (1,)), outputs=(("y", "FP32", (-1,)),)), {}, "holds no scores of classes"),
        (_signature(("x", "FP32", (1,)), outputs=(("variant", "FP32", (1,)),)), {"scores": "None"}, "rename it"),
    ],
)
def test_what_does_not_fit_is_refused(signature, predict, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        _config(signature, **predict)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("signature", "length"),
    [
        (_tokens(), None),
        (_tokens((16,)), 16),
        (_tokens((16,), "INT32", ("input_ids",)), 16),
        (_tokens((1, -1), batched=False), None),
        (_tokens((-1, 16), batched=False), 16),
    ],
)
def test_a_text_goes_where_tokens_are_taken(signature, length):
    config = _config(signature, input="Text", preprocessing={"maxTokens": 8})
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("text", model_config_pb2.TYPE_STRING, [1])]
    assert json.loads(config.parameters["predict"].string_value)["text"] == {"length": length, "maxTokens": 8}


def test_without_a_tokenizer_in_the_artifact_no_pod_takes_texts():
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json; put one of at most 64 MiB"):
        render_predict_config(
            signature=_tokens(),
            predict=Predict.model_validate({"input": "Text"}),
            answering=replace(WHO, tokenizer=False),
        )


def test_a_model_that_does_not_fit_ends_the_revision_with_the_sentence():
    found = new_record(scope_of(predict={"labels": ["cat", "dog"]}), make_result())
    assert isinstance(found, Finding)
    assert found.fatal
    assert "spec.serving.predict.labels names 2 classes but output 'logits' has 10" in found.message


def test_a_revision_with_plain_json_is_ready_once_both_models_are():
    record = new_record(scope_of(predict={}), make_result())
    (container,) = record.objects.deployment["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert set(record.objects.config_map["data"]) == {"config.pbtxt", "predict.pbtxt"}


def test_sixteen_bit_floats_travel_as_json_numbers():
    config = _config(_signature(("x", "FP16", ()), outputs=(("y", "FP16", (10,)),)), scores="None")
    kinds = {
        tensor.name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in config.input
    }
    assert kinds == {"x": ("TYPE_FP32", [1])}
