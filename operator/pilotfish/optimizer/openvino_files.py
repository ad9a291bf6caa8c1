"""OpenVINO's own files: read ONNX, write model.xml and model.bin, and fix the precision inside the file.

OpenVINO lowers the precision by itself: on a CPU with bfloat16 it computes in bfloat16 unless told otherwise, and
NVIDIA's backend for Triton has no parameter that tells it otherwise. What must stay exact is therefore marked in the
file, operation by operation, which every reader of the file obeys.
"""

from pathlib import Path
from typing import Any

from pilotfish.optimizer import openvino_quiet

openvino_quiet.silence()

import openvino as ov  # noqa: E402 - after its telemetry is out of reach

XML = "model.xml"
_EXACT = "precise_0"


def read_onnx(path: Path) -> Any:
    """The graph of an ONNX (or OpenVINO) file. Raises RuntimeError with OpenVINO's words."""
    return ov.Core().read_model(str(path))


def mark_exact(model: Any) -> None:
    """No operation of the model may be computed in less than the precision that it is written in."""
    for operation in model.get_ops():
        operation.get_rt_info()[_EXACT] = ""


def save_ir(model: Any, target: Path) -> Path:
    """Write `target` and its .bin beside it, weights as they are; returns `target`."""
    ov.save_model(model, str(target), compress_to_fp16=False)
    return target
