"""The shadow before real servers: what clients see of it (nothing), what it counts, and what it never does."""
# ruff: noqa: SIM117 - servers stand before the shadow does: nested as they depend on each other

import asyncio
import gzip
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import grpc
import grpc.aio
import numpy as np
import pytest
from aiohttp import web
from tritonclient.grpc import service_pb2

from pilotfish.api.job_input import SHADOW_ENV, ShadowInput, ShadowPorts, ShadowSide
from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance
from pilotfish.optimizer.shadow.grpc_proxy import INFER
from pilotfish.optimizer.shadow.limits import Limits
from pilotfish.optimizer.shadow.serve import World, shadow
from support.repository import linear_onnx, make_config, write_model
from support.shadows import SECRET, grpc_request, http_request, linear_with
from support.triton import TritonServer, free_port

LIMITS = Limits(look=0.1, candidate=5.0, drain=5.0)
INFER_PATH = "/v2/models/linear/infer"
HOPS = (b"connection", b"keep-alive", b"transfer-encoding")


async def on_loopback(_host):
    return ("127.0.0.1",)


async def eventually(what: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


@dataclass
class Shadowed:
    """A shadow that listens, and its clients."""

    order: ShadowInput
    counts: object

    @property
    def url(self):
        return f"http://127.0.0.1:{self.order.ports.http}"

    @property
    def target(self):
        return f"127.0.0.1:{self.order.ports.grpc}"

    async def done(self, *, compared=0, failed=0, dropped=0):
        wanted = (compared, failed, dropped)
        await eventually(lambda: (self.counts.compared, self.counts.failed, self.counts.dropped) == wanted)


def side_of(server) -> ShadowSide:
    return ShadowSide(host="unused", http=server.ports.http, grpc=server.ports.grpc)


def make_order(stable, candidate, **changes) -> ShadowInput:
    ports = ShadowPorts(http=free_port(), grpc=free_port(), metrics=free_port())
    told = {"model": "linear", "stable": stable, "candidate": candidate, "sample_rate": 1.0}
    return ShadowInput(**{**told, "precisions": (Precision.FP32,), "ports": ports, **changes})


@asynccontextmanager
async def standing(stable, candidate, *, limits=LIMITS, resolve=on_loopback, seed=0, **changes):
    order = make_order(stable, candidate, **changes)
    world = World(limits=limits, resolve=resolve, chance=random.Random(seed), listen="127.0.0.1")
    async with shadow(order, world=world) as counts:
        yield Shadowed(order, counts)


@dataclass
class Pretender:
    """A server that says it is ready and answers inference as it is told."""

    infer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    side: ShadowSide
    seen: int = 0

    async def handle(self, request):
        if request.method == "GET":
            return web.Response()
        self.seen += 1
        return await self.infer(request)


@asynccontextmanager
async def pretending(infer, *, host="127.0.0.1", like=None):
    """A Pretender for HTTP; its gRPC port takes connections and never says a word."""
    pretender = Pretender(infer, like or ShadowSide(host="unused", http=free_port(), grpc=free_port()))
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", pretender.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, pretender.side.http).start()
    mute = await asyncio.start_server(lambda _r, _w: asyncio.sleep(3600), host, pretender.side.grpc)
    try:
        yield pretender
    finally:
        mute.close()
        await runner.cleanup()


async def well(_request):
    return web.json_response({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]})


async def never(_request):
    await asyncio.sleep(3600)


async def raw(port: int, head: str, body: bytes = b"") -> tuple[bytes, list[bytes], bytes]:
    """Status line, headers and body of an answer, exactly as they came; the headers of one connection left out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{head}\r\nHost: digits\r\nConnection: close\r\n{length}\r\n".encode() + body)
        top = await reader.readuntil(b"\r\n\r\n")
        line, *headers = top.strip().split(b"\r\n")
        told = dict(header.split(b": ", 1) for header in headers)
        sized = next((int(value) for name, value in told.items() if name.lower() == b"content-length"), None)
        answer = await (reader.read() if sized is None else reader.readexactly(sized))
        return line, sorted(h for h in headers if not h.lower().startswith(HOPS)), answer
    finally:
        writer.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Stable; one with the same weights; one with others."""
    folder = tmp_path_factory.mktemp("shadow")
    started = []
    models = {"stable": linear_onnx(), "same": linear_onnx(), "other": linear_with(2.0)}
    for name, model in models.items():
        repository = write_model(folder / name, "linear", make_config("linear"), model)
        started.append(TritonServer(repository=repository, scratch=folder / f"{name}-server"))
    try:
        for server in started:
            server.__enter__()
        for server in started:
            server.wait_ready("linear")
        yield dict(zip(models, started, strict=True))
    finally:
        for server in started:
            server.__exit__(None, None, None)


