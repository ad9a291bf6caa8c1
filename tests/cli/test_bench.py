"""`pilotfish bench`: bytes as Triton takes them, figures as they are defined, bounds that hold, and who is the bottleneck."""

import http.server
import json
import os
import pty
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
from typer.testing import CliRunner

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli.bench import command, perf_analyzer
from pilotfish.cli.bench.figures import Level, saturation_of, summarize, warnings_about
from pilotfish.cli.bench.load import MAX_ERRORS, WARM_UP, measure
from pilotfish.cli.bench.payload import blobs_of, http_body, make_blobs
from pilotfish.cli.bench.wires import parse_address
from pilotfish.cli.main import app
from pilotfish.cli.port_forward import NoAnswer
from pilotfish.cli.predict import Asked
from pilotfish.cli.tensors import BadInput
from support.two_revisions import record_of, scope_of


def signature(*inputs, batched=True):
    specs = tuple(TensorSpec(name=n, dtype=d, shape=s) for n, d, s in inputs)
    return ModelSignature(inputs=specs, outputs=(TensorSpec(name="y", dtype="FP32", shape=(3,)),), batched=batched)


def test_made_up_input_is_the_same_each_time_and_of_the_right_size():
    model = signature(
        ("x", "FP32", (2, -1)), ("h", "FP16", (3,)), ("b", "BF16", (1,)), ("i", "INT64", (2,)), ("s", "BYTES", (1,))
    )
    blobs = make_blobs(model, batch_size=4)
    assert blobs == make_blobs(model, batch_size=4)
    assert [(b.name, b.shape, len(b.content)) for b in blobs] == [
        ("x", (4, 2, 1), 32),
        ("h", (4, 3), 24),
        ("b", (4, 1), 8),
        ("i", (4, 2), 64),
        ("s", (4, 1), 4 * (4 + len("pilotfish"))),
    ]
    assert all(0 <= value < 1 for value in struct.unpack("<8f", blobs[0].content))


def test_a_scalar_and_a_model_without_batching():
    (blob,) = make_blobs(signature(("t", "INT32", ()), batched=False), batch_size=1)
    assert blob.shape == (1,)
    with pytest.raises(BadInput, match="served without batching"):
        make_blobs(signature(("t", "INT32", ()), batched=False), batch_size=2)


def test_free_dimensions_take_the_example():
    spec = TensorSpec(name="x", dtype="UINT8", shape=(-1, 3), example=(7, 3))
    model = ModelSignature(inputs=(spec,), outputs=(spec,), batched=True)
    assert make_blobs(model, batch_size=2)[0].shape == (2, 7, 3)


@pytest.mark.parametrize("bad", [{"data": [300]}, {"data": ["a"]}, {"datatype": "UINT9"}, {"data": None}])
def test_a_value_that_does_not_fit_is_said(bad):
    with pytest.raises(BadInput):
        blobs_of([{"name": "x", "datatype": "UINT8", "shape": [1, 1], "data": [3], **bad}])


def test_the_body_is_json_and_then_bytes():
    body, head = http_body(make_blobs(signature(("x", "FP32", (2,))), batch_size=1))
    told = json.loads(body[:head])
    assert told["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert len(body) == head + 8


def test_percentiles_are_values_that_were_measured():
    told = summarize([n / 1000 for n in range(100, 0, -1)])
    assert {name: round(value, 6) for name, value in told.items()} == {
        "mean": 50.5,
        "p50": 50.0,
        "p90": 90.0,
        "p95": 95.0,
        "p99": 99.0,
    }
    assert summarize([0.002])["p99"] == 2.0
    assert summarize([]) == {}


def level(concurrency=1, requests=100, busy=0.1, errors=0):
    return Level(
        concurrency=concurrency, requests=requests, errors=errors, seconds=2.0, batch_size=4, latency={},
        client_busy=busy, first_error="boom" if errors else "",
    )  # fmt: skip


def test_throughput_counts_samples_and_saturation_is_found():
    assert level().throughput == 200
    assert saturation_of([level(1, 100), level(2, 190), level(4, 195), level(8, 300)]) == 2
    assert saturation_of([level(1, 100), level(2, 190)]) is None


def test_who_is_the_bottleneck_is_said():
    assert warnings_about([level()], through_forward=False) == ()
    (told,) = warnings_about([level(), level(8, busy=0.97)], through_forward=False)
    assert told.startswith("at concurrency 8 this program itself was the bottleneck")
    (told,) = warnings_about([level(busy=None)], through_forward=True)
    assert "port-forward" in told
    (told,) = warnings_about([level(), level(errors=3)], through_forward=False)
    assert told == "3 requests failed, which no figure counts; the first: boom"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("10.0.0.1:8000", ("http", "10.0.0.1", 8000, "")),
        ("https://models.example.org/digits/", ("https", "models.example.org", 443, "/digits")),
        ("grpc://[::1]:8001", ("grpc", "::1", 8001, "")),
    ],
)
def test_an_address(url, told):
    address = parse_address(url)
    assert (address.scheme, address.host, address.port, address.path) == told


