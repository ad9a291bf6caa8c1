"""The optimizer's artifacts on a real tritonserver: every family over HTTP and gRPC, compared with PyTorch."""

import http.client
import json

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from pilotfish.cli.port_forward import PodPort
from pilotfish.cli.tensors import Tensor, make_request, read_answer
from support import infer
from support.families import SOURCES, Optimized, optimize
from support.triton import Flavour, TritonServer

pytestmark = [pytest.mark.triton, pytest.mark.torch, pytest.mark.slow]


def _ask(client, module, name: str, done: Optimized, call: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = []
    for spec in done.message.signature.inputs:
        value = np.atleast_1d(call[spec.name])
        tensors.append(module.InferInput(spec.name, list(value.shape), spec.dtype))
        tensors[-1].set_data_from_numpy(value)
    answer = client.infer(name, tensors, model_version="1")
    return {t.name: answer.as_numpy(t.name) for t in done.message.signature.outputs}


def _ask_in_json(server: TritonServer, name: str, done: Optimized, call: dict[str, np.ndarray]) -> tuple[Tensor, ...]:
    """As `pilotfish predict` asks, without the port-forward."""
    text = json.dumps({spec.name: call[spec.name].tolist() for spec in done.message.signature.inputs})
    port = PodPort(http.client.HTTPConnection(server.http_address, timeout=60))
    return read_answer(port.post(f"/v2/models/{name}/infer", make_request(text, done.message.signature)).body)


def _serve_and_compare(start_triton, name: str, done: Optimized, flavour: Flavour) -> None:
    server = start_triton(done.repository, flavour=flavour).wait_ready(name, seconds=180)
    for call in done.source.calls:
        expected = done.source.answer(call)
        for client, module in ((infer.http(server), triton_http), (infer.grpc(server), triton_grpc)):
            for output, value in _ask(client, module, name, done, call).items():
                np.testing.assert_allclose(value, expected[output], rtol=1e-3, atol=1e-4, err_msg=output)
        for tensor in _ask_in_json(server, name, done, call):
            value = np.array(tensor.data).reshape(tensor.shape)
            np.testing.assert_allclose(value, expected[tensor.name], rtol=1e-3, atol=1e-4, err_msg=tensor.name)


def _but_for(*names: str) -> list:
    """The families; these in `make soak` alone, since `make test` has them elsewhere."""
    return [pytest.param(name, marks=pytest.mark.soak) if name in names else name for name in SOURCES]


# On real nodes it is in tests/e2e/test_transformer.py.
@pytest.mark.parametrize("name", _but_for("minilm"))
def test_onnx_artifacts(name, tmp_path, start_triton):
    done = optimize(name, tmp_path / "work", formats=["ONNX"], precisions=["FP32"])
    _serve_and_compare(start_triton, name, done, Flavour.ONNX)


@pytest.mark.parametrize(
    "name", ["lstm", "transformer", *(pytest.param(name, marks=pytest.mark.soak) for name in ("mlp", "cnn"))]
)
def test_torchscript_artifacts(name, tmp_path, start_triton):
    done = optimize(name, tmp_path / "work", formats=["TorchScript"], precisions=["FP32"])
    _serve_and_compare(start_triton, name, done, Flavour.TORCH)