JSON_BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
BINARY_HEAD, BINARY_BODY = http_request(np.arange(8, dtype=np.float32).reshape(2, 4))
REQUESTS = {
    "json": (f"POST {INFER_PATH} HTTP/1.1\r\nContent-Type: application/json", JSON_BODY),
    "a version": ("POST /v2/models/linear/versions/1/infer HTTP/1.1", JSON_BODY),
    "binary": (f"POST {INFER_PATH} HTTP/1.1\r\n{BINARY_HEAD}", BINARY_BODY),
    "packed": (f"POST {INFER_PATH} HTTP/1.1\r\nAccept-Encoding: gzip\r\nContent-Encoding: gzip", gzip.compress(JSON_BODY, mtime=0)),
    "not json": (f"POST {INFER_PATH} HTTP/1.1", b"{not json"),
    "wrong shape": (f"POST {INFER_PATH} HTTP/1.1", JSON_BODY.replace(b"[1, 4]", b"[1, 3]")),
    "another model": ("POST /v2/models/nobody/infer HTTP/1.1", JSON_BODY),
    "nothing": (f"POST {INFER_PATH} HTTP/1.1\r\nContent-Length: 0", b""),
    "ready": ("GET /v2/models/linear/versions/1/ready HTTP/1.1", b""),
    "live": ("GET /v2/health/live HTTP/1.1", b""),
    "metadata": ("GET /v2/models/linear HTTP/1.1", b""),
    "escapes": ("GET /v2/models/lin%65ar%2Fx?a=%20b&c HTTP/1.1", b""),
    "no such path": ("GET /nowhere HTTP/1.1", b""),
    "no such method": ("DELETE /v2/models/linear HTTP/1.1", b""),
}  # fmt: skip


def comparable(answer):
    line, headers, body = answer
    packed = any(h.lower() == b"content-encoding: gzip" for h in headers)
    return line, headers, gzip.decompress(body) if packed else body


