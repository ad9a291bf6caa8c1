"""The Job tells how far it is to whoever asks: small, bounded, and never in the way of the run."""

import json
import socket
import time
import urllib.request
from urllib.error import HTTPError

import pytest

from pilotfish.api.job_progress import LARGEST_PROGRESS, ProgressNote
from pilotfish.optimizer import progress_server
from pilotfish.optimizer.progress import BOARD, OPTIMIZE_STAGES, Progress
from pilotfish.optimizer.progress_server import progress_shown


@pytest.fixture
def in_cluster(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setattr(progress_server, "own_address", lambda: "127.0.0.1")
    monkeypatch.setattr(BOARD, "note", None)


def ask(port, path="/progress"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


def test_it_says_what_the_log_says(in_cluster, capsys):
    moments = iter([0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 20.0])
    progress = Progress(OPTIMIZE_STAGES, clock=lambda: next(moments))
    with progress_shown(port=0) as port, progress.stage("benchmark", "2 threads"):
        first = ProgressNote.model_validate_json(ask(port))
        progress.step(0.5, "round 3: onnx-fp32,\n batch 8", force=True)
        second = ProgressNote.model_validate_json(ask(port))
        assert (first.stage, first.percent, first.message) == ("benchmark", 50, "2 threads")
        assert second == ProgressNote(
            stage="benchmark", percent=70, message="round 3: onnx-fp32, batch 8", remaining_seconds=9
        )
        progress.clock = lambda: 30.0
    assert "70 %  benchmark" in capsys.readouterr().out


def test_before_anything_was_said_and_elsewhere_there_is_nothing(in_cluster):
    with progress_shown(port=0) as port:
        for path in ("/progress", "/", "/progress/../store"):
            with pytest.raises(HTTPError, match="404"):
                ask(port, path)


def test_an_answer_stays_small_and_plain_whatever_a_run_says(in_cluster):
    with progress_shown(port=0) as port:
        BOARD.show("distill", 250.7, "模型\x1b[31m\x00\ud800 " * 400, float(10**9))
        body = ask(port)
    assert len(body) <= LARGEST_PROGRESS
    told = json.loads(body)
    assert (told["percent"], told["remainingSeconds"]) == (100, 10_000_000)
    assert told["message"].isprintable()


@pytest.mark.parametrize(("stage", "percent"), [("no stage!", 1.0), ("load", float("nan"))])
def test_what_cannot_be_told_is_left_out(in_cluster, stage, percent):
    BOARD.show("load", 1, "reading", None)
    BOARD.show(stage, percent, "what", 1.0)
    assert BOARD.note is None


def test_a_client_that_says_nothing_holds_up_neither_others_nor_the_end(in_cluster):
    began = time.monotonic()
    with progress_shown(port=0) as port:
        BOARD.show("load", 1, "reading", None)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        assert json.loads(ask(port))["stage"] == "load"
    assert time.monotonic() - began < progress_server.PATIENCE + 5
    for one in silent:
        one.close()


def test_a_post_changes_nothing(in_cluster):
    with progress_shown(port=0) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/progress", data=b"{}")
        with pytest.raises(HTTPError, match="501"):
            urllib.request.urlopen(request, timeout=10)


def test_outside_of_a_cluster_nothing_listens(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with progress_shown(port=0) as port:
        assert port is None


def test_a_port_that_is_taken_is_told_and_no_failure(in_cluster, capsys):
    with progress_shown(port=0) as port, progress_shown(port=port) as second:
        assert second is None
    assert "nobody can ask for the progress" in capsys.readouterr().err


def test_the_pod_s_own_address_is_an_address():
    socket.getaddrinfo(progress_server.own_address(), None, flags=socket.AI_NUMERICHOST)
