"""Triton's backend "onnxruntime" on a CPU: serves `<model>/<version>/model.onnx` as NVIDIA's backend does.

Reads the same config.pbtxt parameters: intra_op_thread_count, inter_op_thread_count, execution_mode. As there, a tensor
without dimensions travels as [1] in a model that is not batched.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from batched_backend import BatchedBackend, LoadError, check_names

_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}
_ERRORS_ONLY = 3


class TritonPythonModel(BatchedBackend):
    """One ONNX Runtime session."""

    file_name = "model.onnx"

    def load(self, path: Path) -> None:
        """Open a session with the config's thread counts."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self.thread_count("intra_op_thread_count")
        options.inter_op_num_threads = self.thread_count("inter_op_thread_count")
        if self.thread_count("execution_mode"):
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.scalars = {item.name for item in self.session.get_inputs() if not item.shape}
        found_inputs = {item.name: item.type for item in self.session.get_inputs()}
        found_outputs = {item.name: item.type for item in self.session.get_outputs()}
        check_names("input", set(self.inputs), set(found_inputs), file_name=path.name)
        check_names("output", set(self.outputs), set(found_outputs), file_name=path.name)
        for name in sorted(set(found_inputs) - set(self.inputs)):
            raise LoadError(f"{path.name} needs input {name!r}, which config.pbtxt does not name")
        for name, wanted in {**self.inputs, **self.outputs}.items():
            found = (found_inputs | found_outputs)[name]
            if _TYPES.get(found) != wanted:
                raise LoadError(f"config.pbtxt gives {name!r} {wanted} but {path.name} has {found}")

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output of the config by name."""
        names = list(self.outputs)
        fed = {name: array.reshape(()) if name in self.scalars else array for name, array in feeds.items()}
        results = self.session.run(names, fed)
        return {
            name: np.reshape(result, (1,)) if np.ndim(result) == 0 else result
            for name, result in zip(names, results, strict=True)
        }