@pytest.mark.triton
class TestRealServers:
    @pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
    async def test_http_is_passed_through_byte_by_byte(self, servers, request_):
        head, body = request_
        async with standing(side_of(servers["stable"]), side_of(servers["other"])) as stands:
            direct = await raw(servers["stable"].ports.http, head, body)
            through = await raw(stands.order.ports.http, head, body)
        assert comparable(through) == comparable(direct)

    @pytest.mark.parametrize(
        ("method", "message"),
        [
            (INFER, grpc_request([[1, 2, 3, 4]])),
            (INFER, grpc_request([[1, 2, 3]])),
            (INFER, grpc_request([[1, 2, 3, 4]], model="nobody")),
            (INFER, b"\xff\xff\xff"),
            ("/inference.GRPCInferenceService/ServerReady", b""),
            ("/inference.GRPCInferenceService/ModelReady", service_pb2.ModelReadyRequest(name="linear").SerializeToString()),
            ("/inference.GRPCInferenceService/ModelMetadata", service_pb2.ModelMetadataRequest(name="linear").SerializeToString()),
            ("/inference.GRPCInferenceService/ModelMetadata", service_pb2.ModelMetadataRequest(name="nobody").SerializeToString()),
            ("/inference.GRPCInferenceService/Nothing", b""),
            ("/some.Other/Method", b"abc"),
        ],
    )  # fmt: skip
    async def test_grpc_is_passed_through_undecoded(self, servers, method, message):
        async def ask(target):
            async with grpc.aio.insecure_channel(target) as channel:
                try:
                    return await channel.unary_unary(method)(message, timeout=20)
                except grpc.aio.AioRpcError as error:
                    return error.code(), error.details()

        async with standing(side_of(servers["stable"]), side_of(servers["other"])) as stands:
            direct = await ask(servers["stable"].grpc_url)
            assert await ask(stands.target) == direct

    async def test_a_stream_of_inferences_is_passed_through(self, servers):
        async def ask(target):
            async with grpc.aio.insecure_channel(target) as channel:
                call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(timeout=20)
                answers = []
                for number in range(3):
                    await call.write(grpc_request([[number, 2, 3, 4]]))
                    answers.append(await call.read())
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
                return answers, await call.code()

        async with standing(side_of(servers["stable"]), side_of(servers["other"])) as stands:
            assert await ask(stands.target) == await ask(servers["stable"].grpc_url)
            assert stands.counts.compared == 0, "a stream is not copied"

    async def send_all(self, stands, count=5):
        async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(stands.target) as channel:
            for number in range(count):
                x = np.random.default_rng(number).standard_normal((3, 4)).astype(np.float32)
                for binary in (True, False):
                    for packed in ("identity", "gzip"):
                        head, body = http_request(x, binary=binary)
                        headers = {**dict(h.split(": ") for h in head.split("\r\n")), "Accept-Encoding": packed}
                        async with session.post(stands.url + INFER_PATH, data=body, headers=headers) as answer:
                            assert answer.status == 200
                await channel.unary_unary(INFER)(grpc_request(x))
        return 5 * count

    async def test_equal_models_agree(self, servers):
        async with standing(side_of(servers["stable"]), side_of(servers["same"]), limits=replace(LIMITS, copies=99)) as stands:  # fmt: skip
            sent = await self.send_all(stands)
            await stands.done(compared=sent)
            assert stands.counts.agreed == sent

    async def test_other_weights_do_not(self, servers):
        async with standing(side_of(servers["stable"]), side_of(servers["other"]), limits=replace(LIMITS, copies=99)) as stands:  # fmt: skip
            sent = await self.send_all(stands)
            await stands.done(compared=sent)
            assert stands.counts.agreed == 0

    async def test_what_the_user_tolerates_is_agreement(self, servers):
        tolerance = Tolerance(max_abs="1000", cosine="0")
        sides = side_of(servers["stable"]), side_of(servers["other"])
        async with standing(*sides, tolerance=tolerance, limits=replace(LIMITS, copies=99)) as stands:
            sent = await self.send_all(stands, 1)
            await stands.done(compared=sent)
            assert stands.counts.agreed == sent

    async def test_an_error_of_the_stable_revision_is_the_clients(self, servers):
        async with standing(side_of(servers["stable"]), side_of(servers["other"])) as stands:
            for name in ("not json", "wrong shape", "another model", "nothing"):
                await raw(stands.order.ports.http, *REQUESTS[name])
            await raw(stands.order.ports.http, *REQUESTS["json"])
            await eventually(lambda: stands.counts.compared == 1)
            assert stands.counts.failed == 0

    async def test_nothing_of_a_tensor_is_written_anywhere(self, servers, capfd, caplog):
        caplog.set_level(logging.DEBUG)
        x = np.full((1, 4), SECRET, dtype=np.float32)
        plain = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [SECRET] * 4}]})
        async with standing(side_of(servers["stable"]), side_of(servers["other"])) as stands:
            for body in (plain.encode(), plain.replace("shape", "form").encode(), plain[:-3].encode()):
                await raw(stands.order.ports.http, f"POST {INFER_PATH} HTTP/1.1", body)
            await raw(stands.order.ports.http, f"POST {INFER_PATH} HTTP/9.9 {SECRET}", plain.encode())
            async with grpc.aio.insecure_channel(stands.target) as channel:
                await channel.unary_unary(INFER)(grpc_request(x))
            await eventually(lambda: stands.counts.compared == 2)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{stands.order.ports.metrics}/metrics") as answer:
                    text = await answer.text()
        written = "".join([*capfd.readouterr(), caplog.text, text])
        assert str(SECRET) not in written
        assert "pilotfish_shadow_compared_total 2" in text

    def test_the_command_serves_until_it_is_told_to_stop(self, servers, tmp_path):
        sides = [ShadowSide(host="localhost", **side_of(servers[n]).model_dump(include={"http", "grpc"})) for n in ("stable", "same")]  # fmt: skip
        order = make_order(*sides)
        log = tmp_path / "termination-log"
        with subprocess.Popen(
            [sys.executable, "-m", "pilotfish.optimizer.job", "shadow", "--termination-log", str(log)],
            env={**os.environ, SHADOW_ENV: order.to_json()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert "listens" in process.stdout.readline()
                line, _, body = asyncio.run(raw(order.ports.http, *REQUESTS["json"]))
                assert line.split()[1] == b"200"
                assert json.loads(body)["model_name"] == "linear"
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            finally:
                process.kill()
        assert "1 requests" in json.loads(log.read_text())["message"]


async def post(session, stands, body=b"{}"):
    async with session.post(stands.url + INFER_PATH, data=body) as answer:
        return answer.status, await answer.read()


async def test_a_candidate_that_never_answers_keeps_nobody_waiting():
    limits = replace(LIMITS, copies=2, candidate=1.0)
    async with pretending(well) as stable, pretending(never) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, limits=limits) as stands:
            answers = [await post(session, stands) for _ in range(10)]
            assert {status for status, _ in answers} == {200}
            assert (stands.counts.dropped, stands.counts.failed) == (8, 0), "two wait, the others were not added"
            await stands.done(failed=2, dropped=8)
            assert candidate.seen == 2
            assert (await post(session, stands))[0] == 200
            await eventually(lambda: candidate.seen == 3)  # their places are free again


async def test_a_candidate_that_is_gone_fails_nobody_but_itself():
    async with pretending(well) as stable, aiohttp.ClientSession() as session:
        nobody = ShadowSide(host="unused", http=free_port(), grpc=free_port())
        async with standing(stable.side, nobody) as stands:
            assert [(await post(session, stands))[0] for _ in range(3)] == [200] * 3
            await stands.done(failed=3)


@pytest.mark.parametrize(
    ("status", "headers", "text", "wanted"),
    [
        (500, {}, "broken", {"failed": 1}),
        (200, {}, "not json", {"compared": 1}),
        (200, {}, '{"outputs": []}', {"compared": 1}),
        (200, {}, "x" * 5000, {"dropped": 1}),
        (307, {"Location": "http://192.0.2.1/"}, "", {"failed": 1}),
    ],
)
async def test_what_a_candidate_may_say(status, headers, text, wanted):
    async def says(_request):
        return web.Response(status=status, headers=headers, text=text)

    limits = replace(LIMITS, answer_bytes=4000)
    async with pretending(well) as stable, pretending(says) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, limits=limits) as stands:
            assert (await post(session, stands))[0] == 200
            await stands.done(**wanted)
            assert stands.counts.agreed == 0


