"""TorchScript files behind the images' backend "pytorch", on a real tritonserver."""

import io

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_grpc

from support.repository import write_model
from support.triton import Flavour, TritonError

pytestmark = [pytest.mark.triton, pytest.mark.torch]

LEFT = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
RIGHT = np.linspace(2, 3, 6, dtype=np.float32).reshape(2, 3)


class Difference(torch.nn.Module):
    """Not symmetric, so that a swapped input shows."""

    def forward(self, left, right):
        return left - right, (left - right).sum(dim=1)


def traced():
    example = torch.zeros(2, 3)
    with torch.no_grad():
        module = torch.jit.freeze(torch.jit.trace(Difference().eval(), (example, example)))
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def make_config(inputs, outputs=("gap", "total"), body=""):
    tensors = [f'input {{ name: "{name}" data_type: TYPE_FP32 dims: [ 3 ] }}' for name in inputs]
    dims = ["dims: [ 3 ]", "dims: [ 1 ] reshape { shape: [ ] }"]
    tensors += [
        f'output {{ name: "{name}" data_type: TYPE_FP32 {dim} }}' for name, dim in zip(outputs, dims, strict=True)
    ]
    lines = ['name: "model"', 'backend: "pytorch"', "max_batch_size: 8", *tensors, "dynamic_batching { }", body]
    return "\n".join([*lines, "instance_group { count: 1 kind: KIND_CPU }"])


@pytest.mark.parametrize(
    ("inputs", "left", "outputs"),
    [
        (("right", "left"), "left", ("gap", "total")),
        (("INPUT__1", "INPUT__0"), "INPUT__0", ("OUTPUT__0", "OUTPUT__1")),
        (("first", "second"), "first", ("gap", "total")),
    ],
    ids=["argument-names", "indexed-names", "order"],
)
def test_inputs_reach_the_arguments_that_they_are_meant_for(tmp_path, start_triton, inputs, left, outputs):
    body = 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "1" } }'
    config = make_config(inputs, outputs, body)
    repository = write_model(tmp_path / "models", "model", config, traced(), file_name="model.pt")
    server = start_triton(repository, flavour=Flavour.TORCH).wait_ready("model", seconds=120)

    tensors = []
    for name in inputs:
        tensors.append(triton_grpc.InferInput(name, [2, 3], "FP32"))
        tensors[-1].set_data_from_numpy(LEFT if name == left else RIGHT)
    answer = triton_grpc.InferenceServerClient(server.grpc_url).infer("model", tensors)

    np.testing.assert_allclose(answer.as_numpy(outputs[0]), LEFT - RIGHT, rtol=1e-6)
    np.testing.assert_allclose(answer.as_numpy(outputs[1]), (LEFT - RIGHT).sum(axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("inputs", "config.pbtxt names 1 inputs but forward() takes left, right"),
        ("indexes", "the numbers at the end of INPUT__0, INPUT__2 do not count from 0"),
        ("file", "cannot load model 'model':"),
    ],
)
def test_a_file_that_does_not_fit_its_config_is_refused(tmp_path, start_triton, case, message):
    inputs = {"inputs": ("left",), "indexes": ("INPUT__0", "INPUT__2")}.get(case, ("left", "right"))
    model = b"not a TorchScript archive" if case == "file" else traced()
    repository = write_model(tmp_path / "models", "model", make_config(inputs), model, file_name="model.pt")
    server = start_triton(repository, flavour=Flavour.TORCH)

    with pytest.raises(TritonError, match="ended"):
        server.wait_ready("model", seconds=120)
    assert message in server.log[-2048:]
