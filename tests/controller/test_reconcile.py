"""One pass of the real executor over the cluster in memory: what it writes, in which order, and what becomes of it."""

from datetime import timedelta

import pytest

from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import Apply, Plan, plan
from pilotfish.core.objects import ref_of
from pilotfish.ports import ClusterError, Conflict, Forbidden, Invalid
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import FakeCluster
from support.neighbours import Neighbours, Surroundings
from support.specs import make_wanted

KEY = Key(OWNER.namespace, OWNER.name)
SUCCESS = Outcome(result=Result.SUCCESS)


class Crash(BaseException):
    """The process ends here."""


class Calls(FakeCluster):
    """The fake that also remembers every call that writes, and may refuse one."""

    def __init__(self, **refusals):
        super().__init__(now=lambda: NOW)
        self.calls, self.refusals = [], refusals

    async def apply(self, body):
        return await self._call("apply", body["kind"], super().apply, body)

    async def delete(self, ref):
        return await self._call("delete", ref.kind, super().delete, ref)

    async def write_status(self, body):
        return await self._call("status", body["kind"], super().write_status, body)

    async def emit(self, event):
        return await self._call("event", event["reason"], super().emit, event)

    async def _call(self, verb, what, method, argument):
        self.calls.append((verb, what))
        if verb in self.refusals:
            raise self.refusals[verb]
        return await method(argument)


class FixedClock:
    moment = NOW

    def now(self):
        return self.moment


def make_reconciler(cluster, *, planner=plan, clock=None):
    return Reconciler(cluster=cluster, clock=clock or FixedClock(), policy=POLICY, plan=planner)


def planning(**parts):
    """A planner that always says the same."""
    return lambda _observed, _policy, _now: Plan(**parts)


def make_child(name="c", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": OWNER.namespace},
        "data": data,
    }


def make_status(cluster):
    return {**cluster.look("ModelDeployment", OWNER.name), "status": {"phase": "Pending"}}


def make_event():
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": OWNER.namespace},
        "eventTime": "t",
        "reason": "Optimizing",
    }


@pytest.fixture
def cluster():
    cluster = Calls()
    cluster.create_now(make_model_deployment())
    return cluster


async def test_applies_then_deletes_then_one_status_then_events(cluster):
    old = cluster.create_now(make_child("old"))
    planner = planning(
        applies=(Apply(body=make_child("a")), Apply(body=make_child("b"))),
        deletes=(ref_of(old),),
        status=make_status(cluster),
        events=(make_event(),),
        requeue_after=timedelta(seconds=7),
    )
    outcome = await make_reconciler(cluster, planner=planner)(KEY)
    assert outcome == Outcome(result=Result.REQUEUE_AFTER, after=7)
    assert cluster.calls == [
        ("apply", "ConfigMap"),
        ("apply", "ConfigMap"),
        ("delete", "ConfigMap"),
        ("status", "ModelDeployment"),
        ("event", "Optimizing"),
    ]


async def test_an_empty_plan_writes_nothing(cluster):
    assert await make_reconciler(cluster, planner=planning())(KEY) == SUCCESS
    assert cluster.calls == []


async def test_a_status_that_is_not_stored_sends_no_event(cluster):
    cluster.refusals = {"status": Conflict("changed")}
    planner = planning(status=make_status(cluster), events=(make_event(),))
    assert await make_reconciler(cluster, planner=planner)(KEY) == Outcome(result=Result.REQUEUE)
    assert cluster.calls == [("status", "ModelDeployment")]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Conflict("uid"), Outcome(result=Result.REQUEUE)),
        (Invalid("name"), Outcome(result=Result.TERMINAL)),
        (Forbidden("no"), Outcome(result=Result.ERROR)),
        (ClusterError("down"), Outcome(result=Result.ERROR)),
        (ClusterError("slow down", retry_after=9), Outcome(result=Result.ERROR, after=9)),
    ],
)
async def test_the_class_of_an_error_decides_what_becomes_of_the_key(cluster, error, outcome):
    cluster.refusals = {"apply": error}
    assert await make_reconciler(cluster, planner=planning(applies=(Apply(body=make_child()),)))(KEY) == outcome


