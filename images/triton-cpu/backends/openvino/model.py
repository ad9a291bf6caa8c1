"""Triton's backend "openvino" on a CPU: serves `<model>/<version>/model.xml` (or model.onnx) as NVIDIA's backend does.

Reads the same config.pbtxt parameters, INFERENCE_NUM_THREADS, NUM_STREAMS, HINT_BF16 and PERFORMANCE_HINT, and one that
NVIDIA's passes over: INFERENCE_PRECISION_HINT. Never leaves the precision to OpenVINO, whose own choice is bfloat16
wherever the CPU has it: f32 when nothing is said. Threads are for all instances together, one stream each.
"""

from pathlib import Path

import numpy as np
import openvino
import triton_python_backend_utils as pb_utils
from batched_backend import BatchedBackend, LoadError, check_names

_TYPES = {
    "boolean": "TYPE_BOOL",
    "u8": "TYPE_UINT8",
    "u16": "TYPE_UINT16",
    "u32": "TYPE_UINT32",
    "u64": "TYPE_UINT64",
    "i8": "TYPE_INT8",
    "i16": "TYPE_INT16",
    "i32": "TYPE_INT32",
    "i64": "TYPE_INT64",
    "f16": "TYPE_FP16",
    "f32": "TYPE_FP32",
}
_PRECISION = "INFERENCE_PRECISION_HINT"
_PRECISIONS = ("f32", "bf16")
_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")


class TritonPythonModel(BatchedBackend):
    """One compiled model with one request."""

    file_name = "model.xml"

    def load(self, path: Path) -> None:
        """Compile the model with the config's threads and precision."""
        precision = self._precision()
        compiled = openvino.Core().compile_model(str(path), "CPU", {_PRECISION: precision, **self._threads()})
        found = compiled.get_property(_PRECISION).get_type_name()
        if found != precision:
            pb_utils.Logger.log_warn(f"{path.name}: this CPU computes in {found} where the config says {precision}")
        inputs = {port.get_any_name(): port for port in compiled.inputs}
        outputs = {port.get_any_name(): port for port in compiled.outputs}
        check_names("input", set(self.inputs), set(inputs), file_name=path.name)
        check_names("output", set(self.outputs), set(outputs), file_name=path.name)
        for name in sorted(set(inputs) - set(self.inputs)):
            raise LoadError(f"{path.name} needs input {name!r}, which config.pbtxt does not name")
        for name, wanted in {**self.inputs, **self.outputs}.items():
            self._check_tensor(name, wanted, (inputs | outputs)[name], file_name=path.name)
        self.request = compiled.create_infer_request()

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output of the config by name."""
        self.request.infer({name: np.ascontiguousarray(feeds[name]) for name in self.inputs}, share_inputs=True)
        return {name: np.array(self.request.get_tensor(name).data) for name in self.outputs}

    def _precision(self) -> str:
        """INFERENCE_PRECISION_HINT; HINT_BF16, which says the same, must not say otherwise."""
        hint = self.parameters.get("HINT_BF16", "")
        if hint and hint.upper() != "YES":
            raise LoadError(f"parameter 'HINT_BF16' is {hint!r}; write YES or leave it out")
        said = self.parameters.get(_PRECISION, "bf16" if hint else "f32").lower()
        if said not in _PRECISIONS:
            raise LoadError(f"parameter {_PRECISION!r} is {said!r}; write one of {', '.join(_PRECISIONS)}")
        if hint and said != "bf16":
            raise LoadError(f"parameters 'HINT_BF16' and {_PRECISION!r} say different precisions; drop one")
        return said

    def _threads(self) -> dict[str, int | str | bool]:
        """This instance's share: here every instance compiles the model for itself."""
        streams = self._streams()
        options: dict[str, int | str | bool] = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        if threads := self.thread_count("INFERENCE_NUM_THREADS"):
            options["INFERENCE_NUM_THREADS"] = max(1, threads // streams)
        if hint := self.parameters.get("PERFORMANCE_HINT", "").upper():
            if hint not in _HINTS:
                raise LoadError(f"parameter 'PERFORMANCE_HINT' is {hint!r}; write one of {', '.join(_HINTS)}")
            options["PERFORMANCE_HINT"] = hint
        return options

    def _streams(self) -> int:
        if self.parameters.get("NUM_STREAMS", "AUTO").upper() in {"AUTO", "NUMA"}:
            return 1
        return max(1, self.thread_count("NUM_STREAMS"))

    def _check_tensor(self, name: str, wanted: str, port: openvino.Output, *, file_name: str) -> None:
        found, shape = port.get_element_type().get_type_name(), port.get_partial_shape()
        if _TYPES.get(found) != wanted:
            raise LoadError(f"config.pbtxt gives {name!r} {wanted} but {file_name} has {found}")
        dims, own = self.dims[name], list(shape)[1:] if self.batched else list(shape)
        if len(own) != len(dims) or not all(map(_fits, own, dims)):
            raise LoadError(f"config.pbtxt gives {name!r} the dims {dims} but {file_name} has the shape {shape}")


def _fits(dimension: openvino.Dimension, size: int) -> bool:
    return dimension.is_dynamic or dimension.get_length() == size