async def echo(request):
    return web.Response(body=await request.read(), headers={"Content-Type": "application/octet-stream"})


@pytest.mark.parametrize("size", [0, 4096, 4097, 3_000_000])
async def test_any_size_is_passed_on(size):
    limits = replace(LIMITS, request_bytes=4096, answer_bytes=4096)
    async with pretending(echo) as stable, pretending(echo) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, limits=limits) as stands:
            body = os.urandom(size)
            assert await post(session, stands, body) == (200, body)


@pytest.mark.parametrize(
    ("size", "wanted"), [(0, {"dropped": 1}), (1, {"compared": 1}), (4096, {"compared": 1}), (4097, {"dropped": 1})]
)
async def test_what_is_too_large_is_not_compared(size, wanted):
    limits = replace(LIMITS, request_bytes=4096)
    async with pretending(well) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, limits=limits) as stands:
            assert (await post(session, stands, bytes(size)))[0] == 200
            await stands.done(**wanted)
            assert candidate.seen == wanted.get("compared", 0)


async def test_a_body_of_unknown_length_streams_through():
    async def pieces():
        for _ in range(3):
            yield b"abc"

    async with pretending(echo) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side) as stands:
            assert await post(session, stands, pieces()) == (200, b"abcabcabc")
            assert (candidate.seen, stands.counts.dropped) == (0, 1)


async def test_what_is_held_at_once_has_an_end():
    release = asyncio.Event()

    async def waits(request):
        body = await request.read()
        await release.wait()
        return web.Response(body=body)

    limits = replace(LIMITS, held_bytes=1500, copies=99)
    async with pretending(waits) as stable, pretending(never) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, limits=limits) as stands:
            going = [asyncio.create_task(post(session, stands, bytes(1000))) for _ in range(3)]
            await eventually(lambda: stable.seen == 3)
            release.set()
            assert {status for status, _ in await asyncio.gather(*going)} == {200}
            assert stands.counts.dropped >= 2, "the second and third were streamed"


async def test_a_client_that_goes_away_takes_its_request_along():
    cancelled = asyncio.Event()

    async def waits(_request):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with pretending(waits) as stable, pretending(well) as candidate:
        async with standing(stable.side, candidate.side) as stands, aiohttp.ClientSession() as session:
            going = asyncio.create_task(post(session, stands))
            await eventually(lambda: stable.seen == 1)
            going.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)
            assert candidate.seen == 0


async def test_an_answer_that_breaks_off_breaks_off():
    async def breaks(request):
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"part")
        request.transport.abort()
        return answer

    async with pretending(breaks) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side) as stands:
            with pytest.raises(aiohttp.ClientPayloadError):
                await post(session, stands)
            assert candidate.seen == 0