@pytest.mark.parametrize("url", ["ftp://a:1", "grpc://a", "http://"])
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match="write"):
        parse_address(url)


class Wire:
    """Answers at once; `fails` says which calls do not."""

    def __init__(self, fails=lambda _n: False):
        self.calls, self.opened, self.closed, self.fails = 0, 0, 0, fails

    @contextmanager
    def __call__(self):
        self.opened += 1

        def ask():
            self.calls += 1
            if self.fails(self.calls):
                raise NoAnswer("the server answered 500: boom")

        yield ask
        self.closed += 1


def run_level(wire, **said):
    asked = {"concurrency": 1, "seconds": 30.0, "max_requests": 50, "batch_size": 1, **said}
    return measure(wire, on_tick=lambda _seconds, _count: None, **asked)


def test_a_level_ends_with_its_count():
    wire = Wire()
    found = run_level(wire, concurrency=2)
    assert (found.requests, found.errors, wire.calls) == (50, 0, 50 + 2 * WARM_UP)
    assert (wire.opened, wire.closed) == (2, 2)
    assert found.seconds < 30


def test_a_level_ends_with_its_time():
    release = threading.Event()
    ticks = []

    def fails(n):
        if n > WARM_UP:
            release.wait(0.01)
        return False

    found = measure(
        Wire(fails), concurrency=1, seconds=0.3, max_requests=10**6, batch_size=1, on_tick=lambda *t: ticks.append(t)
    )
    assert 0 < found.requests < 10**6
    assert ticks


def test_failures_are_counted_and_bounded():
    found = run_level(Wire(lambda n: n > WARM_UP + 5), max_requests=10**6)
    assert (found.requests, found.errors, found.first_error) == (5, MAX_ERRORS, "the server answered 500: boom")


def test_when_the_first_request_fails_the_rest_is_not_sent():
    wire = Wire(lambda _n: True)
    with pytest.raises(NoAnswer, match="boom"):
        run_level(wire)
    assert wire.calls == 1


