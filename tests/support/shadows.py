"""Requests to the linear model of support.repository, as clients write them, and the same model with other weights."""

import json

import numpy as np
import onnx
from onnx import numpy_helper
from tritonclient.grpc import service_pb2

from support.repository import WEIGHT, linear_onnx

SECRET = 7315.25
"""A value that must not be read anywhere outside of a request."""


def linear_with(factor: float) -> bytes:
    """The linear model with its weights times a factor."""
    model = onnx.load_from_string(linear_onnx())
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
    weight.CopyFrom(numpy_helper.from_array((WEIGHT * factor).astype(np.float32), "weight"))
    return model.SerializeToString()


def http_request(x: np.ndarray, *, binary: bool = True) -> tuple[str, bytes]:
    """Headers and body of an inference, input and output in the binary extension; or the answer in JSON."""
    head = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": list(x.shape),
                "parameters": {"binary_data_size": x.nbytes},
            }
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": binary}}],
    }
    text = json.dumps(head).encode()
    told = f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(text)}"
    return told, text + x.tobytes()


def grpc_request(x, *, model: str = "linear") -> bytes:
    """A ModelInferRequest with raw contents."""
    array = np.asarray(x, dtype=np.float32)
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=list(array.shape))
    return request.SerializeToString()
