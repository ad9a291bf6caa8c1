"""Passes that read from the cache: what they ask of the API server, what they never decide without asking, and where
they end however far behind the cache is. The last part counts requests: what an object costs must not grow unseen.
"""

from collections import Counter
from datetime import timedelta

import pytest

from pilotfish.adapters.cache import OWN_KIND, Cache
from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.reconcile import LOOKS_AGAIN, Reconciler
from pilotfish.core import Apply, Plan, plan
from pilotfish.core.objects import ref_of
from pilotfish.core.observed import watched_kinds
from pilotfish.names import NAME_LABEL
from pilotfish.ports import ClusterError, Conflict
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import FakeCluster
from support.neighbours import Neighbours, Surroundings
from support.specs import make_wanted

KEY = Key(OWNER.namespace, OWNER.name)
SUCCESS = Outcome(result=Result.SUCCESS)
KINDS = watched_kinds(gateway_api=False)


class Crash(BaseException):
    """The process ends here."""


class Counting(FakeCluster):
    """The fake that counts requests by verb and kind, and may refuse a verb."""

    def __init__(self):
        super().__init__(now=lambda: NOW)
        self.requests, self.refusals = Counter(), {}

    async def get(self, ref):
        return await self._count("get", ref.kind, super().get(ref))

    async def list(self, *, api_version, kind, namespace, labels):
        found = super().list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)
        return await self._count("list", kind, found)

    async def apply(self, body):
        return await self._count("apply", body["kind"], super().apply(body))

    async def delete(self, ref):
        return await self._count("delete", ref.kind, super().delete(ref))

    async def write_status(self, body):
        return await self._count("status", body["kind"], super().write_status(body))

    async def emit(self, event):
        return await self._count("event", event["reason"], super().emit(event))

    async def _count(self, verb, kind, answer):
        self.requests[verb, kind] += 1
        if verb in self.refusals:
            answer.close()
            raise self.refusals[verb]
        return await answer

    @property
    def reads(self):
        return sum(count for (verb, _), count in self.requests.items() if verb in {"get", "list"})

    @property
    def writes(self):
        return sum(self.requests.values()) - self.reads


class Clock:
    moment = NOW

    def now(self):
        return self.moment


class Operator:
    """Cache and reconciler of one process. `lag`: how many events the watches are behind; None: they never deliver."""

    def __init__(self, cluster, clock, *, lag=0, planner=plan):
        self.cluster, self.lag, self.plans = cluster, lag, 0
        self.events, self.touched = [], set()
        self.cache = Cache(scopes=[(kind, None) for kind in KINDS], touched=lambda n, o: self.touched.add(Key(n, o)))
        for kind in (*KINDS, OWN_KIND):
            self.cache.listed(self.cache.mark(kind, None), cluster.find(kind[1]))
        cluster.watcher = lambda what, body: self.events.append((what, body))

        def counted(*arguments):
            self.plans += 1
            return planner(*arguments)

        self.reconcile = Reconciler(cluster=cluster, clock=clock, policy=POLICY, plan=counted, cache=self.cache)

    def deliver(self):
        """Let the watches deliver all but the last `lag` events."""
        while self.lag is not None and len(self.events) > self.lag:
            what, body = self.events.pop(0)
            if body["kind"] == "ModelDeployment" or body["metadata"].get("labels", {}).get(NAME_LABEL):
                (self.cache.heard_gone if what == "DELETED" else self.cache.heard)(body)

    async def __call__(self):
        self.deliver()
        return await self.reconcile(KEY)


def planning(**parts):
    return lambda _observed, _policy, _now: Plan(**parts)


