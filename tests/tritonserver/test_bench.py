"""`pilotfish bench` against a real tritonserver, over HTTP and gRPC: what it counts is what the server counted."""

import json
import time

import pytest
from typer.testing import CliRunner

from pilotfish.cli.bench.load import WARM_UP
from pilotfish.cli.main import app
from support.infer import metric
from support.repository import linear_onnx, make_config, scalars_onnx, write_model

pytestmark = pytest.mark.triton

SCALARS = """
name: "scalars"
backend: "onnxruntime"
max_batch_size: 0
input { name: "values" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "times" data_type: TYPE_INT64 dims: [ 1 ] }
output { name: "total" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments), "--engine", "builtin"])


def counted(server, wanted):
    """The server answers a request before it counts it."""
    deadline = time.monotonic() + 10
    while (found := metric(server, "nv_inference_count")) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_both_protocols(tmp_path, start_triton):
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    write_model(tmp_path / "models", "scalars", SCALARS, scalars_onnx())
    server = start_triton(repository).wait_ready("linear").wait_ready("scalars")
    sent = 0
    for url in (server.http_url, f"grpc://{server.grpc_url}"):
        done = bench(
            *("linear", "--url", url, "--concurrency", "1,2", "--max-requests", 40, "--duration", "30s"),
            *("--batch-size", 4, "-o", "json"),
        )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert [level["concurrency"] for level in told["levels"]] == [1, 2]
        assert [(level["requests"], level["errors"]) for level in told["levels"]] == [(40, 0), (40, 0)]
        assert all(0 < level["latencyMs"]["p50"] <= level["latencyMs"]["p99"] for level in told["levels"])
        sent += 2 * 40 + (1 + 2) * WARM_UP
    assert counted(server, 4 * sent) == 4 * sent

    done = bench("linear", "--url", server.http_url, "--duration", "1s", "--batch-size", 9)
    assert done.exit_code == 1
    assert "batch-size must be <= 8" in done.output
    done = bench("scalars", "--url", f"grpc://{server.grpc_url}", "--concurrency", 1, "--max-requests", 5)
    assert done.exit_code == 0, done.output
    (tmp_path / "in.json").write_text('{"values": [1, 2, 3], "times": [2]}')
    done = bench(
        "scalars", "--url", server.http_url, "--concurrency", 1, "--max-requests", 5, "-i", tmp_path / "in.json"
    )
    assert done.exit_code == 0, done.output
    assert "scalars at http://127.0.0.1" in done.output
    done = bench("nobody", "--url", server.http_url)
    assert done.exit_code == 1
    assert "error: the server answered 40" in done.output
