"""Reading and writing ONNX graphs for recipes: operators counted, files fused before they are quantized."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx

ONE_FILE_LIMIT = 1_800_000_000
"""Above this a model's tensors go into a second file: protobuf ends at 2 GiB."""
BESIDE_FROM = 64 << 20
"""From here on a file that only serves to make others has its tensors in a second file.

ONNX Runtime maps that one, where it holds a single file four times while it reads it: preparing 512 MiB took 1.2 GB
instead of 4.0.
"""
JOINED_UNTIL = 512 << 20
"""Up to here what came in two files is joined to one: writing it takes up to three times its size in memory."""
_LOWEST_OPSET = 13
_RAISED_OPSET = 17
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")


def operators(path: Path) -> Counter[str]:
    """How many nodes of each type the main graph has."""
    return Counter(node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)


def is_quantized(path: Path) -> bool:
    """Whether somebody has been here before: quantizing twice only adds errors."""
    found = operators(path)
    return any(found[op] for op in _QUANTIZED)


def is_large(path: Path) -> bool:
    """Whether a file made of this one needs its tensors beside it."""
    return file_bytes(path) > ONE_FILE_LIMIT


def file_bytes(path: Path) -> int:
    """Size of a model's file and of the tensors beside it."""
    return sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*"))


def save_onnx(model: Any, target: Path) -> None:
    """One file where it fits, else the tensors in `<name>.data` beside it."""
    if model.ByteSize() < ONE_FILE_LIMIT:
        onnx.save(model, str(target))
        return
    onnx.save(model, str(target), save_as_external_data=True, location=f"{target.name}.data")


def goes_beside(path: Path) -> bool:
    """Whether what is made of a file on the way has its tensors in a second one."""
    return file_bytes(path) > BESIDE_FROM


def join(target: Path) -> None:
    """One file again of what a quantizer left in two, where one is enough to serve."""
    beside = target.with_name(f"{target.name}.data")
    if not beside.is_file() or file_bytes(target) > JOINED_UNTIL:
        return
    model = onnx.load(str(target))
    beside.unlink()
    onnx.save(model, str(target))


def prepare(source: Path, target: Path) -> None:
    """The same model fused, with inferred shapes, a name for every node, and an opset that can say "per channel".

    Without it `quantize_dynamic` fails on what the graph exporter writes, and layers cannot be named. Nothing of a
    large model is kept between the steps: each holds it at most twice.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    beside = goes_beside(source)
    plain = target.with_name(f"plain-{target.name}")
    ir_version = _write_plain(source, plain, beside=beside)
    quant_pre_process(
        str(plain),
        str(target),
        skip_symbolic_shape=True,
        save_as_external_data=beside,
        all_tensors_to_one_file=True,
        external_data_location=f"{target.name}.data" if beside else None,
    )
    for path in target.parent.glob(f"{plain.name}*"):
        path.unlink()
    fused = onnx.load(str(target), load_external_data=False)
    fused.ir_version = max(ir_version, _least_ir(fused))
    taken = {node.name for node in fused.graph.node}
    for index, node in enumerate(fused.graph.node):
        if not node.name:
            node.name = next(n for n in (f"{node.op_type}_{index}", f"{node.op_type}_{index}_") if n not in taken)
    onnx.save(fused, str(target))


def _write_plain(source: Path, plain: Path, *, beside: bool) -> int:
    """What the fusing reads; gives the file format's version that the source had."""
    model = onnx.load(str(source))
    opset = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if opset < _LOWEST_OPSET:
        model = onnx.version_converter.convert_version(model, _RAISED_OPSET)
    del model.graph.value_info[:]  # exporters leave shapes of weights there that the optimizer then transposes
    if beside:
        onnx.save(model, str(plain), save_as_external_data=True, location=f"{plain.name}.data")
    else:
        onnx.save(model, str(plain))
    return int(model.ir_version)


def _least_ir(model: Any) -> int:
    """The oldest file format that knows the model's opsets: old servers refuse newer ones."""
    return int(onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True))
