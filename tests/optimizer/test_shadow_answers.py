"""Answers decoded and compared: every element type, every way to be none, and the tolerance of each precision."""

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance
from pilotfish.optimizer.shadow.answers import Output, UnreadableError, agree, read_grpc, read_http, widest_bounds
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY

LENGTH = "Inference-Header-Content-Length"
MOST = 1 << 20
FP32 = widest_bounds((Precision.FP32,), None)


def http(outputs, raw=b"", **headers):
    text = json.dumps({"outputs": outputs}).encode()
    return text + raw, {**({LENGTH: str(len(text))} if raw else {}), **headers}


def binary(name, datatype, shape, size):
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def message(*outputs, raw=()):
    answer = service_pb2.ModelInferResponse(raw_output_contents=raw)
    for name, datatype, shape in outputs:
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
    return answer.SerializeToString()


def outputs(**arrays):
    return {name: Output(datatype="FP32", array=np.asarray(array, np.float32)) for name, array in arrays.items()}


@pytest.mark.parametrize("datatype", TRITON_TO_NUMPY)
def test_every_number_in_every_form(datatype):
    values = np.array([[0, 1, 1], [1, 0, 0]]).astype(TRITON_TO_NUMPY[datatype])
    raw = values.tobytes()
    body, headers = http([binary("y", datatype, [2, 3], len(raw))], raw)
    forms = [read_http(body, headers, most=MOST), read_grpc(message(("y", datatype, [2, 3]), raw=[raw]))]
    if datatype != "FP16":
        body, headers = http([{"name": "y", "datatype": datatype, "shape": [2, 3], "data": values.tolist()}])
        forms.append(read_http(body, headers, most=MOST))
    for found in forms:
        assert found["y"].datatype == datatype
        assert found["y"].array.dtype == values.dtype
        assert np.array_equal(found["y"].array, values)


def test_bfloat16_is_the_upper_half_of_a_float():
    values = np.array([1.0, -2.5, 0.0], np.float32)
    raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    found = read_grpc(message(("y", "BF16", [3]), raw=[raw]))["y"].array
    assert np.array_equal(found, values)


def test_text_in_every_form():
    raw = b"".join(len(word).to_bytes(4, "little") + word for word in (b"cat", b"", "dög".encode()))
    body, headers = http([binary("y", "BYTES", [3], len(raw))], raw)
    one = read_http(body, headers, most=MOST)
    body, headers = http([{"name": "y", "datatype": "BYTES", "shape": [3], "data": ["cat", "", "dög"]}])
    other = read_http(body, headers, most=MOST)
    assert agree(one, other, FP32)
    assert agree(read_grpc(message(("y", "BYTES", [3]), raw=[raw])), one, FP32)
    body, headers = http([{"name": "y", "datatype": "BYTES", "shape": [3], "data": ["cat", "", "dog"]}])
    assert not agree(read_http(body, headers, most=MOST), one, FP32)


def test_several_binary_outputs_follow_each_other():
    a, b = np.arange(3, dtype=np.float32), np.arange(2, dtype=np.int64)
    described = [binary("a", "FP32", [3], 12), {"name": "j", "datatype": "INT8", "shape": [1], "data": [7]}, binary("b", "INT64", [2], 16)]  # fmt: skip
    body, headers = http(described, a.tobytes() + b.tobytes())
    found = read_http(body, headers, most=MOST)
    assert [found[n].array.tolist() for n in "ajb"] == [[0, 1, 2], [7], [0, 1]]