class StandIn(http.server.BaseHTTPRequestHandler):
    """As much of Triton as the command asks for; refuses requests of more than two samples."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: two wait for each other's acknowledgement

    def do_GET(self):
        config = self.path.endswith("/config")
        tensors = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }
        if "/nobody" in self.path:
            self.answer(400, {"error": "unknown model"})
        else:
            self.answer(200, {"max_batch_size": 4} if config else tensors)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (tensor,) = json.loads(body[: int(self.headers["Inference-Header-Content-Length"])])["inputs"]
        if tensor["shape"][0] > 2:
            self.answer(400, {"error": "too many"})
        else:
            self.answer(200, {"outputs": []})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments, text=None):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)], input=text)


def test_the_table_and_the_json(url):
    done = run("digits", "--url", url, "--concurrency", "1,2", "--max-requests", 20, "--engine", "builtin")
    assert done.exit_code == 0, done.output
    assert f"digits at {url}, batch size 1, load by builtin" in done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1] in {"1", "2"}]
    assert [(row[0], row[-2], row[-1]) for row in rows] == [("1", "20", "0"), ("2", "20", "0")]
    done = run("digits", "--url", url, "--concurrency", 1, "--max-requests", 5, "-o", "json", "-i", "-", text="[1, 2]")
    told = json.loads(done.stdout)
    assert (told["endpoint"], told["batchSize"], len(told["levels"])) == (url, 1, 1)
    assert set(told["levels"][0]["latencyMs"]) == {"mean", "p50", "p90", "p95", "p99"}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--batch-size", 3), 1, "error: the server answered 400: too many"),
        (("--concurrency", "0"), 2, "numbers between 1 and 256"),
        (("--concurrency", "a"), 2, "write --concurrency 1,2,4"),
        (("--duration", "11m"), 2, "between 1s and 10m"),
        (("--batch-size", 3, "-i", "-"), 2, "--input says the batch itself"),
        (("--revision", "abc"), 2, "--revision needs a pod"),
        (("--engine", "perf_analyzer"), 1, "perf_analyzer is not on the PATH"),
        (("-i", "/nowhere/x"), 1, "error: /nowhere/x: No such file or directory"),
    ],
)
def test_what_goes_wrong_is_one_sentence(url, arguments, code, sentence, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    done = run("digits", "--url", url, *arguments)
    assert (done.exit_code, sentence in " ".join(done.output.replace("│", " ").split())) == (code, True), done.output


def test_a_model_or_server_that_is_not_there(url):
    assert "error: the server answered 400: unknown model" in run("nobody", "--url", url).output
    assert "error: nobody answers at 127.0.0.1:1: " in run("digits", "--url", "127.0.0.1:1").output


def test_through_a_port_forward(url, monkeypatch):
    address = parse_address(url)
    opened = []

    def open_port(**where):
        opened.append(where)
        return command.open_http(address)()

    record = record_of(scope_of()).model_copy(update={"signature": signature(("x", "FP32", (2,)))})
    asked = Asked(namespace="team", model="digits", pod="digits-abc-1", record=record)
    monkeypatch.setattr(command, "run", lambda *_args: asked)
    monkeypatch.setattr(command, "open_port", open_port)
    done = run("digits", "--concurrency", "2", "--max-requests", 10, "--engine", "auto", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["endpoint"], told["engine"], told["revision"]) == ("pod digits-abc-1", "builtin", record.revision)
    assert any("port-forward" in warning for warning in told["warnings"])
    assert [(where["pod"], where["port"]) for where in opened] == [("digits-abc-1", 8000)] * 2
    assert run("digits", "--concurrency", "64").exit_code == 2


FAKE = """#!/bin/sh
echo "$@" >> "{log}"
while [ $# -gt 0 ]; do
  case "$1" in
    -f) table=$2; shift;;
    --concurrency-range=*) level=${{1#*:}};;
  esac
  shift
done
[ "$level" = 9 ] && {{ echo "failed to reach the server" >&2; exit 3; }}
echo "Concurrency,Inferences/Second,Client Send,Server Queue,p50 latency,p90 latency,p95 latency,p99 latency" > "$table"
echo "$level,800.5,1,2,1500,2000,2500,3000" >> "$table"
"""


def test_perf_analyzer_makes_the_load_where_it_is(url, monkeypatch, tmp_path):
    program = tmp_path / "perf_analyzer"
    program.write_text(FAKE.format(log=tmp_path / "log"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = run("digits", "--url", url, "--concurrency", "1,4", "--duration", "2s", "--batch-size", 2, "-o", "json")
    told = json.loads(done.stdout)
    assert told["engine"] == "perf_analyzer"
    assert [one["concurrency"] for one in told["levels"]] == [1, 4]
    assert told["levels"][0]["latencyMs"] == {"p50": 1.5, "p90": 2.0, "p95": 2.5, "p99": 3.0}
    assert told["levels"][0]["samplesPerSecond"] == pytest.approx(800.5, rel=0.01)
    called = (tmp_path / "log").read_text().splitlines()[0]
    assert f"-m digits -i http -u {url.removeprefix('http://')}" in called
    assert "--measurement-interval=2000 --max-trials=10 -b2" in called
    done = run("digits", "--url", url, "--concurrency", 9)
    assert (done.exit_code, done.stderr.strip()) == (1, "error: perf_analyzer failed: failed to reach the server")


def test_a_table_that_is_not_understood():
    with pytest.raises(NoAnswer, match="not understood"):
        perf_analyzer.read_level(["Concurrency,p50"], seconds=1, batch_size=1)
    with pytest.raises(NoAnswer, match="not understood"):
        perf_analyzer.read_level(["Concurrency,p50", "1,2"], seconds=1, batch_size=1)


def test_a_terminal_sees_a_bar_and_keeps_the_table(url):
    """In a real pseudo-terminal: the bar moves while the load runs, and is gone when the table stands."""
    main, side = pty.openpty()
    program = [sys.executable, "-c", "from pilotfish.cli.main import app; app()"]
    arguments = ["bench", "digits", "--url", url, "--concurrency", "1", "--duration", "1s", "--engine", "builtin"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen([*program, *arguments], stdout=side, stderr=side, env=environment)
    os.close(side)
    shown = b""
    with suppress(OSError):  # when the other side is closed, all of it was read
        while part := os.read(main, 4096):
            shown += part
    os.close(main)
    assert process.wait(30) == 0, shown.decode()
    text = shown.decode()
    assert "━" in text
    assert "requests/s" in text
    bar, table = text.rindex("━"), text.rindex("samples/s")
    assert bar < table
