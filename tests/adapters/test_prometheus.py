"""One number from Prometheus: every shape of answer, and where queries may go."""

import asyncio
import json
import math
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.adapters.prometheus import NoPrometheus, Prometheus, make_queries, read_answer
from pilotfish.core.health.samples import QueryAnswer

NOTHING = QueryAnswer()
TIME = 1767268800.5


def success(kind, result):
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


def vector(*values):
    return success("vector", [{"metric": {"pod": str(n)}, "value": [TIME, v]} for n, v in enumerate(values)])


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (success("scalar", [TIME, "0.25"]), QueryAnswer(value=0.25)),
        (vector("0.25"), QueryAnswer(value=0.25)),
        (vector("1e-9"), QueryAnswer(value=1e-9)),
        (vector("-3"), QueryAnswer(value=-3.0)),
        (vector("+Inf"), QueryAnswer(value=math.inf)),
        (vector("-Inf"), QueryAnswer(value=-math.inf)),
        (vector(), NOTHING),
        (vector("NaN"), NOTHING),
        (success("scalar", [TIME, "NaN"]), NOTHING),
    ],
)
def test_ta19_a_number_or_nothing(body, answer):
    assert read_answer(200, body) == answer


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, vector("1", "2"), "the query returns 2 series; aggregate them, to return one number"),
        (200, success("matrix", []), "the query returns a matrix; write one that returns one number"),
        (200, success("string", [TIME, "1"]), "the query returns a string; write one that returns one number"),
        (
            200,
            success("vector", [{"metric": {}, "histogram": [TIME, {"count": "1"}]}]),
            "the query returns a histogram; write one that returns one number",
        ),
        (200, vector(None), "Prometheus: a value that is no number"),
        (200, success("vector", [{"metric": {}}]), "Prometheus: a value that is no number"),
        (200, success("vector", ["x"]), "Prometheus: a value that is no number"),
        (200, success("scalar", [TIME, 3]), "Prometheus: a value that is no number"),
        (200, success("scalar", None), "Prometheus: a value that is no number"),
        (
            400,
            b'{"status":"error","errorType":"bad_data","error":"invalid parameter \\"query\\": 1:5: parse error: x"}',
            "Prometheus: it does not understand the query (line 1, character 5); try it in Prometheus itself",
        ),
        (
            400,
            b'{"status":"error","errorType":"bad_data","error":"x"}',
            "Prometheus: it does not understand the query; try it in Prometheus itself",
        ),
        (
            422,
            b'{"status":"error","errorType":"execution","error":"many-to-many: {pod=\\"secret\\"}"}',
            "Prometheus: the query fails when it runs; try it in Prometheus itself",
        ),
        (503, b'{"status":"error","errorType":"timeout","error":"x"}', "Prometheus: the query takes too long"),
        (503, b'{"status":"error","errorType":["timeout"],"error":"x"}', "Prometheus: HTTP 503"),
        (503, b'{"status":"error"}', "Prometheus: HTTP 503"),
        (200, b"<html>log in</html>", "Prometheus: HTTP 200 that is no answer of its API"),
        (302, b"", "Prometheus: HTTP 302 that is no answer of its API"),
        (401, b'"Unauthorized"', "Prometheus: HTTP 401 that is no answer of its API"),
        (500, vector("1"), "Prometheus: HTTP 500"),
        (200, b'{"status":"success"}', "Prometheus: HTTP 200 that is no answer of its API"),
        (200, success("vector", {"a": 1}), "Prometheus: HTTP 200 that is no answer of its API"),
        (200, success("new", []), "Prometheus: HTTP 200 that is no answer of its API"),
        (200, b'{"status":["success"]}', "Prometheus: HTTP 200 that is no answer of its API"),
    ],
)
def test_ta19_anything_else_is_an_error_that_says_what_to_do(status, body, sentence):
    assert read_answer(status, body) == QueryAnswer(error=sentence)


@pytest.mark.parametrize("kind", ["bad_data", "execution", "timeout", "canceled", "unavailable", "internal", "s3cret"])
def test_an_error_holds_nothing_of_the_answer(kind):
    error = "s3cret\n" * 10_000
    found = read_answer(400, json.dumps({"status": "error", "errorType": kind, "error": error}).encode())
    assert found.error is not None
    assert "s3cret" not in found.error
    assert "\n" not in found.error


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["success", "vector", "scalar"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["status", "data", "resultType", "result"]), inner),
)


@given(st.sampled_from([200, 400]), JSON, JSON)
def test_ta19_no_answer_raises(status, one, other):
    for body in (
        one,
        {"status": "success", "data": one},
        {"status": "success", "data": {"resultType": "vector", "result": [one, other]}},
    ):
        found = read_answer(status, json.dumps(body).encode())
        assert found.value is None or not math.isnan(found.value)
    for kind in ("vector", "scalar"):
        read_answer(status, success(kind, one))
        read_answer(status, success(kind, [{"value": other}]))


@given(st.binary())
def test_ta19_no_bytes_raise(body):
    assert read_answer(200, body).error is not None


def test_ta19_no_depth_raises():
    assert read_answer(200, b"[" * 100_000).error is not None


@asynccontextmanager
async def answering(reply, **how):
    """A Prometheus that sends this body; None: nothing, ever. Yields what asks it, and what it was asked."""
    asked = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        asked.append((head.decode(), parse_qs((await reader.readexactly(length)).decode())))
        if reply is None:
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    queries = Prometheus(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/prefix/", **how)
    try:
        yield queries, asked
    finally:
        await queries.close()
        server.close()


async def test_the_query_goes_to_the_api_below_the_address_with_a_token_read_each_time(tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    async with answering(vector("0.5"), token_file=token) as (queries, asked):
        assert await queries.ask('max(x{a="&="})') == QueryAnswer(value=0.5)
        token.write_text("second")
        await queries.ask("y")
    (head, form), (later, _) = asked
    assert head.startswith("POST /prefix/api/v1/query HTTP/1.1\r\n")
    assert form == {"query": ['max(x{a="&="})'], "timeout": ["3s"]}
    assert "Authorization: Bearer first\r\n" in head
    assert "Authorization: Bearer second\r\n" in later


async def test_without_a_token_none_is_sent():
    async with answering(vector()) as (queries, asked):
        assert await queries.ask("x") == NOTHING
    assert "authorization" not in asked[0][0].lower()


async def test_a_token_that_cannot_be_read_or_sent_asks_nobody(tmp_path):
    async with answering(vector("1"), token_file=tmp_path / "none") as (queries, asked):
        assert (await queries.ask("x")).error == "Prometheus: the file of its token cannot be read"
        (tmp_path / "none").write_text("a\r\nX-Evil: b")
        assert (await queries.ask("x")).error is not None
    assert asked == []


async def test_a_prometheus_that_is_silent_or_gone_is_an_error():
    async with answering(None) as (queries, _):
        assert (await queries.ask("x")).error == "Prometheus: no answer within 3 s"
    assert (await queries.ask("x")).error == "Prometheus: it does not accept connections"
    await queries.close()


async def test_without_an_address_the_answer_says_what_to_set():
    queries = make_queries("", token_file=None)
    assert isinstance(queries, NoPrometheus)
    assert "prometheus.url" in ((await queries.ask("x")).error or "")
    assert isinstance(make_queries("http://p", token_file=None), Prometheus)