def make_child(name="c", **data):
    metadata = {
        "name": name,
        "namespace": OWNER.namespace,
        "labels": {NAME_LABEL: OWNER.name, "app.kubernetes.io/managed-by": "pilotfish"},
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cluster():
    cluster = Counting()
    cluster.create_now(make_model_deployment())
    return cluster


# What is asked.


async def test_creating_asks_nothing(cluster, clock):
    planner = planning(applies=(Apply(body=make_child("a")), Apply(body=make_child("b"))))
    await Operator(cluster, clock, planner=planner)()
    assert cluster.requests == {("apply", "ConfigMap"): 2}


@pytest.mark.parametrize("takes", ["deletes", "applies", "judges"])
async def test_who_takes_away_overwrites_or_judges_asks_first(cluster, clock, takes):
    old = cluster.create_now(make_child("old"))
    failed = {"revision": "r", "result": "Failed", "reason": "WrongImage", "at": "2026-01-01T00:00:00Z"}
    parts = {
        "deletes": {"deletes": (ref_of(old),)},
        "applies": {"applies": (Apply(body=make_child("old", a="1"), uid=old["metadata"]["uid"]),)},
        "judges": {"status": {**cluster.look("ModelDeployment", OWNER.name), "status": {"history": [failed]}}},
    }
    await Operator(cluster, clock, planner=planning(**parts[takes]))()
    assert cluster.requests["get", "ModelDeployment"] == 1
    assert cluster.requests["list", "ConfigMap"] == 1
    assert cluster.writes == 1


async def test_what_the_api_server_says_overrules_the_cache(cluster, clock):
    """The cache still has a child that a plan takes away; the API server knows that the spec was changed back."""
    old = cluster.create_now(make_child("old"))

    def planner(observed, _policy, _now):
        return Plan(deletes=() if observed.generation > 1 else (ref_of(old),))

    operator = Operator(cluster, clock, planner=planner, lag=None)
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v2")))
    assert await operator() == SUCCESS
    assert cluster.writes == 0
    assert cluster.look("ConfigMap", "old") is not None


async def test_what_stands_unknown_under_a_name_is_looked_at_and_stays(cluster, clock):
    metadata = {"name": f"{OWNER.name}-store", "namespace": OWNER.namespace}
    cluster.create_now({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {"mine": 1}})
    operator = Operator(cluster, clock)
    await operator()
    body = cluster.look("ModelDeployment", OWNER.name)
    assert next(c for c in body["status"]["conditions"] if c["type"] == "Ready")["reason"] == "NotOwned"
    assert cluster.look("PersistentVolumeClaim", f"{OWNER.name}-store")["spec"] == {"mine": 1}
    # No watch tells of it: only asking shows when it is gone.
    cluster.remove_now("PersistentVolumeClaim", f"{OWNER.name}-store")
    await operator()
    assert cluster.look("PersistentVolumeClaim", f"{OWNER.name}-store")["spec"] != {"mine": 1}


@pytest.mark.parametrize("verb", ["apply", "status"])
@pytest.mark.parametrize("error", [ClusterError("down"), Conflict("changed")])
async def test_after_trouble_the_next_pass_asks(cluster, clock, verb, error):
    operator = Operator(cluster, clock, lag=None)
    cluster.refusals = {verb: error}
    assert (await operator()).result in {Result.ERROR, Result.REQUEUE}
    cluster.refusals = {}
    cluster.requests.clear()
    await operator()
    assert cluster.requests["get", "ModelDeployment"] == 1
    cluster.requests.clear()
    await operator()
    assert cluster.requests == {}


async def test_an_answer_from_an_older_state_is_not_acted_on(cluster, clock):
    old = cluster.create_now(make_child("old"))
    operator = Operator(cluster, clock, planner=planning(deletes=(ref_of(old),)))
    behind = dict(cluster._objects)
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v2")))
    operator.deliver()
    cluster._objects = behind
    assert (await operator()).result is Result.ERROR
    assert cluster.writes == 0


async def test_a_change_while_a_pass_asks_accuses_nobody(cluster, clock):
    """The watch may tell of a change sooner than the lists that were asked for before it: the pass looks again at once."""
    old = cluster.create_now(make_child("old"))
    operator = Operator(cluster, clock, planner=planning(deletes=(ref_of(old),)))
    answer = cluster.list

    async def list_slowly(**what):
        listed = await answer(**what)
        if what["kind"] == old["kind"]:
            cluster.change_now(old["kind"], "old", lambda body: body["metadata"].update(annotations={"x": "y"}))
            operator.deliver()
        return listed

    cluster.list = list_slowly
    assert (await operator()).result is Result.REQUEUE
    assert cluster.writes == 0
    cluster.list = answer
    assert (await operator()).result is Result.SUCCESS


async def test_an_object_that_is_gone_costs_one_question(cluster, clock):
    operator = Operator(cluster, clock)
    await operator()
    cluster.remove_now("ModelDeployment", OWNER.name)
    cluster.requests.clear()
    assert await operator() == SUCCESS
    assert cluster.requests == {("get", "ModelDeployment"): 1}
    assert operator.reconcile.states() == ()


async def test_a_phantom_in_the_cache_makes_children_once_at_most(cluster, clock):
    """Its watch never told that it was deleted, and passes come for it all the same."""
    operator = Operator(cluster, clock, lag=None)
    cluster.remove_now("ModelDeployment", OWNER.name)
    for _ in range(10):
        await operator()
    assert max(count for (verb, _), count in cluster.requests.items() if verb == "apply") == 1
    assert cluster.requests["status", "ModelDeployment"] == 1


# What is not even planned.


async def test_nothing_new_is_not_planned_again(cluster, clock):
    operator = Operator(cluster, clock, planner=planning(requeue_after=timedelta(seconds=60)))
    await operator()
    clock.moment += timedelta(seconds=20)
    assert await operator() == Outcome(result=Result.REQUEUE_AFTER, after=40)
    assert operator.plans == 1
    clock.moment += timedelta(seconds=40)
    await operator()
    assert operator.plans == 2


async def test_any_change_of_a_child_is_planned(cluster, clock):
    operator = Operator(cluster, clock, planner=planning())
    for planned in range(1, 4):
        await operator()
        await operator()
        assert operator.plans == planned
        cluster.create_now(make_child(f"c{planned}"))
    cluster.change_now("ConfigMap", "c1", lambda body: body.update(data={"edited": "by hand"}))
    await operator()
    cluster.remove_now("ConfigMap", "c1")
    await operator()
    assert operator.plans == 5


@pytest.mark.parametrize("later", [LOOKS_AGAIN, -timedelta(seconds=1)])
async def test_after_a_while_and_when_the_clock_was_set_back_it_is_planned_all_the_same(cluster, clock, later):
    operator = Operator(cluster, clock, planner=planning())
    await operator()
    clock.moment += later
    await operator()
    assert operator.plans == 2


async def test_a_pass_that_wrote_is_followed_by_one_that_looks_at_it(cluster, clock):
    operator = Operator(cluster, clock, lag=None)
    operator.touched.clear()
    await operator()
    assert operator.touched == {KEY}
    operator.touched.clear()
    await operator()
    assert operator.touched == set()


# Where it ends.


async def settle(cluster, clock, *, lag, crash_at=None, when="after"):
    """Passes and neighbours in turn until nothing changes; the operator dies at its n-th write. How many writes."""
    seen = 0

    def fault(moment, _effect):
        nonlocal seen
        seen += moment == when
        if moment == when and seen == crash_at:
            raise Crash

    cluster.now = clock.now
    neighbours = Neighbours(cluster=cluster, around=Surroundings(), now=clock.now)
    operator = Operator(cluster, clock, lag=lag)
    still = 0
    for _ in range(400):
        before = cluster.changes
        cluster.fault = fault
        try:
            outcome = await operator()
        except Crash:
            operator = Operator(cluster, clock, lag=lag)
            continue
        finally:
            cluster.fault = None
        for step in neighbours.steps():
            step()
        clock.moment += timedelta(seconds=outcome.after or 1)
        still = still + 1 if cluster.changes == before and outcome.result is Result.SUCCESS else 0
        if still == 1 and operator.events:
            operator.lag, was = 0, operator.lag
            operator.deliver()
            operator.lag, still = was, 0
        if still > 1:
            return operator, seen
    raise AssertionError("nothing comes to rest")


def titles(cluster):
    return sorted(f"{b['kind']}/{b['metadata']['name']}" for b in cluster.everything() if b["kind"] != "Event")


async def story(*, lag, **crash):
    cluster, clock = Counting(), Clock()
    cluster.create_now(make_model_deployment(make_wanted("v1")))
    _, writes = await settle(cluster, clock, lag=lag, **crash)
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v2")))
    operator, more = await settle(cluster, clock, lag=lag)
    assert cluster.look("ModelDeployment", OWNER.name)["status"]["phase"] == "Ready"
    return cluster, operator, writes + more


def made(cluster):
    return Counter(
        (effect.kind, effect.name) for effect in cluster.effects if effect.verb == "apply" and effect.kind == "Job"
    )


@pytest.mark.parametrize("lag", [0, 1, 2, 5, 20, None])
async def test_however_far_the_watches_are_behind_it_ends_in_the_same_place(lag):
    calm, _, _ = await story(lag=0)
    cluster, _, _ = await story(lag=lag)
    assert titles(cluster) == titles(calm)
    assert made(cluster) == made(calm)


async def check_crashes(*, lag, when, every):
    calm, _, writes = await story(lag=0)
    for number in range(1, writes, every):
        cluster, _, _ = await story(lag=lag, crash_at=number, when=when)
        assert titles(cluster) == titles(calm), f"crash {when} write {number}"
        assert max(made(cluster).values()) == 1, f"crash {when} write {number}"


@pytest.mark.slow
@pytest.mark.parametrize("lag", [3, None])
async def test_dead_at_a_write_and_started_again_it_ends_in_the_same_place(lag):
    await check_crashes(lag=lag, when="after", every=5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lag", [0, 1, 3, None])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_dead_at_any_write_and_started_again_it_ends_in_the_same_place(when, lag):
    await check_crashes(lag=lag, when=when, every=1)


# What it costs. `make bench-operator` measures the same on a real API server.

NEW = {
    ("apply", "NetworkPolicy"): 1,
    ("apply", "PersistentVolumeClaim"): 1,
    ("apply", "Job"): 1,
    ("status", "ModelDeployment"): 1,
    ("event", "Optimizing"): 1,
}


async def test_a_new_object_costs_one_request_per_child_a_status_and_an_event(cluster, clock):
    operator = Operator(cluster, clock)
    for _ in range(5):
        await operator()
    assert cluster.requests == NEW
    assert operator.plans == 2


async def test_the_way_to_ready_costs_what_it_writes(cluster, clock):
    """Nine children, five states of the object, an event for each, and not one question."""
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v1")))
    operator, _ = await settle(cluster, clock, lag=0)
    children = [body for body in cluster.everything() if body["kind"] in {kind for _, kind in KINDS}]
    made_by_us = [body for body in children if body["kind"] not in {"Pod", "ReplicaSet"}]
    assert cluster.look("ModelDeployment", OWNER.name)["status"]["phase"] == "Ready"
    by_verb = Counter()
    for (verb, _), count in cluster.requests.items():
        by_verb[verb] += count
    assert by_verb == {"apply": len(made_by_us), "status": 5, "event": 6}
    cluster.requests.clear()
    planned = operator.plans
    await operator()
    assert (cluster.requests, operator.plans) == ({}, planned)


async def test_an_update_asks_only_before_it_takes_something_away(cluster, clock):
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v1")))
    await settle(cluster, clock, lag=0)
    cluster.requests.clear()
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v2")))
    await settle(cluster, clock, lag=0)
    looks = cluster.requests["get", "ModelDeployment"]
    assert looks == 3
    assert cluster.reads == looks * (1 + len(KINDS))
    assert cluster.writes == 27


async def test_a_restart_costs_nothing_where_nothing_changed_and_sees_what_did(cluster, clock):
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v1")))
    await settle(cluster, clock, lag=0)
    cluster.requests.clear()
    again = Operator(cluster, clock)
    assert await again() == SUCCESS
    assert (cluster.requests, again.plans) == ({}, 1)
    (deployment,) = cluster.find("Deployment")
    cluster.change_now("Deployment", deployment["metadata"]["name"], lambda body: body["spec"].update(replicas=7))
    await Operator(cluster, clock)()
    (repaired,) = cluster.find("Deployment")
    assert repaired["spec"]["replicas"] == deployment["spec"]["replicas"]
