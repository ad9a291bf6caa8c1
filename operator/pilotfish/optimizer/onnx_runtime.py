"""ONNX Runtime as a runner, and the signature that a session shows."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.optimizer.tensors import Array, Arrays, triton_dtype

_ORT_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
}


class OnnxRunner:
    """An ONNX file in ONNX Runtime on the CPU, with the serving pod's thread count."""

    def __init__(self, path: Path, *, threads: int, optimize: bool = True) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._path, self._options = path, options
        self._opened: ort.InferenceSession | None = None
        self._outputs = [o.name for o in self._session.get_outputs()]

    @property
    def _session(self) -> ort.InferenceSession:
        if self._opened is None:
            self._opened = ort.InferenceSession(str(self._path), self._options, providers=["CPUExecutionProvider"])
        return self._opened

    def close(self) -> None:
        """Let go of the model's memory; the next call opens the file again."""
        self._opened = None

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"onnxruntime {ort.__version__}"

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs in the file's order."""
        return list(self._outputs)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        values: list[Any] = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, (np.asarray(v) for v in values), strict=True))

    def declared(self) -> ModelSignature:
        """Full shapes as the file declares them, batch dimension included; -1 where symbolic.

        Raises:
            ValueError: an input or output that is no tensor, or of a type that Triton cannot carry.
        """
        inputs = tuple(_spec(node) for node in self._session.get_inputs())
        outputs = tuple(_spec(node) for node in self._session.get_outputs())
        return ModelSignature(inputs=inputs, outputs=outputs, batched=False)

    def axis_names(self) -> dict[str, tuple[str | None, ...]]:
        """For every input the symbolic names of its axes, None where fixed or unnamed."""
        return {
            node.name: tuple(d if isinstance(d, str) else None for d in node.shape)
            for node in self._session.get_inputs()
        }


def _spec(node: Any) -> TensorSpec:
    dtype = _ORT_TYPES.get(node.type)
    if dtype is None:
        raise ValueError(f"{node.name} is of type {node.type}, which cannot be served; make it a tensor of numbers")
    shape = tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape)
    return TensorSpec(name=node.name, dtype=triton_dtype(np.dtype(dtype)), shape=shape)