def test_typed_contents_of_grpc():
    answer = service_pb2.ModelInferResponse()
    answer.outputs.add(name="y", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    assert read_grpc(answer.SerializeToString())["y"].array.tolist() == [1, 2]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_packed_answers_up_to_a_size(pack):
    body, _ = http([{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}])
    encoding = {"Content-Encoding": "gzip" if pack is gzip.compress else "deflate"}
    assert read_http(pack(body), encoding, most=len(body))["y"].array.tolist() == [1]
    with pytest.raises(UnreadableError):
        read_http(pack(body + b" " * 1000), encoding, most=len(body))
    with pytest.raises(UnreadableError):
        read_http(pack(body)[:-5], encoding, most=MOST)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"[]", {}),
        (b'{"outputs": 1}', {}),
        (b'{"outputs": [1]}', {}),
        (b'{"error": "no"}', {}),
        (b'{"outputs": []}', {"Content-Encoding": "br"}),
        (b'{"outputs": []}', {LENGTH: "x"}),
        http([{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]),
        http([{"name": "y", "datatype": "FP32", "shape": [1]}]),
        http([{"name": "y", "datatype": "FP99", "shape": [1], "data": [1]}]),
        http([{"name": "y", "datatype": "BYTES", "shape": [2], "data": ["a"]}]),
        http([binary("y", "FP32", [1], 8)], b"abcd"),
        http([binary("y", "FP32", [1], -1)], b"abcd"),
        http([binary("y", "FP32", [3], 4)], b"abcd"),
        http([binary("y", "BYTES", [1], 4)], b"\xff\xff\xff\xff"),
        (b"[" * 100_000, {}),
    ],
)
def test_what_is_no_answer(body, headers):
    with pytest.raises(UnreadableError) as caught:
        read_http(body, headers, most=MOST)
    assert caught.value.__suppress_context__, "what could not be read is not told"
    assert caught.value.args == ()


@pytest.mark.parametrize(
    "body",
    [b"\xff\xff", message(("y", "FP32", [1])), message(("y", "FP32", [1]), raw=[b"", b""]), message(("y", "FP32", [2]), raw=[b"abcd"])],
)  # fmt: skip
def test_what_is_no_answer_over_grpc(body):
    with pytest.raises(UnreadableError):
        read_grpc(body)


@given(st.binary(max_size=200), st.sampled_from(["", "5", "-1", "99"]), st.sampled_from(["", "gzip", "deflate"]))
def test_any_bytes_have_an_answer(body, length, encoding):
    for read in (lambda: read_http(body, {LENGTH: length, "Content-Encoding": encoding}, most=1000), lambda: read_grpc(body)):  # fmt: skip
        try:
            found = read()
        except UnreadableError:
            continue
        assert agree(found, found, FP32) or any(np.isnan(o.array).any() for o in found.values())


def near(by):
    base = np.linspace(1, 2, 20, dtype=np.float32).reshape(2, 10)
    return outputs(y=base * np.float32(1 + by)), outputs(y=base)


@pytest.mark.parametrize(
    ("precisions", "by", "equal"),
    [
        (["FP32"], 0.00009, True),
        (["FP32"], 0.00011, False),
        (["FP32", "FP16"], 0.009, True),
        (["FP16", "FP32"], 0.009, True),
        (["FP32", "FP16"], 0.011, False),
        (["INT8", "FP32"], 0.049, True),
        (["INT8"], 0.051, False),
    ],
)
def test_the_wider_tolerance_holds(precisions, by, equal):
    assert agree(*near(by), widest_bounds(tuple(map(Precision, precisions)), None)) is equal


def test_another_best_score_is_another_answer_from_fp16_on():
    one, other = outputs(y=[[1.0, 1.001]]), outputs(y=[[1.001, 1.0]])
    assert not agree(one, other, widest_bounds((Precision.FP16,), None))
    assert agree(one, other, widest_bounds((Precision.FP16,), Tolerance(top1_agreement="0")))


@pytest.mark.parametrize(
    "other",
    [
        {},
        outputs(y=[[1.0, 2.0]], z=[1.0]),
        outputs(z=[[1.0, 2.0]]),
        outputs(y=[1.0, 2.0]),
        outputs(y=[[1.0, np.nan]]),
        outputs(y=[[1.0, np.inf]]),
        {"y": Output(datatype="FP64", array=np.array([[1.0, 2.0]], np.float32))},
        {"y": Output(datatype="FP32", array=np.array([[1.0, 2.0]], np.float64))},
    ],
)
def test_another_form_is_another_answer(other):
    wanted = outputs(y=[[1.0, 2.0]])
    assert not agree(other, wanted, widest_bounds((Precision.INT8,), Tolerance(max_abs="1000", cosine="0")))


@pytest.mark.parametrize("array", [[], [[]], 5.0, [[np.nan, 1.0]], [[np.inf, 0.0]], np.zeros((2, 0, 3))])
def test_odd_shapes_and_values_agree_with_themselves(array):
    assert agree(outputs(y=array), outputs(y=array), FP32)
