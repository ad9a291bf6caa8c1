"""The verbs as a person uses them, on a cluster in memory."""

import json
from contextlib import asynccontextmanager

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.cli import session, verbs
from pilotfish.cli.main import app
from pilotfish.ports import ClusterError, Forbidden
from support.fake_cluster import FakeCluster
from support.rollouts import CANDIDATE, OLD, OLDEST, STABLE, aborted, in_canary, make_deployment, records, settled


class Cluster(FakeCluster):
    """Remembers who wrote, and may play the operator or refuse."""

    def __init__(self):
        super().__init__()
        self.managers, self.after_patch, self.refusal = [], None, None

    async def patch(self, ref, patch, *, manager):
        if self.refusal is not None:
            raise self.refusal
        self.managers.append(manager)
        stored = await super().patch(ref, patch, manager=manager)
        if self.after_patch is not None:
            self.change_now("ModelDeployment", "digits", self.after_patch)
        return stored


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()

    @asynccontextmanager
    async def open_cluster(place):
        yield cluster, place.namespace or "team"

    monkeypatch.setattr(session, "open_cluster", open_cluster)
    monkeypatch.setattr(verbs, "POLL_SECONDS", 0.001)
    return cluster


def put(cluster, body, *children):
    for stored in (body, *children):
        cluster.create_now(stored)


