"""Where the operator connects to, what it tells of the answers, who may connect to it, what it leaves alone (S23, S25,
S26, S29, S31)."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.adapters.job_progress import JobProgressReader
from pilotfish.adapters.prometheus import Prometheus
from pilotfish.adapters.triton_metrics import TritonMetrics
from pilotfish.ports import ObjectRef, Unmeasured
from support.builders import NOW, OWNER
from support.kube import kube_cluster
from support.neighbours import FLAKY, OUT_OF_MEMORY, SILENT, SLOW, UNASKED, UNLOADABLE, WRONG
from support.specs import make_wanted, uri
from support.users import acting_as
from support.world import World

SECRET = "s3cret-of-the-metadata"
SERVICE = ObjectRef(api_version="v1", kind="Service", namespace="team", name="x")
METADATA = ("169.254.169.254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "fe80::a9fe:a9fe", "0.0.0.0", "::")


class Clock:
    def now(self):
        return NOW


@asynccontextmanager
async def server(reply):
    """Answers every request with these bytes; yields its port and what it was asked."""
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1], asked


def says(status, body=b"", *headers):
    head = [b"HTTP/1.1 %d x" % status, b"Content-Length: %d" % len(body), b"Connection: close", *headers]
    return b"\r\n".join([*head, b"", body])


async def said_by(port, *, address="127.0.0.1"):
    """What each of the operator's clients tells of the party at a port."""
    told = []
    metrics, progress = TritonMetrics(clock=Clock(), port=port), JobProgressReader(port=port)
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    for asking in (
        metrics.sample(address=address, model="digits"),
        metrics.shadow(address=address),
        progress.progress(address=address),
    ):
        with pytest.raises(Unmeasured) as error:
            await asking
        told.append(str(error.value))
    if address == "127.0.0.1":
        told.append((await prometheus.ask("up")).error)
    for client in (metrics, progress, prometheus):
        await client.close()
    return told


class TestS23:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_no_redirect_is_followed(self, status):
        async with server(says(200, SECRET.encode())) as (inner, bites):
            location = b"Location: http://127.0.0.1:%d/latest/meta-data/" % inner
            async with server(says(status, SECRET.encode(), location)) as (port, asked):
                told = await said_by(port)
        assert len(asked) == len(told) == 4
        assert bites == []
        assert SECRET not in " ".join(told)

    @pytest.mark.parametrize("address", METADATA)
    async def test_a_cloud_s_metadata_is_not_asked(self, address, monkeypatch):
        monkeypatch.setattr(socket.socket, "connect", forbidden)
        monkeypatch.setattr(asyncio.BaseEventLoop, "sock_connect", forbidden)
        assert set(await said_by(80, address=address)) == {"its address is no pod's"}

    @pytest.mark.parametrize(
        "address", ["rebind.example.org", "localhost", "metadata.google.internal", "1.2.3.4.nip.io"]
    )
    async def test_no_name_is_looked_up_so_none_can_change_its_mind(self, address, monkeypatch):
        monkeypatch.setattr(socket, "getaddrinfo", forbidden)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", forbidden)
        assert set(await said_by(80, address=address)) == {"its address is no IP address"}

    @pytest.mark.parametrize(
        "reply",
        [
            says(200, SECRET.encode()),
            says(500, SECRET.encode()),
            says(401, b"", b"WWW-Authenticate: Basic realm=" + SECRET.encode()),
            says(200, json.dumps({"status": "error", "error": SECRET, "errorType": "execution"}).encode()),
            says(422, json.dumps({"status": "error", "error": SECRET, "errorType": SECRET}).encode()),
            says(200, json.dumps({"status": SECRET, "data": SECRET}).encode()),
            says(200, json.dumps({"percent": SECRET, "message": [SECRET]}).encode()),
            says(200, f'nv_inference_count{{model="digits",version="1",x="{SECRET}"}} {SECRET}\n'.encode()),
            SECRET.encode() + b"\r\n\r\n",
            b"HTTP/1.1 200 " + SECRET.encode() + b"\r\n" + SECRET.encode() + b"\r\n\r\n",
        ],
    )
    async def test_what_is_told_of_an_answer_holds_nothing_of_it(self, reply):
        async with server(reply) as (port, _):
            told = await said_by(port)
        assert SECRET not in " ".join(told)
        assert all(sentence and "\n" not in sentence and len(sentence) < 250 for sentence in told)


def forbidden(*_args, **_more):
    raise AssertionError("it tried to connect")


async def test_s25_nobody_else_s_name_is_ever_used(tmp_path):
    async with server(says(404, b"{}")) as (port, asked):
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        told = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"}
        kubeconfig.write_text(json.dumps(told))
        async with acting_as(kubeconfig, "somebody") as fixture:
            await fixture.get(SERVICE)
        assert b"impersonate" in asked.pop().lower(), "the test would see it"
        async with kube_cluster(kubeconfig) as operator:
            await operator.get(SERVICE)
        assert b"impersonate" not in asked.pop().lower()


@pytest.mark.apiserver
class TestLife:
    def test_s23_no_address_that_a_user_wrote_is_ever_called(self, life):
        """Its objects name the bait as source, as samples, and the operator even as Prometheus, which no check asks."""
        assert json.dumps(life.left).count(life.bait) > 10
        assert life.bites == []

    def test_s26_one_port_is_open_and_answers_three_questions(self, life):
        assert life.listening == (life.port,)
        allowed = {question for question, status in life.answers.items() if status == 200}
        assert allowed == {"GET /healthz", "GET /readyz", "GET /metrics"}
        assert {status for question, status in life.answers.items() if question not in allowed} <= {400, 403, 404, 405}


