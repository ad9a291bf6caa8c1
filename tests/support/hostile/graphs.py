"""ONNX files whose tensors lie elsewhere, in every place where a tensor can stand and in every way to say where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad

UNSAFE, MODEL = Reason.UNSAFE_MODEL, Reason.MODEL_INVALID
_SECRET = "../../../secret.bin"


def elsewhere(*entries: tuple[str, str], name: str = "w", shape: tuple[int, ...] = (16, 4)) -> Any:
    """A tensor whose bytes lie where `entries` say."""
    tensor = numpy_helper.from_array(np.zeros(shape, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries:
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def matmul(weight: Any, *nodes: Any) -> onnx.ModelProto:
    """x @ weight."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), *nodes], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])], [weight] if weight is not None else [],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def beside(model: onnx.ModelProto, folder: Path) -> Path:
    """The model with a data file that is right, below a file that nobody may read."""
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").write_bytes(np.ones((16, 4), np.float32).tobytes())
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _in_constant() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["w"], value=elsewhere(("location", _SECRET), name="value"))
    model = matmul(None)
    model.graph.node.insert(0, node)
    return model


def _in_function() -> onnx.ModelProto:
    inner = helper.make_node("Constant", [], ["c"], value=elsewhere(("location", _SECRET), name="hidden"))
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [inner, helper.make_node("MatMul", ["a", "c"], ["b"])], [helper.make_opsetid("", 18)]
    )
    model = matmul(numpy_helper.from_array(np.ones((16, 4), np.float32), "w"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[0].CopyFrom(helper.make_node("F", ["x"], ["y"], domain="own"))
    return model


def _in_branch() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["deep"], ["o"])], "b", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [16, 4])],
        [elsewhere(("location", _SECRET), name="deep")],
    )  # fmt: skip
    truth = numpy_helper.from_array(np.array(True), "t")
    model = matmul(None)
    model.graph.initializer.append(truth)
    model.graph.node.insert(0, helper.make_node("If", ["t"], ["w"], then_branch=branch, else_branch=branch))
    return model


def _in_list() -> onnx.ModelProto:
    model = matmul(numpy_helper.from_array(np.ones((16, 4), np.float32), "w"))
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type = "extra", onnx.AttributeProto.TENSORS
    attribute.tensors.append(elsewhere(("location", _SECRET), name="listed"))
    return model


def _in_sparse(part: str) -> onnx.ModelProto:
    model = matmul(None)
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [16, 4])
    target = getattr(sparse, part)
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL
    entry = target.external_data.add()
    entry.key, entry.value = "location", _SECRET
    model.graph.sparse_initializer.append(sparse)
    return model


def _in_training() -> onnx.ModelProto:
    model = matmul(numpy_helper.from_array(np.ones((16, 4), np.float32), "w"))
    info = model.training_info.add()
    info.algorithm.name = "t"
    info.algorithm.initializer.append(elsewhere(("location", _SECRET), name="trained"))
    return model


def _nested(levels: int) -> bytes:
    """`If` in `If`, written by hand: the library would not build so many."""
    graph = matmul(numpy_helper.from_array(np.ones((16, 4), np.float32), "w")).graph.SerializeToString()
    for _ in range(levels):
        attribute = _field(1, b"then_branch") + _field(6, graph)
        graph = _field(1, _field(1, b"x") + _field(4, b"If") + _field(5, attribute)) + _field(2, b"g")
    return b"\x08\x0a" + _field(7, graph) + _field(8, b"\x10\x12")


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _memory(claim: Path) -> None:
    """A location that ONNX Runtime takes for an address in its own memory, with a file there."""
    beside(matmul(elsewhere(("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "64"), ("length", "256"))), claim / "d")
    (claim / "d" / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (claim / "d" / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(4096))


def _large(claim: Path) -> None:
    """One node that asks for 32 EiB when it runs."""
    shape = numpy_helper.from_array(np.array([2**31, 2**31], np.int64), "s")
    model = matmul(numpy_helper.from_array(np.ones((16, 4), np.float32), "w"))
    model.graph.initializer.append(shape)
    more = [
        helper.make_node("ConstantOfShape", ["s"], ["z"]), helper.make_node("ReduceSum", ["z"], ["r"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "r"], ["y"]),
    ]  # fmt: skip
    del model.graph.node[:]
    model.graph.node.extend(more)
    (claim / "d").mkdir()
    (claim / "d" / "m.onnx").write_bytes(model.SerializeToString())


def _place(claim: Path, model: onnx.ModelProto | bytes) -> None:
    (claim.parent.parent / "secret.bin").write_bytes(np.full((16, 4), 7, np.float32).tobytes())
    beside(matmul(None), claim / "d")
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (claim / "d" / "m.onnx").write_bytes(data)


def _bad(name: str, build: Callable[[], Any], *says: str, reason: Reason = UNSAFE) -> Bad:
    return Bad(
        name=f"ONNX: {name}", make=lambda claim: _place(claim, build()), reason=reason, says=("m.onnx", *says), uri="d"
    )


def _said(name: str, *entries: tuple[str, str], says: str = "'w'") -> Bad:
    return _bad(name, lambda: matmul(elsewhere(*entries)), says)


_HERE = ("location", "w.bin")
GRAPHS = (
    _said("its data in two places, ours first", _HERE, ("location", _SECRET), says="twice"),
    _said("its data in two places, ours last", ("location", "/etc/passwd"), _HERE, says="twice"),
    _said("two offsets", _HERE, ("offset", "0"), ("offset", "99999"), says="twice"),
    _said("an attribute of the reader's own object", _HERE, ("__class__", "x"), says="__class__"),
    _said("a folder of the reader's own object", _HERE, ("basepath", "/etc"), says="basepath"),
    _said("data behind a dot and a climb", ("location", "./../../secret.bin"), says="outside"),
    _said("data behind a backslash", ("location", "..\\..\\secret.bin"), says="outside"),
    _said("data behind a NUL", ("location", "w.bin\0../secret.bin"), says="outside"),
    _said("a location of a megabyte", ("location", "d/" * 500_000), says="outside"),
    _said("no location at all", ("offset", "0"), says="outside"),
    _bad("data elsewhere, in a constant", _in_constant, "'value'"),
    _bad("data elsewhere, in a function", _in_function, "'hidden'"),
    _bad("data elsewhere, in a branch", _in_branch, "'deep'"),
    _bad("data elsewhere, in a list of tensors", _in_list, "'listed'"),
    _bad("data elsewhere, in sparse values", lambda: _in_sparse("values"), "'w'"),
    _bad("data elsewhere, in sparse indices", lambda: _in_sparse("indices"), "'indices'"),
    _bad("data elsewhere, in the training part", _in_training, "'trained'"),
    _bad("two hundred graphs in each other", lambda: _nested(200), reason=MODEL),
    Bad(name="ONNX: an address in memory", make=_memory, reason=UNSAFE, says=("_ORT_MEM_ADDR_",), uri="d"),
    Bad(name="ONNX: a tensor of 16 EiB at run time", make=_large, reason=Reason.SIGNATURE_MISSING, says=("ConstantOfShape",), uri="d"),
)  # fmt: skip
