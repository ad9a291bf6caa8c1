"""What recipes make of ONNX files, and which layer they say hurts."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pilotfish.optimizer import environment
from pilotfish.optimizer.compress import graph, room
from pilotfish.optimizer.compress.dynamic import to_int8_dynamic
from pilotfish.optimizer.compress.graph import operators
from pilotfish.optimizer.compress.half import to_fp16
from pilotfish.optimizer.compress.order import RefusedError
from pilotfish.optimizer.compress.static import to_int8_static
from pilotfish.optimizer.compress.weights import to_int8_weights
from support.onnx_models import save, save_mlp
from support.orders import answers, constants, difference, make_order, save_convolutions

RNG = np.random.default_rng(11)
IMAGES = {"x": RNG.random((64, 3, 8, 8)).astype(np.float32)}
VECTORS = {"x": RNG.standard_normal((64, 16)).astype(np.float32)}
SEEN, UNSEEN = slice(0, None, 2), slice(1, None, 2)


def _unseen(order, path):
    return answers(path, {name: array[UNSEEN] for name, array in order.samples.inputs.items()})


@pytest.mark.parametrize("network", ["convolutions", "matrices"])
def test_static_answers_like_the_original_on_samples_it_was_not_calibrated_on(network, tmp_path):
    source, inputs = tmp_path / "m.onnx", IMAGES if network == "convolutions" else VECTORS
    save_convolutions(source) if network == "convolutions" else save_mlp(source)
    order = make_order(source, inputs)
    assert all(np.isin(call["x"], inputs["x"][SEEN]).all() for call in order.calibration())
    made = to_int8_static(order)
    assert 0 < difference(_unseen(order, order.target), _unseen(order, source)) < 0.05
    assert [one.error for one in made.layers] == sorted((one.error for one in made.layers), reverse=True)
    assert all(0 < one.error < 0.05 for one in made.layers)
    assert {one.op for one in made.layers} >= ({"Conv", "Gemm"} if network == "convolutions" else {"MatMul"})


def test_static_without_recorded_samples_is_refused_and_says_what_to_give(tmp_path):
    order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS, given=False)
    with pytest.raises(RefusedError, match=r"spec\.model\.samples\.uri"):
        to_int8_static(order)


def test_layers_kept_in_float_stay_in_float(tmp_path):
    source = save_convolutions(tmp_path / "m.onnx")
    whole = to_int8_static(make_order(source, IMAGES))
    assert "conv1" in {one.layer for one in whole.layers}
    order = make_order(source, IMAGES, kept=("conv1",))
    to_int8_static(order)
    graph = onnx.load(order.target).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    weights = {node.name: node.input[1] for node in graph.node if node.op_type == "Conv"}
    assert made_by.get(weights["conv1"]) is None
    assert made_by[weights["conv0"]] == "DequantizeLinear"


def test_the_worst_layer_is_the_one_that_was_spoilt(tmp_path):
    source = save_convolutions(tmp_path / "m.onnx", channels=(3, 8, 8, 8))
    model = onnx.load(source)
    for tensor in model.graph.initializer:  # what conv1's first channel gains, conv2 gives back: same answers
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name == "w1":
            array[0] *= 1e4
        if tensor.name == "w2":
            array[:, 0] /= 1e4
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, source)
    layers = to_int8_static(make_order(source, IMAGES)).layers
    assert layers[0].layer == "conv2"
    assert layers[0].error > 0.5 > 10 * layers[1].error


def test_dynamic_and_weights_are_smaller_and_show_their_layers(tmp_path):
    source = save_mlp(tmp_path / "m.onnx")
    for recipe, operator in ((to_int8_dynamic, "MatMulInteger"), (to_int8_weights, "MatMulNBits")):
        order = make_order(source, VECTORS)
        made = recipe(order)
        assert operators(order.target)[operator] == 2
        assert difference(_unseen(order, order.target), _unseen(order, source)) < 0.05
        assert {one.op for one in made.layers} == {"MatMul"}
        assert all(0 < one.error < 0.05 for one in made.layers)


@pytest.mark.parametrize("recipe", [to_int8_static, to_int8_dynamic, to_int8_weights])
def test_a_large_model_is_made_with_its_tensors_beside_and_served_as_one_file(recipe, tmp_path, monkeypatch):
    """What is made on the way is mapped, not read; what comes of it is the same."""
    made = {}
    for name, beside_from in (("small", graph.BESIDE_FROM), ("large", 0)):
        monkeypatch.setattr(graph, "BESIDE_FROM", beside_from)
        (tmp_path / name).mkdir()
        order = make_order(save_mlp(tmp_path / name / "m.onnx"), VECTORS)
        layers = recipe(order).layers
        assert (order.prepared().with_name("model.onnx.data")).is_file() == (name == "large")
        assert {path.name for path in order.target.parent.iterdir()} == {"model.onnx"}
        made[name] = answers(order.target, VECTORS), [(one.layer, one.error) for one in layers]
    np.testing.assert_array_equal(made["large"][0], made["small"][0])
    assert made["large"][1] == made["small"][1] != []


def test_what_does_not_fit_into_the_memory_that_is_left_is_refused_before_it_is_tried(tmp_path, monkeypatch):
    source = save_mlp(tmp_path / "m.onnx")
    size = source.stat().st_size
    monkeypatch.setattr(room, "room_here", lambda: 5 * size)
    room.check_room("openvino-int8", source)  # small: libraries weigh more than the model
    monkeypatch.setattr(graph, "BESIDE_FROM", 0)
    room.check_room("onnx-int8-static", source)
    with pytest.raises(
        RefusedError, match=r"9\.9 times the model in memory, .*raise spec\.optimization\.resources\.memory"
    ):
        room.check_room("openvino-int8", source)


def test_half_precision_halves_the_weights(tmp_path):
    order = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
    to_fp16(order)
    assert {array.dtype for array in constants(order.target).values()} == {np.dtype(np.float16)}
    assert difference(_unseen(order, order.target), _unseen(order, order.source)) < 5e-3


def test_narrow_weights_use_seven_bits(tmp_path):
    source = save_convolutions(tmp_path / "m.onnx")

    def largest(**more):
        order = make_order(source, IMAGES, **more)
        notes = to_int8_static(order).notes
        arrays = [a for a in constants(order.target).values() if a.dtype == np.int8 and a.ndim > 1]
        return max(int(np.abs(a.astype(np.int16)).max()) for a in arrays), notes

    assert largest() == (127, ())
    size, notes = largest(narrow=True)
    assert size <= 64
    assert "VNNI" in notes[0]


@pytest.mark.parametrize(
    ("machine", "flags", "narrow"),
    [
        ("x86_64", "avx2 avx512f", True),
        ("x86_64", "avx2 avx512f avx512_vnni", False),
        ("x86_64", "avx2 avx_vnni", False),
        ("aarch64", "asimddp", False),
    ],
)
def test_which_cpus_need_narrow_weights(machine, flags, narrow, monkeypatch):
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    monkeypatch.setattr(environment, "_cpuinfo", lambda: {"flags": flags})
    assert environment.needs_narrow_weights() is narrow


def test_gpus_get_signed_and_symmetric_activations(tmp_path):
    order = make_order(save_convolutions(tmp_path / "m.onnx"), IMAGES, gpu=True)
    to_int8_static(order)
    points = [a for name, a in constants(order.target).items() if name.endswith("_zero_point") and a.ndim == 0]
    assert points
    assert all(a.dtype == np.int8 and a == 0 for a in points if a.dtype != np.int32)


@pytest.mark.parametrize("recipe", [to_int8_dynamic, to_int8_static, to_int8_weights])
def test_a_model_that_is_quantized_already_is_not_quantized_again(recipe, tmp_path):
    first = make_order(save_mlp(tmp_path / "m.onnx"), VECTORS)
    to_int8_static(first)
    (tmp_path / "again").mkdir()
    second = tmp_path / "again" / "m.onnx"
    second.write_bytes(first.target.read_bytes())
    with pytest.raises(ValueError, match="quantized already"):
        recipe(make_order(second, VECTORS))


@pytest.mark.parametrize("recipe", [to_int8_dynamic, to_int8_static, to_int8_weights, to_fp16])
def test_a_recipe_that_changes_nothing_says_so(recipe, tmp_path):
    relu = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": ["b", 16]}, {"y": ["b", 16]})
    with pytest.raises(ValueError, match=r"has no|changed no|are 0% of"):
        recipe(make_order(relu, VECTORS))
