"""Ask a tritonserver under test, over HTTP or gRPC."""

import urllib.request
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from support.triton import TritonServer


def infer(client: Any, module: ModuleType, model: str, arrays: dict[str, np.ndarray], output: str = "y") -> np.ndarray:
    """One output of version 1; the two client modules have the same calls."""
    inputs = []
    for name, array in arrays.items():
        tensor = module.InferInput(name, list(array.shape), {"float32": "FP32", "int64": "INT64"}[array.dtype.name])
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return client.infer(model, inputs, model_version="1").as_numpy(output)


def http(server: TritonServer) -> triton_http.InferenceServerClient:
    """A client that may have eight requests under way."""
    return triton_http.InferenceServerClient(server.http_address, concurrency=8)


def grpc(server: TritonServer) -> triton_grpc.InferenceServerClient:
    """A client on one channel."""
    return triton_grpc.InferenceServerClient(server.grpc_url)


def metric(server: TritonServer, name: str) -> float:
    """A metric summed over its labels."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))
