"""get, status, events as a person reads them and as a machine does, and what the shell completes."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.cli import session
from pilotfish.cli.main import app
from pilotfish.cli.status_view import next_step
from pilotfish.resources.event import make_event
from support.builders import OWNER
from support.fake_cluster import FakeCluster
from support.rollouts import CANARY, CANDIDATE, OLD, STABLE, aborted, in_canary, make_deployment, records, settled

PROGRAM = [sys.executable, "-c", "from pilotfish.cli.main import app; app(prog_name='pilotfish')"]


class Cluster(FakeCluster):
    """Keeps events as it keeps other objects."""

    def create_all(self, *bodies):
        for body in bodies:
            self.create_now(body)


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()

    @asynccontextmanager
    async def open_cluster(place):
        yield cluster, place.namespace or "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    return cluster


def run(*arguments, **env):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **env})


def condition(kind, status, reason="Canarying", message="Step 2/4 (25 %): holds for 5m"):
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T11:58:00Z",
        "observedGeneration": 1,
    }


def event(name, reason, at, *, kind="ModelDeployment", regarding=OWNER.name, uid=None, series=None):
    body = make_event(OWNER, reason=reason, note=f"{reason} it is", action="Look", now=datetime.fromisoformat(at))
    about = {"kind": kind, "name": regarding, "namespace": OWNER.namespace, **({"uid": uid} if uid else {})}
    more = {"series": series} if series else {}
    return {**body, **more, "metadata": {"name": name, "namespace": OWNER.namespace}, "regarding": about}


# get


def test_a_list_has_a_line_for_each_with_the_sentence_of_what_is_not_ready(cluster):
    told = [condition("Ready", "False"), condition("Available", "True", "Serving", "serves")]
    cluster.create_all(make_deployment(**in_canary(), conditions=told, readyReplicas=3))
    done = run("get")
    assert done.exit_code == 0, done.output
    title, line = done.output.splitlines()
    assert title.split() == ["NAME", "READY", "AVAILABLE", "PHASE", "VARIANT", "STEP", "REPLICAS", "AGE", "MESSAGE"]
    assert line.split()[:4] == ["digits", "False", "True", "Canarying"]
    assert "2/4 25%" in line
    assert line.endswith("Step 2/4 (25 %): holds for 5m")


def test_nothing_to_list_is_no_failure(cluster):
    done = run("get", "-n", "elsewhere")
    assert (done.exit_code, done.stdout) == (0, "")
    assert 'no ModelDeployment in namespace "elsewhere"' in done.stderr


def test_all_namespaces_say_which(cluster):
    cluster.create_all(make_deployment(**settled()))
    assert run("get", "-A").output.splitlines()[1].startswith("team ")


@pytest.mark.parametrize("read", [json.loads, yaml.safe_load])
def test_one_object_and_a_list_as_documents(cluster, read):
    how = "json" if read is json.loads else "yaml"
    cluster.create_all(make_deployment(**settled()))
    one = read(run("get", "digits", "-o", how).stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("ModelDeployment", "digits")
    assert "managedFields" not in one["metadata"]
    assert read(run("get", "-o", how).stdout) == {"apiVersion": "v1", "kind": "List", "items": [one]}
    assert read(run("get", "-n", "elsewhere", "-o", how).stdout)["items"] == []


# status


def test_status_says_what_it_waits_for_and_what_comes_next(cluster):
    cluster.create_all(make_deployment(**in_canary(), conditions=[condition("Ready", "False")]))
    done = run("status", "digits")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "team/digits",
        "  phase       Canarying 2/4 25%",
        "  ready       no (Canarying)",
        f"  serves      revision {STABLE}  onnx-fp32",
        f"  on its way  revision {CANDIDATE}  onnx-fp32",
        "  pods        0/1 ready",
        "  waits for   Step 2/4 (25 %): holds for 5m",
        "  next        step 3/4 at 50 %",
    ]


def test_status_in_full_has_conditions_and_revisions(cluster):
    cluster.create_all(make_deployment(**aborted(), conditions=[condition("Ready", "False")]), *records(OLD, STABLE))
    text = run("status", "digits", "-v").output
    assert "CONDITION   STATUS   REASON" in text
    rows = {line.split()[0]: line for line in text[text.index("REVISION ") :].splitlines()[1:] if line}
    assert {CANDIDATE, STABLE, OLD} <= rows.keys()
    assert "AnalysisFailed" in rows[CANDIDATE]


def test_status_as_a_document_holds_all_of_it(cluster):
    cluster.create_all(make_deployment(**in_canary(), conditions=[condition("Ready", "False")]), *records(STABLE))
    told = json.loads(run("status", "digits", "-o", "json").stdout)
    assert told["serves"]["revision"] == STABLE
    assert told["conditions"][0]["type"] == "Ready"
    assert yaml.safe_load(run("status", "digits", "-o", "yaml").stdout) == told


def _at(index):
    return {"index": index, "weight": CANARY["steps"][index]["weight"], "startedAt": "2026-01-01T11:57:00Z"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (make_deployment(**settled()), "nothing: it serves what the spec asks for"),
        (make_deployment(**aborted()), "nothing until the spec changes, or: pilotfish retry digits"),
        (make_deployment(paused=True, **in_canary()), "nothing until it is resumed: pilotfish resume digits"),
        (make_deployment(observedGeneration=0), "the operator looks at the new spec"),
        (make_deployment(**in_canary(step=_at(2))), "step 4/4 at 80 %"),
        (
            make_deployment(**in_canary(step=_at(3))),
            f"all of the traffic goes to revision {CANDIDATE}, when it is promoted: pilotfish promote digits",
        ),
        (make_deployment(**in_canary(stage="Promoting")), f"all of the traffic goes to revision {CANDIDATE}"),
        (make_deployment(**{**in_canary(), "phase": "Verifying"}), f"revision {CANDIDATE} gets its first requests"),
        (make_deployment(**{**in_canary(), "phase": "Optimizing"}), f"pods of revision {CANDIDATE} start"),
        (make_deployment(phase="Starting", stableRevision=None), "it serves once all of its pods are ready"),
        (make_deployment(phase="Stalled"), "nothing until the spec is corrected"),
    ],
)
def test_the_next_step_in_words(body, says):
    assert next_step(body) == says


# events


def test_events_of_the_object_and_all_it_made_stand_in_time(cluster):
    record, *_ = records(STABLE)
    series = {"count": 4, "lastObservedTime": "2026-01-01T12:03:00Z"}
    cluster.create_all(
        make_deployment(**settled()),
        record,
        event("b", "Later", "2026-01-01T12:02:00+00:00", kind="Pod", regarding=f"digits-{STABLE}-6d9c-x2lqk"),
        event("a", "First", "2026-01-01T12:01:00+00:00", series=series),
        event("c", "Gone", "2026-01-01T12:00:00+00:00", kind="Job", regarding=f"digits-{OLD}-optimize"),
        event("d", "Other", "2026-01-01T12:00:00+00:00", regarding="digits2"),
        event("e", "Stranger", "2026-01-01T12:00:00+00:00", kind="Pod", regarding="digits-web-0"),
    )
    told = json.loads(run("events", "digits", "-o", "json").stdout)
    assert [(e["reason"], e["count"]) for e in told] == [("Gone", 1), ("Later", 1), ("First", 4)]
    assert told[0]["object"] == f"Job/digits-{OLD}-optimize"
    lines = run("events", "digits").output.splitlines()
    assert lines[0].split() == ["LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"]
    assert lines[-1].endswith("First it is")


def test_no_events_is_no_failure(cluster):
    cluster.create_all(make_deployment(**settled()))
    done = run("events", "digits")
    assert (done.exit_code, done.output) == (0, "digits: no events; the API server forgets them after an hour\n")
    assert run("events", "digits", "-o", "json").stdout == "[]\n"


# Exit codes


@pytest.mark.parametrize("verb", ["get", "status", "events", "history"])
def test_what_does_not_exist_ends_with_3(cluster, verb):
    done = run(verb, "digits", "-n", "elsewhere")
    assert done.exit_code == 3
    assert done.stderr == 'error: ModelDeployment "digits" does not exist in namespace "elsewhere"\n'
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("get", "digits", "-o", "xml"),
        ("get", "--watch", "-o", "json"),
        ("get", "digits", "-A"),
        ("events", "digits", "--loud"),
    ],
)
def test_wrong_use_ends_with_2(cluster, arguments):
    assert run(*arguments).exit_code == 2


def test_no_cluster_ends_with_1(tmp_path):
    done = run("get", "--kubeconfig", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")


# The shell


def completed(*words, incomplete=""):
    """What bash would offer after these words."""
    line = " ".join(("pilotfish", *words, incomplete))
    env = {"_PILOTFISH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) + 1)}
    return CliRunner().invoke(app, [], prog_name="pilotfish", env=env).output.split()


@pytest.mark.parametrize("verb", ["get", "status", "promote", "report", "predict"])
def test_the_shell_completes_names_from_the_cluster(cluster, verb):
    cluster.create_all(make_deployment(**settled()))
    assert completed(verb, incomplete="di") == ["digits"]
    assert completed(verb, incomplete="x") == []


def test_the_shell_completes_names_of_the_namespace_on_the_line(cluster):
    cluster.create_all(make_deployment(**settled()))
    assert completed("get", "-n", "elsewhere", incomplete="d") == []
    assert completed("get", "-n", "team", incomplete="d") == ["digits"]


def test_the_shell_asks_the_cluster_of_the_environment(monkeypatch, tmp_path):
    places = []

    @asynccontextmanager
    async def open_cluster(place):
        places.append(place)
        yield Cluster(), "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    assert completed("get", incomplete="d") == []
    assert [place.kubeconfig for place in places] == [tmp_path / "config"]


def test_without_a_cluster_the_shell_is_left_in_peace(tmp_path):
    env = {**os.environ, "_PILOTFISH_COMPLETE": "complete_bash", "KUBECONFIG": str(tmp_path / "none")}
    line = {"COMP_WORDS": "pilotfish get d", "COMP_CWORD": "2"}
    done = subprocess.run(PROGRAM, env={**env, **line}, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(shell):
    env = {**os.environ, "_PILOTFISH_COMPLETE": f"source_{shell}", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(PROGRAM, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "_PILOTFISH_COMPLETE" in done.stdout


# A terminal

PLAYED = """
import sys
from contextlib import asynccontextmanager
from pilotfish.cli import session
from pilotfish.cli.main import app
from support.fake_cluster import FakeCluster
from support.rollouts import CANARY, CANDIDATE, OLD, STABLE, aborted, in_canary, make_deployment, records, settled

