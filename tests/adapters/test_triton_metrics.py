"""Counters out of a pod's metrics: what is read, what is refused, and that no bytes do harm."""

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.adapters.bounded_http import LONGEST_ANSWER
from pilotfish.adapters.triton_metrics import TritonMetrics, parse_sample, parse_shadow
from pilotfish.core.health.samples import Sample, ShadowCounters
from pilotfish.ports import Unmeasured
from support.builders import NOW

COUNTERS = {
    "nv_inference_request_success": 9,
    "nv_inference_count": 27,
    "nv_inference_exec_count": 8,
    "nv_inference_request_duration_us": 141346,
    "nv_inference_queue_duration_us": 19456,
    "nv_inference_compute_input_duration_us": 800,
    "nv_inference_compute_infer_duration_us": 117000,
    "nv_inference_compute_output_duration_us": 3000,
}
MINE = 'model="digits",version="1"'


def make_text(*extra, labels=MINE, **changed):
    lines = [f"{name}{{{labels}}} {changed.get(name, value)}" for name, value in COUNTERS.items()]
    lines += [
        f'nv_inference_request_failure{{model="digits",reason="{reason}",version="1"}} {count}'
        for reason, count in (("OTHER", 1), ("BACKEND", 2), ("CANCELED", 3), ("REJECTED", 4))
    ]
    return "\n".join(["# TYPE nv_inference_count counter", *lines, *extra, ""])


def parse(text):
    return parse_sample(text, model="digits", at=NOW)


def test_a_sample_has_every_counter():
    assert parse(make_text()) == Sample(
        at=NOW,
        success=9,
        failures={"BACKEND": 2, "CANCELED": 3, "OTHER": 1, "REJECTED": 4},
        inferences=27,
        executions=8,
        request_us=141346,
        queue_us=19456,
        compute_us=120800,
    )


def test_other_models_and_versions_do_not_count():
    others = [
        'nv_inference_request_success{model="digits",version="2"} 50',
        'nv_inference_request_success{model="digits-next",version="1"} 60',
        'nv_inference_request_success{version="1"} 70',
        'nv_inference_request_summary_us{model="x",version="1",quantile="0.99"} 70',
    ]
    assert parse(make_text(*others)) == parse(make_text())


def test_the_gpus_of_a_pod_are_one_pod():
    quantile = 'nv_inference_request_summary_us{gpu_uuid="GPU-%d",model="digits",version="1",quantile="0.99"} %s'
    second = [f'{name}{{gpu_uuid="GPU-2",{MINE}}} {value}' for name, value in COUNTERS.items()]
    found = parse(make_text(*second, quantile % (1, 4000), quantile % (2, 9000), quantile % (3, "Nan")))
    assert (found.success, found.request_us, found.compute_us) == (18, 282692, 241600)
    assert found.quantiles == {0.99: 9.0}, "the slowest"


def test_a_reason_that_is_not_known_counts_as_other_and_a_server_without_reasons_has_one():
    strange = 'nv_inference_request_failure{model="digits",reason="NEW",version="1"} 5'
    assert parse(make_text(strange)).failures["OTHER"] == 6
    text = "\n".join(line for line in make_text().splitlines() if "failure" not in line)
    assert parse(f"{text}\nnv_inference_request_failure{{{MINE}}} 7\n").failures == {"OTHER": 7}


@pytest.mark.parametrize("missing", [*COUNTERS, "nv_inference_request_failure"])
def test_a_counter_that_is_missing_is_never_zero(missing):
    text = "\n".join(line for line in make_text().splitlines() if not line.startswith(missing + "{"))
    with pytest.raises(Unmeasured, match=f"lack {missing}"):
        parse(text)


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "1e30"])
def test_a_counter_that_counts_nothing_is_refused(value):
    with pytest.raises(Unmeasured, match="nv_inference_count is no count"):
        parse(make_text(nv_inference_count=value))


def test_large_counters_come_with_an_exponent():
    assert parse(make_text(nv_inference_request_duration_us="1.5e+09")).request_us == 1_500_000_000


def test_quantiles_are_milliseconds_and_none_where_nobody_asked():
    def summary(quantile, value):
        return f'nv_inference_request_summary_us{{{MINE},quantile="{quantile}"}} {value}'

    lines = [summary("0.5", "1500"), summary("0.99", "Nan"), summary("0.999", "+Inf"), summary("0.42", "1")]
    assert parse(make_text(*lines, summary("x", "1"))).quantiles == {0.5: 1.5}


def test_a_histogram_is_cumulative_and_ends_open():
    def bucket(bound, count):
        return f'nv_inference_first_response_histogram_ms_bucket{{{MINE},le="{bound}"}} {count}'

    whole = [bucket("100", 5), bucket("+Inf", 8), bucket("500", 7)]
    assert parse(make_text(*whole)).buckets == ((100.0, 5), (500.0, 7), (math.inf, 8))
    assert parse(make_text(*whole, *whole)).buckets == ((100.0, 10), (500.0, 14), (math.inf, 16))
    assert parse(make_text(bucket("100", 5))).buckets == ()
    assert parse(make_text(bucket("100", 5), bucket("+Inf", 4))).buckets == ()
    assert parse(make_text(*(bucket(n, n) for n in range(64)), bucket("+Inf", 99))).buckets == ()
    assert len(parse(make_text(*(bucket(n, n) for n in range(63)), bucket("+Inf", 99))).buckets) == 64


def test_labels_may_hold_anything():
    strange = 'nv_inference_count{model="a\\"},{\\\\",version="1",note="x=\\"y\\", }"} 3 1700000000000'
    assert parse(make_text(strange)).inferences == 27