async def test_an_error_stops_the_pass_at_once(cluster):
    cluster.refusals = {"apply": ClusterError("down")}
    planner = planning(applies=(Apply(body=make_child()),), status=make_status(cluster), events=(make_event(),))
    await make_reconciler(cluster, planner=planner)(KEY)
    assert cluster.calls == [("apply", "ConfigMap")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden('jobs "x" is forbidden: exceeded quota: q, requested: 1, used: 1'), "QuotaExceeded"),
        (Invalid("spec.size: Invalid value"), "ChildRefused"),
    ],
)
async def test_a_refused_child_is_said_in_status_once(cluster, error, reason):
    cluster.refusals = {"apply": error}
    reconcile = make_reconciler(cluster)
    await reconcile(KEY)
    body = cluster.look("ModelDeployment", OWNER.name)
    ready = next(c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert str(error) in ready["message"]
    written = len(cluster.effects)
    await reconcile(KEY)
    assert len(cluster.effects) == written
    cluster.refusals = {}
    await reconcile(KEY)
    assert cluster.look("ModelDeployment", OWNER.name)["status"]["phase"] == "Optimizing"


async def test_an_object_that_is_gone_is_no_trouble_and_leaves_no_gauge(cluster):
    reconcile = make_reconciler(cluster)
    await reconcile(KEY)
    assert [state.name for state in reconcile.states()] == [OWNER.name]
    cluster.remove_now("ModelDeployment", OWNER.name)
    cluster.calls.clear()
    assert await reconcile(KEY) == SUCCESS
    assert cluster.calls == []
    assert reconcile.states() == ()


async def test_what_stands_in_the_way_is_looked_at_before_creating(cluster):
    """Without our label it is in no list; it must be found all the same, and stay as it is."""
    stranger = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{OWNER.name}-store", "namespace": OWNER.namespace},
        "spec": {"mine": True},
    }
    cluster.create_now(stranger)
    await make_reconciler(cluster)(KEY)
    body = cluster.look("ModelDeployment", OWNER.name)
    assert next(c for c in body["status"]["conditions"] if c["type"] == "Ready")["reason"] == "NotOwned"
    assert cluster.look("PersistentVolumeClaim", f"{OWNER.name}-store")["spec"] == {"mine": True}
    assert ("apply", "PersistentVolumeClaim") not in cluster.calls


async def test_things_that_keep_appearing_are_tried_again_later(cluster):
    def planner(observed, _policy, _now):
        name = f"n{len(observed.foreign)}"
        cluster.create_now(make_child(name))
        return Plan(applies=(Apply(body=make_child(name)),))

    assert (await make_reconciler(cluster, planner=planner)(KEY)).result is Result.REQUEUE
    assert cluster.calls == []


async def settle(cluster, clock, *, crash_at=None, when="after"):
    """Passes and neighbours in turn until nothing changes; the operator dies at its n-th write. How many writes."""
    seen = 0

    def fault(moment, _effect):
        nonlocal seen
        seen += moment == when
        if moment == when and seen == crash_at:
            raise Crash

    cluster.now = clock.now
    neighbours = Neighbours(cluster=cluster, around=Surroundings(), now=clock.now)
    reconcile = make_reconciler(cluster, clock=clock)
    for _ in range(100):
        before = cluster.changes
        cluster.fault = fault
        try:
            outcome = await reconcile(KEY)
        except Crash:
            reconcile = make_reconciler(cluster, clock=clock)
            continue
        finally:
            cluster.fault = None
        for step in neighbours.steps():
            step()
        clock.moment += timedelta(seconds=outcome.after or 1)
        if cluster.changes == before and outcome.result is Result.SUCCESS:
            return seen
    raise AssertionError("nothing comes to rest")


def titles(cluster):
    return sorted(f"{b['kind']}/{b['metadata']['name']}" for b in cluster.everything() if b["kind"] != "Event")


async def story(**crash):
    cluster = Calls()
    clock = FixedClock()
    cluster.create_now(make_model_deployment(make_wanted("v1")))
    writes = await settle(cluster, clock, **crash)
    cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=make_wanted("v2")))
    writes += await settle(cluster, clock)
    body = cluster.look("ModelDeployment", OWNER.name)
    assert body["status"]["phase"] == "Ready"
    return cluster, writes


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_dead_at_any_write_and_started_again_it_ends_in_the_same_place(when):
    calm, writes = await story()
    assert writes > 10
    for number in range(1, writes):
        cluster, _ = await story(crash_at=number, when=when)
        assert titles(cluster) == titles(calm), f"crash {when} write {number}"
        jobs = [call for call in cluster.effects if call.verb == "apply" and call.name.endswith("-optimize")]
        assert len(jobs) == 2, f"crash {when} write {number}"


async def test_at_rest_a_pass_writes_nothing():
    cluster, _ = await story()
    cluster.calls.clear()
    clock = FixedClock()
    clock.moment = NOW + timedelta(days=1)
    await make_reconciler(cluster, clock=clock)(KEY)
    assert cluster.calls == []
