"""OpenVINO on the CPU as a runner. The precision is always said, never left to OpenVINO."""

from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.optimizer import openvino_quiet
from pilotfish.optimizer.tensors import Array, Arrays

openvino_quiet.silence()

import openvino as ov  # noqa: E402 - after its telemetry is out of reach

PRECISION = "INFERENCE_PRECISION_HINT"


class OpenVinoRunner:
    """A model.xml or model.onnx as Triton's backend runs it: one stream with the serving pod's thread count.

    `precision` is f32 or bf16; None leaves the choice to OpenVINO, which no artifact is served with.

    Raises:
        ValueError: OpenVINO computes in another precision than was said, or names a tensor in another way.
    """

    def __init__(self, path: Path, *, threads: int, precision: str | None) -> None:
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        if precision is not None:
            options[PRECISION] = precision
        compiled = ov.Core().compile_model(str(path), "CPU", options)
        self.precision = str(compiled.get_property(PRECISION).get_type_name())
        if precision not in {None, self.precision}:
            raise ValueError(f"OpenVINO computes in {self.precision} on this CPU, not in {precision}")
        self._request = compiled.create_infer_request()
        self._outputs = [_name(port) for port in compiled.outputs]
        self._inputs = [_name(port) for port in compiled.inputs]

    @property
    def runtime(self) -> str:
        """Name, version and the precision that was said."""
        return f"openvino {ov.__version__.partition('-')[0]} {self.precision}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        self._request.infer({name: np.ascontiguousarray(inputs[name]) for name in self._inputs}, share_inputs=True)
        return {name: np.array(self._request.get_tensor(name).data) for name in self._outputs}


def _name(port: Any) -> str:
    """The name that NVIDIA's backend would look for; a tensor with several names answers to the first of them only."""
    return str(port.get_any_name())