@pytest.mark.parametrize(
    "line",
    [
        "nv_inference_count",
        "nv_inference_count{",
        'nv_inference_count{model="digits" 3',
        'nv_inference_count{model="digits"} three',
        'nv_inference_count{model="digits"} 1_0 x',
        "nv_inference_count{model=digits} 3",
        'nv_inference_count{model="a",model="b"} 3',
        "nv_inference_count{}}} 3",
    ],
)
def test_a_line_that_is_none_is_not_guessed_at(line):
    with pytest.raises(Unmeasured, match="not in Prometheus' format"):
        parse(make_text(line))


def test_more_than_a_model_has_is_refused():
    line = f"nv_inference_x{{{MINE}}} 1"
    with pytest.raises(Unmeasured, match="more than a model has"):
        parse("\n".join([line] * 2001))
    with pytest.raises(Unmeasured, match="more than a model has"):
        parse(f'nv_inference_x{{model="{"a" * 5000}"}} 1')
    assert parse(make_text(*(f"other_{n} 1" for n in range(5000)))).success == 9, "others are passed over"


FRAGMENTS = st.lists(
    st.sampled_from(
        ["nv_inference_count", "{", "}", '"', "\\", ",", "=", " ", "\n", "\t", "le", "NaN", "1", "-1e999", MINE]
    )
    | st.text(max_size=5)
).map("".join)


@given(st.text() | FRAGMENTS | st.binary().map(lambda b: b.decode(errors="replace")))
def test_no_text_raises_anything_else(text):
    for whole in (text, "nv_inference_" + text, make_text("nv_inference_count" + text)):
        with suppress(Unmeasured):
            parse(whole)
    with suppress(Unmeasured):
        parse_shadow("pilotfish_shadow_" + text, at=NOW)


@pytest.mark.parametrize("unit", ['"', "\\", "{", '="', '\\"', ",", 'a="', "}{"])
def test_no_text_takes_longer_than_its_length(unit):
    """A pattern that backtracks would need hours for this."""
    with pytest.raises(Unmeasured):
        parse("nv_inference_x{" + unit * (4000 // len(unit)))


def test_a_shadow_counts_what_it_compared():
    text = "pilotfish_shadow_compared_total 12\npilotfish_shadow_agreed_total 11\npilotfish_shadow_failed_total 1.0\n"
    assert parse_shadow(text, at=NOW) == ShadowCounters(at=NOW, compared=12, agreed=11, failed=1)
    with pytest.raises(Unmeasured, match="lack pilotfish_shadow_failed_total"):
        parse_shadow(text.replace("failed", "other"), at=NOW)


class Clock:
    def now(self):
        return datetime.now(tz=UTC)


@asynccontextmanager
async def answering(reply, *, host="127.0.0.1"):
    """A server that sends these bytes, whatever it is asked; None: nothing, ever. Yields what scrapes its port."""
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    metrics = TritonMetrics(clock=Clock(), port=server.sockets[0].getsockname()[1])
    try:
        yield metrics, asked
    finally:
        await metrics.close()
        server.close()


def ok(body, *headers):
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body])


async def test_a_pod_is_asked_once_over_a_connection_of_its_own():
    async with answering(ok(make_text().encode())) as (metrics, asked):
        found = await metrics.sample(address="127.0.0.1", model="digits")
    assert found.success == 9
    assert datetime.now(tz=UTC) >= found.at
    (request,) = asked
    assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"Connection: close" in request


async def test_an_ipv6_address_works():
    async with answering(ok(make_text().encode()), host="::1") as (metrics, _):
        assert (await metrics.sample(address="::1", model="digits")).success == 9


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (None, "no answer within 2 s"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "it answers HTTP 302"),
        (b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "it answers HTTP 500"),
        (b"SSH-2.0-OpenSSH\r\n", "it does not speak HTTP as expected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "it does not speak HTTP as expected"),
        (ok(b"<html>"), "its metrics lack nv_inference_request_success of the model"),
        (ok(b"x" * (LONGEST_ANSWER + 1)), f"its answer is longer than {LONGEST_ANSWER} bytes"),
        (ok(b"\x1f\x8b" + b"\0" * 100, b"Content-Encoding: gzip"), "its metrics lack"),
    ],
)
async def test_whatever_is_wrong_with_a_pod_is_one_short_sentence(reply, sentence):
    async with answering(reply) as (metrics, asked):
        with pytest.raises(Unmeasured) as error:
            await metrics.sample(address="127.0.0.1", model="digits")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert len(asked) == 1, "no redirect is followed, no try repeated"


async def test_as_long_as_allowed_is_read():
    text = make_text().encode()
    async with answering(ok(text + b"#" * (LONGEST_ANSWER - len(text)))) as (metrics, _):
        assert (await metrics.sample(address="127.0.0.1", model="digits")).success == 9


async def test_nobody_there():
    async with answering(b"") as (metrics, _):
        pass
    with pytest.raises(Unmeasured, match="does not accept connections"):
        await metrics.sample(address="127.0.0.1", model="digits")
    await metrics.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "pod.example",
        "127.0.0.1:80/x?",
        "127.0.0.1@evil",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::a9fe:a9fe%eth0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
    ],
)
async def test_what_is_no_address_is_never_asked(address):
    metrics = TritonMetrics(clock=Clock())
    with pytest.raises(Unmeasured, match="its address is no "):
        await metrics.sample(address=address, model="digits")
    assert metrics._http._session is None
