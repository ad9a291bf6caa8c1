"""How a kind is followed: one list, then the stream; what breaks it, and what is done then. In virtual time."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

from pilotfish.adapters.answers import Gone
from pilotfish.adapters.cache import Cache
from pilotfish.adapters.kube import Listed, WatchEvent
from pilotfish.adapters.reflector import Reflector
from pilotfish.core.observed import ROUTE_KINDS
from pilotfish.ports import ClusterError, Forbidden, NotFound
from support.virtual_time import run_in_virtual_time

KIND = ("batch/v1", "Job")
LABELS = {"app.kubernetes.io/managed-by": "pilotfish"}


def make_body(name, version, kind=KIND):
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "labels": {"pilotfish.dev/name": "digits", **LABELS},
    }
    return {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata}


OWN = make_body("digits", 1, ("pilotfish.dev/v1alpha1", "ModelDeployment"))


@dataclass
class Script:
    """A source that plays what it was given: lists and streams, each an answer or an error; then waits for ever."""

    lists: list
    streams: list
    asked: list = field(default_factory=list)

    async def list_at(self, *, api_version, kind, namespace, labels):
        self.asked.append(("list", asyncio.get_running_loop().time()))
        assert ((api_version, kind), namespace, labels) == (self.kind, None, LABELS)
        return self._play(self.lists)

    async def watch(self, *, api_version, kind, namespace, labels, version):
        self.asked.append((f"watch {version}", asyncio.get_running_loop().time()))
        if not self.streams:
            await asyncio.Event().wait()
        for event in self._play(self.streams):
            if isinstance(event, Exception):
                raise event
            yield event

    def _play(self, answers):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kind = KIND


def follow(script, *, seconds=300.0):
    """Run the reflector; its cache, what it asked with the seconds at which it did, and whom `saw` heard of."""
    saw = []

    async def story():
        cache = Cache(scopes=[(script.kind, None)])
        cache.heard(OWN)
        reflector = Reflector(
            source=script,
            cache=cache,
            kind=script.kind,
            namespace=None,
            labels=LABELS,
            saw=lambda body: saw.append(body["metadata"]["name"]),
        )
        started = asyncio.get_running_loop().time()
        task = asyncio.create_task(reflector.run())
        await asyncio.sleep(seconds)
        assert not task.done(), task
        task.cancel()
        return cache, [(what, round(at - started, 1)) for what, at in script.asked]

    cache, asked = run_in_virtual_time(story())
    return cache, asked, saw


def names(cache):
    return [body["metadata"]["name"] for body in cache.read(namespace="team", name="digits").objects]


def added(name, version):
    return WatchEvent("ADDED", make_body(name, version))


def bookmark(version):
    return WatchEvent("BOOKMARK", {"kind": "Job", "metadata": {"resourceVersion": str(version)}})


def test_one_list_then_one_stream():
    script = Script([Listed((make_body("a", 3),), "5")], [[added("b", 6), WatchEvent("DELETED", make_body("a", 7))]])
    cache, asked, saw = follow(script, seconds=0.1)
    assert names(cache) == ["b"]
    assert saw == ["a", "b", "a"]
    assert asked == [("list", 0.0), ("watch 5", 0.0), ("watch 7", 0.0)]


def test_a_stream_that_ends_or_breaks_goes_on_where_it_was_without_a_list():
    script = Script([Listed((), "5")], [[added("a", 6)], [bookmark(9), ClusterError("reset")], [added("b", 12)]])
    cache, asked, _ = follow(script, seconds=3)
    assert names(cache) == ["a", "b"]
    assert [what for what, _ in asked] == ["list", "watch 5", "watch 6", "watch 9", "watch 12"]


def test_a_version_that_is_too_old_is_listed_anew_at_once_and_phantoms_go():
    script = Script([Listed((make_body("a", 3),), "5"), Listed((make_body("b", 90),), "100")], [[Gone("410")]])
    cache, asked, _ = follow(script, seconds=3)
    assert names(cache) == ["b"]
    assert asked == [("list", 0.0), ("watch 5", 0.0), ("list", 0.0), ("watch 100", 0.0)]


def test_trouble_is_met_ever_more_slowly_but_for_ever():
    script = Script([Forbidden("no")] * 60 + [Listed((make_body("a", 3),), "5")], [])
    cache, asked, _ = follow(script, seconds=1000)
    assert names(cache) == ["a"]
    times = [at for what, at in asked if what == "list"]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] == 0
    assert gaps[1] < 1
    assert max(gaps) < 14


def test_a_server_that_asks_for_patience_gets_it():
    script = Script([ClusterError("later", retry_after=20), Listed((), "5")], [])
    _, asked, _ = follow(script, seconds=60)
    assert [at for what, at in asked if what == "list"] == [0.0, 20.0]


def test_streams_that_end_without_a_word_are_not_asked_for_in_a_hot_loop():
    script = Script([Listed((), "5")], [[] for _ in range(200)])
    _, asked, _ = follow(script, seconds=60)
    assert len(asked) < 20


def test_routes_that_nobody_installed_are_no_trouble_and_looked_for_now_and_then():
    kind = ROUTE_KINDS[0]
    script = Script([NotFound("no"), NotFound("no"), Listed((make_body("a", 3, kind),), "5")], [])
    script.kind = kind
    cache, asked, _ = follow(script, seconds=30)
    assert cache.read(namespace="team", name="digits").unserved == {kind[1]}
    assert asked == [("list", 0.0)]
    script.lists.insert(0, NotFound("no"))
    script.asked.clear()
    cache, asked, _ = follow(script, seconds=200)
    assert names(cache) == ["a"]
    assert [at for what, at in asked if what == "list"] == [0.0, 60.0, 120.0]
    assert cache.read(namespace="team", name="digits").unserved == frozenset()