class TestS29:
    """Right labels, right names, another owner: untouched, and without a say."""

    @pytest.fixture
    def served(self):
        world = World()
        world.submit(make_wanted("v1", replicas=2))
        world.settle()
        return world

    @pytest.mark.parametrize(
        "kind", ["Job", "Deployment", "Service", "ConfigMap", "ControllerRevision", "PersistentVolumeClaim"]
    )
    @pytest.mark.parametrize("owner", ["nobody", "another", "not the controller"])
    def test_an_object_with_our_labels_is_neither_changed_nor_deleted(self, served, kind, owner):
        true = next(body for body in served.cluster.everything() if body["kind"] == kind)
        forged = deepcopy(true)
        reference = forged["metadata"]["ownerReferences"][0]
        references = {
            "nobody": [],
            "another": [{**reference, "uid": "99999999-2222-3333-4444-555555555555"}],
            "not the controller": [{**reference, "controller": False}],
        }
        for field in ("uid", "resourceVersion", "creationTimestamp"):
            forged["metadata"].pop(field, None)
        forged["metadata"] |= {"name": f"{names.stem(OWNER.name)}-zzzzzzzz", "ownerReferences": references[owner]}
        stored = deepcopy(served.cluster.create_now(forged))
        before = len(served.cluster.effects)
        served.submit(make_wanted("v2", replicas=2))
        served.settle()
        served.go_on(timedelta(hours=1))
        assert served.said("Ready") == ("True", "Serving")
        kept = served.cluster.look(kind, forged["metadata"]["name"])
        assert kept == stored or kind == "Deployment", "its neighbours may count its pods"
        touched = {effect.name for effect in served.cluster.effects[before:] if effect.kind == kind}
        assert forged["metadata"]["name"] not in touched

    def test_a_pod_with_our_labels_has_no_say(self, served):
        """Failed, out of memory, with a result in its message: nothing of it is read."""
        true = next(
            pod for pod in served.cluster.find("Pod") if pod["metadata"]["labels"][names.COMPONENT_LABEL] == "triton"
        )
        for number, kind in enumerate(("ReplicaSet", "Job", "Deployment", "Node")):
            forged = deepcopy(true)
            owner = {**true["metadata"]["ownerReferences"][0], "kind": kind, "uid": "no such uid"}
            forged["metadata"] |= {"name": f"forged-{number}", "uid": f"f{number}", "ownerReferences": [owner]}
            forged["status"] = {"phase": "Failed", "podIP": "169.254.169.254"}
            served.cluster.create_now(forged)
        before = len(served.cluster.effects)
        status = deepcopy(served.status)
        served.settle()
        assert served.status == status
        assert len(served.cluster.effects) == before
        assert len(served.observed().pods_of_revision(status["stableRevision"]["hash"])) == 2


REFRESHING = {**make_wanted("v1"), "model": {"uri": uri("v1"), "refresh": {"interval": "1m"}}}


class TestS31:
    """One object that fails, for an hour: few pods, few events."""

    PODS, EVENTS = 10, 60

    @pytest.mark.parametrize(
        "behaviour",
        [FLAKY, OUT_OF_MEMORY, SILENT, UNLOADABLE, SLOW, WRONG, UNASKED, "UnsafeModel", "SourceUnreachable"],
    )
    def test_a_first_revision_that_fails(self, behaviour):
        world = World()
        world.around.models[uri("v1")] = behaviour
        world.submit(make_wanted("v1"))
        self.hold(world)

    @pytest.mark.parametrize("behaviour", [OUT_OF_MEMORY, UNLOADABLE, SLOW, WRONG, UNASKED, "UnsafeModel"])
    def test_an_update_that_fails(self, behaviour):
        world = World()
        world.submit(make_wanted("v1"))
        world.settle()
        world.around.models[uri("v2")] = behaviour
        world.submit(make_wanted("v2"))
        self.hold(world)

    @pytest.mark.parametrize("answer", ["SourceUnreachable", "SourceForbidden"])
    def test_a_refresh_that_fails_every_minute(self, answer):
        world = World()
        world.submit(REFRESHING)
        world.settle(wait=False)
        world.around.bytes_at[uri("v1")] = answer
        self.hold(world)

    @pytest.mark.parametrize("trouble", ["missing_images", "missing_secrets", "quota_exceeded"])
    def test_a_cluster_that_gives_nothing(self, trouble):
        world = World()
        if trouble == "missing_images":
            world.around.missing_images |= {"pilotfish/optimizer-torch:0.1.0", "pilotfish/optimizer:0.1.0"}
        elif trouble == "missing_secrets":
            world.around.missing_secrets.add("creds")
        else:
            world.around.quota_exceeded = True
        spec = make_wanted("v1")
        spec["model"]["credentials"] = {"secretName": "creds"}
        world.submit(spec)
        self.hold(world)

    def hold(self, world):
        """An hour passes; every pod that it makes counts, and every event each time that it is sent."""
        before, made, effects = pods_of(world), set(), len(world.cluster.effects)
        end = world.moment + timedelta(hours=1)
        while world.moment < end:
            moved = any([*world.step_all(), *world.step_all()])
            made |= pods_of(world) - before
            if not moved and not world.wait(before=end):
                world.pass_time(min(timedelta(minutes=1), max(end - world.moment, timedelta(seconds=1))))
        sent = [effect for effect in world.cluster.effects[effects:] if effect.verb == "event"]
        assert len(made) <= self.PODS, f"{len(made)} pods in an hour"
        assert len(sent) <= self.EVENTS, f"{len(sent)} events in an hour"


def pods_of(world):
    return {pod["metadata"]["uid"] for pod in world.cluster.find("Pod")}