cluster = FakeCluster()
cluster.create_now(make_deployment(**in_canary()))

@asynccontextmanager
async def open_cluster(place):
    yield cluster, "team"

session.open_cluster = open_cluster
app(prog_name="pilotfish")
"""


def in_terminal(*arguments, columns, until=None, **env):
    """Everything that a terminal of that width is sent; with `until`, up to there, then Ctrl-C. And the exit code."""
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background may have it ignored
        told = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **env}
        told["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        os.execve(sys.executable, [sys.executable, "-c", PLAYED, *arguments], told)
    said, deadline, asked = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            said += os.read(terminal, 65536)
        except OSError:  # the other side is gone
            break
        if until is not None and not asked and until(said):
            os.kill(process, signal.SIGINT)
            asked = True
    os.close(terminal)
    return said.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_terminal_gets_colours_and_a_line_per_object_however_narrow(cluster):
    text, code = in_terminal("get", columns=60)
    assert code == 0, text
    assert len(text.strip().splitlines()) == 2
    assert all(len(line.rstrip("\r")) <= 60 for line in text.splitlines())
    tree, code = in_terminal("get", "digits", columns=60)
    assert code == 0, tree
    assert "\x1b[33m" in tree, "what is on its way is yellow"


def test_a_terminal_without_colours_and_a_pipe_get_none(cluster):
    tree, _ = in_terminal("get", "digits", columns=100, NO_COLOR="1")
    assert "\x1b[33m" not in tree
    cluster.create_all(make_deployment(**in_canary()))
    assert "\x1b" not in run("get", "digits").output


def test_a_watch_draws_again_until_it_is_interrupted(cluster):
    text, code = in_terminal("get", "digits", "--watch", columns=100, until=lambda said: said.count(b"digits") >= 2)
    assert code == 130, text
    assert "Traceback" not in text
