"""`pilotfish predict`: JSON that fits the model or a sentence why not; the protocol's answers as people read them."""

import http.client
import http.server
import json
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli import predict as module
from pilotfish.cli.main import app
from pilotfish.cli.port_forward import NoAnswer, PodPort, Reply, open_port
from pilotfish.cli.tensors import BadInput, make_example, make_request, read_answer
from support.two_revisions import record_of, scope_of


def signature(*inputs, batched=True):
    specs = tuple(TensorSpec(name=n, dtype=d, shape=s) for n, d, s in inputs)
    return ModelSignature(inputs=specs, outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),), batched=batched)


PAIR = signature(("x", "FP32", (2,)))
TWO = signature(("ids", "INT64", (-1,)), ("mask", "INT64", (-1,)))


@pytest.mark.parametrize(
    ("text", "shape", "data"),
    [
        ("[1, 2]", [1, 2], [1, 2]),
        ("[[1, 2], [3, 4.5]]", [2, 2], [1, 2, 3, 4.5]),
        ('{"x": [1, 2]}', [1, 2], [1, 2]),
    ],
)
def test_values_alone_or_by_name_with_or_without_the_batch(text, shape, data):
    (tensor,) = make_request(text, PAIR)["inputs"]
    assert tensor == {"name": "x", "shape": shape, "datatype": "FP32", "data": data}


def test_without_a_batch_dimension_the_shape_is_the_whole_shape():
    alone = signature(("x", "FP32", (2,)), batched=False)
    assert make_request("[1, 2]", alone)["inputs"][0]["shape"] == [2]
    with pytest.raises(BadInput, match=r"shape \[1, 2\]; the model takes \[2\]$"):
        make_request("[[1, 2]]", alone)


def test_a_body_of_the_protocol_is_passed_on():
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    assert make_request(json.dumps(body), PAIR) == body


@pytest.mark.parametrize(
    ("text", "model", "sentence"),
    [
        ("{", PAIR, "the input is no JSON"),
        ("[1, 2, 3]", PAIR, r"input x has shape \[3\]; the model takes \[2\], or a list of such samples, \[any, 2\]"),
        ("[[1, 2], [3]]", PAIR, "input x has lists of different lengths"),
        ("[[1, [2]]]", PAIR, "input x has lists of different lengths"),
        ('["a", "b"]', PAIR, 'input x is FP32 and holds "a"'),
        ("[true, 1]", PAIR, "input x is FP32 and holds true"),
        ("[null, 1]", PAIR, "input x is FP32 and holds null"),
        ("7", PAIR, r"input x has shape \[\]"),
        ('{"z": [1, 2]}', PAIR, "the input lacks x; its inputs are x"),
        ('{"x": [1, 2], "z": 1}', PAIR, "the model has no input z; its inputs are x"),
        ("[1]", TWO, "the model has 2 inputs: write an object with ids, mask"),
        ('{"ids": [1.5], "mask": [1]}', TWO, "input ids is INT64 and holds 1.5"),
        ('{"ids": [[1], [2]], "mask": [1]}', TWO, "same number of samples: ids has 2, mask has 1"),
        ("[-1]", signature(("x", "UINT8", (1,))), "input x is UINT8 and holds -1"),
        ("[1]", signature(("x", "BYTES", (1,))), "input x is BYTES and holds 1"),
        ("[1]", signature(("x", "FP16", (1,))), "FP16, which has no JSON form"),
    ],
)
def test_what_does_not_fit_is_said(text, model, sentence):
    with pytest.raises(BadInput, match=sentence):
        make_request(text, model)


def test_an_example_is_an_input():
    words = signature(("text", "BYTES", (2,)), ("on", "BOOL", (1,)), ("x", "FP32", (-1, 2)))
    example = make_example(words)
    assert example == {"text": ["", ""], "on": [False], "x": [[0.0, 0.0]]}
    assert len(make_request(json.dumps(example), words)["inputs"]) == 3


