"""ONNX files that lie, cannot be served, or answer nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad
from support.onnx_models import save, save_mlp

_RELU = (helper.make_node("Relu", ["x"], ["y"]),)


def _graph(
    nodes: Any = _RELU, *, inputs: Any = None, outputs: Any = None, weights: Any = (), opset: int = 18, **more: Any
) -> Callable[[Path], None]:
    """A file with this graph, unchecked."""

    def make(claim: Path) -> None:
        graph = helper.make_graph(
            list(nodes), "graph", [_tensor("x")] if inputs is None else inputs, outputs or [_tensor("y")], list(weights)
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **({"ir_version": 10} | more))
        onnx.save(model, str(claim / "m.onnx"))

    return make


def _tensor(name: str, shape: Any = ("n", 4), kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _changed(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A sound model with something changed."""

    def make(claim: Path) -> None:
        model = onnx.load(str(save_mlp(claim / "m.onnx")))
        change(model)
        onnx.save(model, str(claim / "m.onnx"))

    return make


def _external(location: str, *, data: bytes | None = None, **entries: str) -> Callable[[Path], None]:
    def make(claim: Path) -> None:
        (claim / "d").mkdir()
        weight = numpy_helper.from_array(np.zeros((16, 4), np.float32), "w")
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        path = claim / "d" / "m.onnx"
        save(path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 16]}, {"y": ["n", 4]}, [weight])
        if data is not None:
            (claim / "d" / location).write_bytes(data)

    return make


def _first_dims(*dims: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def _set(field: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model, field, value)


def _weight(value: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        old = model.graph.initializer[0]
        array = numpy_helper.to_array(old).copy()
        array[0, 0] = value
        old.CopyFrom(numpy_helper.from_array(array, old.name))

    return change


def _bad(name: str, make: Any, reason: Reason, *says: str, uri: str = "m.onnx", **more: Any) -> Bad:
    return Bad(name=f"ONNX: {name}", make=make, reason=reason, says=says or ("m.onnx",), uri=uri, **more)


_SEQUENCE = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n", 4])
_MAP = helper.make_value_info("y", helper.make_sequence_type_proto(helper.make_map_type_proto(
    TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))))  # fmt: skip
_OPTIONAL = helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, ["n", 4])))


def _zip_map(claim: Path) -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
    _graph([node], outputs=[_MAP])(claim)
    model = onnx.load(str(claim / "m.onnx"))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, str(claim / "m.onnx"))


def _reshape(claim: Path) -> None:
    shape = numpy_helper.from_array(np.array([7919, -1], np.int64), "shape")
    _graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], weights=[shape])(claim)


MODEL, UNSAFE, TRUTH = Reason.MODEL_INVALID, Reason.UNSAFE_MODEL, Reason.REFERENCE_INVALID
GRAPHS = (
    _bad("data above the folder", _external("../secret.bin"), UNSAFE, "'w'", "beside it", uri="d"),
    _bad("data at an absolute path", _external("/etc/passwd"), UNSAFE, "'w'", "/etc/passwd", uri="d"),
    _bad("data that is not there", _external("w.bin"), MODEL, "w.bin", "upload the whole folder", uri="d"),
    _bad("data cut short", _external("w.bin", data=bytes(100)), Reason.SOURCE_TRUNCATED, "w.bin", uri="d"),
    _bad("data past its end", _external("w.bin", data=bytes(256), offset="4096"), Reason.SOURCE_TRUNCATED, uri="d"),
    _bad("a negative offset", _external("w.bin", data=bytes(256), offset="-8"), UNSAFE, "w.bin", uri="d"),
    _bad("an offset that is no number", _external("w.bin", data=bytes(256), offset="x"), UNSAFE, "w.bin", uri="d"),
    _bad(
        "operators of somebody's own", _changed(lambda m: m.opset_import.append(helper.make_opsetid("my.corp", 1))),
        MODEL, "my.corp", "standard operators",
    ),
    _bad("an opset of the future", _graph(opset=99), MODEL, "99"),
    _bad("a format of the future", _changed(_set("ir_version", 99)), MODEL, "m.onnx"),
    _bad("a node without its input", _graph([helper.make_node("Relu", ["nothing"], ["y"])]), MODEL, "nothing"),
    _bad("an operator that is not", _graph([helper.make_node("Nonsense", ["x"], ["y"])]), MODEL, "Nonsense"),
    _bad("a circle", _graph([helper.make_node("Add", ["x", "y"], ["y"])]), MODEL),
    _bad("one name twice", _graph([*_RELU, *_RELU]), MODEL),
    _bad("no inputs", _graph([helper.make_node("Constant", [], ["y"], value_float=1.0)], inputs=[]), MODEL, "no inputs"),
    _bad("a tensor of 4 TiB", _changed(_first_dims(2**20, 2**20)), UNSAFE, "'first'"),
    _bad("a tensor past all numbers", _changed(_first_dims(2**62, 2**62)), UNSAFE, "'first'"),
    _bad("a negative size", _changed(_first_dims(-16, 32)), UNSAFE, "'first'"),
    _bad("fewer bytes than declared", _changed(_first_dims(16, 64)), UNSAFE, "'first'", "export it again"),
    _bad("an element type that is not", _changed(lambda m: setattr(m.graph.initializer[0], "data_type", 999)), UNSAFE, "'first'"),
    _bad("NaN in the weights", _changed(_weight(float("nan"))), MODEL, "'first'", "NaN"),
    _bad("0 by 0", _graph([helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]), TRUTH, "NaN"),
    _bad("a dimension of no size", _graph(inputs=[_tensor("x", ["n", 0])], outputs=[_tensor("y", ["n", 0])]), MODEL, "'x'", "0"),
    _bad("strings in", _graph([helper.make_node("Identity", ["x"], ["y"])], inputs=[_tensor("x", kind=8)], outputs=[_tensor("y", kind=8)]), MODEL, "string", "tensor of numbers"),
    _bad("bfloat16 in", _graph([helper.make_node("Cast", ["x"], ["y"], to=1)], inputs=[_tensor("x", kind=16)]), MODEL, "bfloat16"),
    _bad("a sequence out", _graph([helper.make_node("SequenceConstruct", ["x"], ["y"])], outputs=[_SEQUENCE]), MODEL, "seq", "tensor of numbers"),
    _bad("maps out", _zip_map, MODEL, "map", "tensor of numbers"),
    _bad("an optional out", _graph([helper.make_node("Optional", ["x"], ["y"])], outputs=[_OPTIONAL]), MODEL, "optional"),
    _bad("a shape that nothing fits", _reshape, Reason.SIGNATURE_MISSING, "spec.model.samples"),
)  # fmt: skip