async def test_nobody_there_is_said_so():
    nobody = ShadowSide(host="unused", http=free_port(), grpc=free_port())
    async with standing(nobody, nobody) as stands, aiohttp.ClientSession() as session:
        status, body = await post(session, stands)
        assert (status, json.loads(body)) == (503, {"error": "shadow: no server of this model is ready"})
        async with grpc.aio.insecure_channel(stands.target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(INFER)(b"")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_stable_pod_the_candidate_answers_and_nothing_is_compared():
    nobody = ShadowSide(host="unused", http=free_port(), grpc=free_port())
    async with pretending(well) as candidate, aiohttp.ClientSession() as session:
        async with standing(nobody, candidate.side) as stands:
            assert (await post(session, stands))[0] == 200
            assert candidate.seen == 1
            assert stands.counts.compared + stands.counts.failed + stands.counts.dropped == 0


async def test_a_pod_that_has_gone_since_the_last_look_costs_nobody_an_answer():
    async def two(_host):
        return ("127.0.0.1", "127.0.0.2")

    limits = replace(LIMITS, look=3600)
    async with pretending(well) as stable, pretending(never) as candidate, aiohttp.ClientSession() as session:
        leaving = pretending(well, host="127.0.0.2", like=stable.side)
        gone = await leaving.__aenter__()
        async with standing(stable.side, candidate.side, resolve=two, limits=limits, sample_rate=0) as stands:
            assert [(await post(session, stands))[0] for _ in range(4)] == [200] * 4
            assert (stable.seen, gone.seen) == (2, 2), "each in its turn"
            await leaving.__aexit__(None, None, None)
            assert [(await post(session, stands))[0] for _ in range(4)] == [200] * 4
            assert stable.seen == 6


async def test_the_last_known_addresses_outlive_the_resolver():
    works = True

    async def resolve(_host):
        if not works:
            raise OSError
        return ("127.0.0.1",)

    async with pretending(well) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        async with standing(stable.side, candidate.side, resolve=resolve) as stands:
            works = False
            await asyncio.sleep(5 * LIMITS.look)
            assert (await post(session, stands))[0] == 200


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (0.1, 300), (1.0, 1000)])
async def test_the_sample_is_a_share_of_all_requests_not_of_its_own(rate, expected):
    """One stable pod, one candidate and the shadow: it sees a third of the requests, so it takes three times the rate."""
    async with pretending(well) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        limits = replace(LIMITS, copies=10_000)
        async with standing(stable.side, candidate.side, sample_rate=rate, limits=limits, seed=7) as stands:
            for _ in range(1000):
                assert (await post(session, stands))[0] == 200
            await eventually(lambda: stands.counts.compared == candidate.seen)
            assert abs(candidate.seen - expected) <= 45, "three standard deviations of 1000 draws"
            assert stands.counts.agreed == stands.counts.compared


async def refused(port):
    """Wait until nobody listens there any more."""
    deadline = time.monotonic() + 20
    while True:
        assert time.monotonic() < deadline, "it still listens"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)


async def test_what_is_under_way_ends_before_the_shadow_does():
    release = asyncio.Event()

    async def waits(_request):
        await release.wait()
        return await well(_request)

    async with pretending(waits) as stable, pretending(well) as candidate, aiohttp.ClientSession() as session:
        stack = standing(stable.side, candidate.side)
        stands = await stack.__aenter__()
        going = asyncio.create_task(post(session, stands))
        await eventually(lambda: stable.seen == 1)
        stopping = asyncio.create_task(stack.__aexit__(None, None, None))
        await refused(stands.order.ports.http)
        assert not going.done()
        release.set()
        assert (await going)[0] == 200
        await stopping
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(session, stands)


@pytest.mark.triton
async def test_a_grpc_candidate_that_says_nothing_keeps_nobody_waiting(servers):
    limits = replace(LIMITS, copies=2, candidate=1.0)
    async with pretending(never) as candidate:
        async with standing(side_of(servers["stable"]), candidate.side, limits=limits) as stands:
            async with grpc.aio.insecure_channel(stands.target) as channel:
                for _ in range(5):
                    await channel.unary_unary(INFER)(grpc_request([[1, 2, 3, 4]]))
            assert (stands.counts.failed, stands.counts.dropped) == (0, 3)
            await stands.done(failed=2, dropped=3)