def test_an_answer_is_cut_into_samples():
    wire = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}
    (tensor,) = read_answer(wire)
    assert tensor.rows() == ((1, 2, 3), (4, 5, 6))
    with pytest.raises(BadInput, match="no readable outputs"):
        read_answer({"outputs": [{"name": "y"}]})


class _Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = (200, json.dumps(body)) if body != {} else (400, '{"error": "nothing asked"}')
        if self.path == "/hangup":
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_args):
        pass


@pytest.fixture
def port():
    server = http.server.HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield PodPort(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10))
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pod_is_asked(port):
    reply = port.post("/v2/models/m/infer", {"a": 1})
    assert reply.body == {"a": 1}
    assert reply.seconds > 0
    with pytest.raises(NoAnswer, match="the server answered 400: nothing asked"):
        port.post("/v2/models/m/infer", {})
    with pytest.raises(NoAnswer, match="closed the connection"):
        port.post("/hangup", {"a": 1})


def test_a_port_that_nobody_listens_on_is_said(monkeypatch):
    ours, theirs = socket.socketpair()
    theirs.close()
    forward = SimpleNamespace(socket=lambda _port: ours, error=lambda _port: "connection refused\n")
    monkeypatch.setattr("kubernetes.stream.portforward", lambda *_args, **_more: forward)
    monkeypatch.setattr("kubernetes.config.new_client_from_config", lambda *_args: None)
    with (
        pytest.raises(NoAnswer, match=r"pod p does not listen on port 8000: connection refused$"),
        open_port(namespace="team", pod="p", port=8000, kubeconfig=None, context=None) as port,
    ):
        port.post("/", {"a": 1})


@pytest.fixture
def served(monkeypatch):
    """A served model whose pod answers with these scores; what it was asked is noted."""
    record = record_of(scope_of()).model_copy(update={"signature": PAIR})
    asked = module.Asked(namespace="team", model="digits", pod="digits-abc-1", record=record)
    requests = []

    class Port:
        def post(self, path, body):
            requests.append((path, body))
            answer = {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0.25, 2.5, 1.0]}
            return Reply(body={"outputs": [answer]}, seconds=0.0021)

    @contextmanager
    def open_port(**_where):
        yield Port()

    monkeypatch.setattr(module, "run", lambda *_args: asked)
    monkeypatch.setattr(module, "open_port", open_port)
    return requests


def run(*arguments, text=None):
    return CliRunner().invoke(app, ["predict", "digits", *map(str, arguments)], input=text)


def test_labels_latency_and_who_answered(served, tmp_path):
    (tmp_path / "labels").write_text("zero\none\ntwo\n")
    done = run("-i", "-", "--labels", tmp_path / "labels", "--top", 2, text="[1, 2]")
    assert done.exit_code == 0, done.output
    assert "one (2.5), two (1)" in done.output
    assert "pod digits-abc-1: 2.1 ms" in done.output
    assert served[0][0] == "/v2/models/digits/infer"


def test_for_machines(served):
    told = json.loads(run("-i", "-", "-o", "json", text="[1, 2]").stdout)
    assert told["outputs"][0]["data"] == [0.25, 2.5, 1.0]
    assert told["milliseconds"] == 2.1
    assert {"revision", "variant", "pod"} <= told.keys()


def test_an_example_to_start_from(served):
    assert json.loads(run("--example").stdout) == {"x": [0.0, 0.0]}
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "text", "code", "sentence"),
    [
        ((), None, 2, "give --input FILE"),
        (("-i", "-"), "[1]", 1, "error: input x has shape [1]"),
        (("-i", "/nowhere/x.json"), None, 1, "error: /nowhere/x.json: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_sentence(served, arguments, text, code, sentence):
    done = run(*arguments, text=text)
    assert done.exit_code == code
    assert sentence in " ".join(done.output.split())
