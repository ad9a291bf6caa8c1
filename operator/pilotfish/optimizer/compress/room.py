"""What recipes need while they build, so that one that does not fit is left out and the Job not ended by the kernel."""

from pathlib import Path

from pilotfish.optimizer.compress.graph import file_bytes, goes_beside
from pilotfish.optimizer.compress.order import RefusedError
from pilotfish.optimizer.memory import room_here
from pilotfish.optimizer.progress import size_text

TIMES_THE_MODEL = {
    "onnx-fp16": 4.1,
    "onnx-int8-dynamic": 4.3,
    "onnx-int8-static": 3.4,
    "onnx-int8-weights": 5.3,
    "openvino-int8": 9.9,
    "openvino-int8-weights": 7.9,
}
"""Most memory of a process that does nothing else, over its FP32 file: chains of MatMul and of Gemm of 512 MiB."""


def check_room(variant: str, source: Path) -> None:
    """Raises RefusedError where a large model's recipe needs more than is left."""
    times = TIMES_THE_MODEL.get(variant)
    if times is None or not goes_beside(source):
        return
    need, room = round(times * file_bytes(source)), room_here()
    if need > room:
        raise RefusedError(
            f"building takes {times:g} times the model in memory, {size_text(need)}, and {size_text(room)} are left; "
            "raise spec.optimization.resources.memory"
        )