def spec_of(cluster):
    return cluster.look("ModelDeployment", "digits")["spec"]


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "status", "action"),
    [
        (("promote", "digits"), in_canary(), {"verb": "promote"}),
        (("promote", "digits", "--full"), in_canary(), {"verb": "promoteFull"}),
        (("abort", "digits"), in_canary(), {"verb": "abort"}),
        (("retry", "digits"), aborted(), {"verb": "retry"}),
        (("undo", "digits"), settled(), {"verb": "undo", "toRevision": OLD}),
        (("undo", "digits", "--to-revision", OLDEST), settled(), {"verb": "undo", "toRevision": OLDEST}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_verb_writes_one_action_and_says_how_to_do_it_without(cluster, arguments, status, action):
    put(cluster, make_deployment(**status), *records(OLDEST, OLD, STABLE))
    before = spec_of(cluster)
    done = run(*arguments, "-n", "team")
    assert done.exit_code == 0, done.output
    written = spec_of(cluster)["rollout"].pop("action")
    assert {key: value for key, value in written.items() if key != "id"} == action
    assert {**spec_of(cluster), "rollout": before["rollout"]} == before
    assert cluster.managers == ["pilotfish-cli"]
    kubectl = next(line for line in done.output.splitlines() if "kubectl patch" in line)
    assert json.dumps(written, separators=(",", ":")) in kubectl
    assert "--namespace team" in kubectl
    manifest = done.output[done.output.index("  spec:") :]
    assert yaml.safe_load(manifest)["spec"]["rollout"]["action"] == written


def test_every_request_has_an_id_of_its_own(cluster):
    put(cluster, make_deployment(**in_canary()))
    ids = []
    for _ in range(5):
        assert run("promote", "digits").exit_code == 0
        ids.append(spec_of(cluster)["rollout"]["action"]["id"])
    assert len(set(ids)) == 5


def test_pause_and_resume(cluster):
    put(cluster, make_deployment())
    done = run("pause", "digits", "--context", "far")
    assert spec_of(cluster)["paused"] is True
    assert "--context far" in done.output
    assert '{"spec":{"paused":true}}' in done.output
    assert run("pause", "digits").exit_code == 1
    assert run("resume", "digits").exit_code == 0
    assert spec_of(cluster)["paused"] is False


@pytest.mark.parametrize("verb", ["promote", "abort", "retry", "undo", "resume"])
def test_a_verb_that_makes_no_sense_says_so_and_writes_nothing(cluster, verb):
    put(cluster, make_deployment())
    done = run(verb, "digits")
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1
    assert cluster.managers == []
    assert "action" not in spec_of(cluster)["rollout"]


def test_the_rights_on_the_object_alone_are_enough_to_abort(cluster, monkeypatch):
    async def refuse(**_):
        raise Forbidden("you may not list jobs")

    put(cluster, make_deployment(**in_canary()))
    monkeypatch.setattr(cluster, "list", refuse)
    assert run("abort", "digits").exit_code == 0
    assert run("undo", "digits").exit_code == 1


def test_an_object_that_does_not_exist(cluster):
    done = run("abort", "digits", "-n", "elsewhere")
    assert done.exit_code == 3
    assert done.output == 'error: ModelDeployment "digits" does not exist in namespace "elsewhere"\n'


@pytest.mark.parametrize("refusal", [Forbidden("you may not patch modeldeployments"), ClusterError("no answer")])
def test_what_the_server_refuses_is_one_sentence(cluster, refusal):
    put(cluster, make_deployment(**in_canary()))
    cluster.refusal = refusal
    done = run("abort", "digits")
    assert (done.exit_code, done.output) == (1, f"error: {refusal}\n")


class TestWait:
    def test_tells_what_became_of_it(self, cluster):
        put(cluster, make_deployment(**in_canary()))

        def operator(body):
            told = {"lastActionId": body["spec"]["rollout"]["action"]["id"], "actionMessage": "abort: given up"}
            body["status"]["rollout"] = told

        cluster.after_patch = operator
        done = run("abort", "digits", "--wait")
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1] == "digits: abort: given up"

    def test_an_operator_that_does_not_look_is_a_failure(self, cluster):
        put(cluster, make_deployment(**in_canary()))
        done = run("abort", "digits", "--wait", "--timeout", "10ms")
        assert done.exit_code == 1
        assert done.output.splitlines()[-1].startswith("error: the operator has not looked at digits for")

    def test_another_request_in_between_is_a_failure(self, cluster):
        put(cluster, make_deployment(**in_canary()))
        cluster.after_patch = lambda body: body["spec"]["rollout"].update(action={"id": "theirs", "verb": "promote"})
        done = run("abort", "digits", "--wait")
        assert done.exit_code == 1
        assert "another request took its place" in done.output
        assert "spec.rollout.action is now theirs" in done.output

    def test_pause_waits_for_the_generation(self, cluster):
        put(cluster, make_deployment(**in_canary()))

        def operator(body):
            body["status"] |= {"observedGeneration": body["metadata"]["generation"] + 1, "phase": "Paused"}

        cluster.after_patch = operator
        done = run("pause", "digits", "--wait")
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1].startswith("digits: Paused: ")

    def test_pause_that_nobody_sees(self, cluster):
        put(cluster, make_deployment(**in_canary()))
        assert run("pause", "digits", "--wait", "--timeout", "10ms").exit_code == 1

    def test_nonsense_for_a_timeout_is_used_wrongly_and_writes_nothing(self, cluster):
        put(cluster, make_deployment(**in_canary()))
        done = run("abort", "digits", "--wait", "--timeout", "soon")
        assert done.exit_code == 2
        assert cluster.managers == []


class TestHistory:
    @pytest.fixture
    def stored(self, cluster):
        put(cluster, make_deployment(**{**settled(), **in_canary()}), *records(OLDEST, OLD, STABLE))

    def test_a_table(self, stored):
        done = run("history", "digits")
        assert done.exit_code == 0
        title, *lines = done.output.splitlines()
        assert title.split() == ["REVISION", "NUMBER", "ROLE", "VARIANT", "SOURCE", "RESULT", "REASON", "WHEN", "CAUSE"]
        assert next(line.split()[0] for line in lines) in {CANDIDATE, STABLE}
        assert len(lines) == 4

    @pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
    def test_for_machines(self, stored, form, read):
        done = run("history", "digits", "-o", form)
        rows = {row["revision"]: row for row in read(done.output)}
        assert rows[OLD]["result"] == "Superseded"
        assert rows[OLD]["number"] == 2
        assert rows[STABLE]["role"] == "stable"

    def test_an_unknown_form_is_used_wrongly(self, stored):
        assert run("history", "digits", "-o", "xml").exit_code == 2


def test_get_shows_the_rollout(cluster):
    put(cluster, make_deployment(**in_canary()))
    done = run("get", "digits")
    assert done.exit_code == 0, done.output
    assert f"rollout of {CANDIDATE}" in done.output
