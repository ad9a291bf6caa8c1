"""The operator asks a Job for its progress over HTTP: the Job's own server, and pods that answer anything else."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from pilotfish.adapters.job_progress import JobProgressReader
from pilotfish.api.job_progress import LARGEST_PROGRESS, ProgressNote
from pilotfish.optimizer import progress_server
from pilotfish.optimizer.progress import OPTIMIZE_STAGES, Progress
from pilotfish.optimizer.progress_server import progress_shown
from pilotfish.ports import Unmeasured

GOOD = b'{"stage":"distill","percent":40,"message":"epoch 3/10, loss 0.12","remainingSeconds":60}'


@asynccontextmanager
async def reading(port):
    reader = JobProgressReader(port=port)
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def server(answer):
    """Answers every request with these bytes."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    served = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with served:
        yield served.sockets[0].getsockname()[1]


def ok(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_the_job_s_own_server(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setattr(progress_server, "own_address", lambda: "127.0.0.1")
    progress = Progress(OPTIMIZE_STAGES)
    with progress_shown(port=0) as port, progress.stage("convert"):
        progress.step(0.5, "building onnx-fp32", force=True)
        async with reading(port) as reader:
            told = await reader.progress(address="127.0.0.1")
    assert (told.stage, told.message) == ("convert", "building onnx-fp32")


async def test_an_answer_is_read():
    async with server(ok(GOOD)) as port, reading(port) as reader:
        assert await reader.progress(address="127.0.0.1") == ProgressNote(
            stage="distill", percent=40, message="epoch 3/10, loss 0.12", remaining_seconds=60
        )


async def test_what_a_terminal_would_obey_is_taken_out():
    body = b'{"stage":"load","percent":1,"message":"a\\u001b[31mb\\u202e"}'
    async with server(ok(body)) as port, reading(port) as reader:
        assert (await reader.progress(address="127.0.0.1")).message == "a [31mb "


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (ok(b"<html>"), "no progress"),
        (ok(b'{"stage":"load","percent":101}'), "no progress"),
        (ok(b'{"stage":"../../x","percent":1}'), "no progress"),
        (ok(b'{"stage":"load","percent":1,"remainingSeconds":1e99}'), "no progress"),
        (ok(b'{"stage":"load","percent":1,"message":"%s"}' % (b"x" * LARGEST_PROGRESS)), "longer than"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (b"", "does not speak HTTP"),
    ],
)
async def test_everything_else_is_one_short_sentence(answer, sentence):
    async with server(answer) as port, reading(port) as reader:
        with pytest.raises(Unmeasured, match=sentence):
            await reader.progress(address="127.0.0.1")


@pytest.mark.parametrize("address", ["example.com", "127.0.0.1/x?", "", "1.2.3.4:80"])
async def test_only_addresses_are_asked(address):
    async with reading(1) as reader:
        with pytest.raises(Unmeasured, match="no IP address"):
            await reader.progress(address=address)


async def test_nobody_listens():
    async with server(b"") as port:
        pass
    async with reading(port) as reader:
        with pytest.raises(Unmeasured, match="does not accept connections"):
            await reader.progress(address="127.0.0.1")
