"""When a Job's pod is asked, how long its answer counts, and that its silence is nobody's trouble."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from pilotfish.api.job_progress import ProgressNote
from pilotfish.controller.job_watch import JobWatch
from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import Plan
from pilotfish.core.job_progress import GAP, LASTS
from pilotfish.core.observed import Observed
from pilotfish.names import Component, labels
from pilotfish.ports import Unmeasured
from pilotfish.resources.meta import make_metadata
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import FakeCluster

KEY = Key(OWNER.namespace, OWNER.name)


@dataclass
class Pods:
    """Who is asked, and the clock."""

    moment: timedelta = timedelta(0)
    asked: list = field(default_factory=list)
    answer: object = field(default_factory=lambda: ProgressNote(stage="load", percent=1))

    def now(self):
        return NOW + self.moment

    async def progress(self, *, address):
        self.asked.append((self.moment, address))
        if isinstance(self.answer, str):
            raise Unmeasured(self.answer)
        return self.answer


@pytest.fixture
def pods():
    return Pods()


@pytest.fixture
def watch(pods):
    return JobWatch(clock=pods, reader=pods)


def make_job(uid="j1"):
    metadata = make_metadata(OWNER, name=f"digits-{uid}-optimize", component=Component.OPTIMIZE, revision=uid)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**metadata, "uid": uid}, "spec": {}, "status": {}}


def make_pod(job="j1", uid="p1", address="10.0.0.9"):
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": job, "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": uid,
            "uid": uid,
            "namespace": OWNER.namespace,
            "labels": labels(OWNER.name, Component.OPTIMIZE),
            "ownerReferences": [owner],
        },
        "spec": {},
        "status": {"podIP": address, "containerStatuses": [{"name": "optimize", "state": {"running": {}}}]},
    }


def observe(*objects):
    objects = objects or (make_job(), make_pod())
    return Observed(
        body=make_model_deployment(),
        children=tuple(o for o in objects if o["kind"] == "Job"),
        pods=tuple(o for o in objects if o["kind"] == "Pod"),
    )


async def test_a_pod_is_asked_once_in_a_while_and_its_word_is_kept(watch, pods):
    for seconds in (0, 1, 14, 15, 29, 31):
        pods.moment = timedelta(seconds=seconds)
        told = await watch.look(KEY, observe())
        assert told.progress.note == pods.answer
        assert told.progress.job == "j1"
    assert pods.asked == [(timedelta(seconds=s), "10.0.0.9") for s in (0, 15, 31)]


async def test_silence_is_bridged_for_a_while_and_then_nothing_is_shown(watch, pods):
    await watch.look(KEY, observe())
    pods.answer = "it does not accept connections"
    pods.moment = LASTS - timedelta(seconds=1)
    assert (await watch.look(KEY, observe())).progress is not None
    pods.moment = LASTS
    assert (await watch.look(KEY, observe())).progress is None


async def test_who_has_not_answered_yet_is_asked_sooner_and_who_never_does_no_more_often(watch, pods):
    pods.answer = "no answer within 2 s"
    for seconds in range(61):
        pods.moment = timedelta(seconds=seconds)
        assert (await watch.look(KEY, observe())).progress is None
    assert [moment.total_seconds() for moment, _ in pods.asked] == [0, 3, 6, 9, 12, 15, 30, 45, 60]
    assert watch.gap(KEY) == GAP


async def test_the_next_pod_is_asked_at_once_and_the_last_one_s_word_is_dropped(watch, pods):
    await watch.look(KEY, observe())
    pods.answer = "it does not accept connections"
    told = await watch.look(KEY, observe(make_job(), make_pod(uid="p2", address="10.0.0.10")))
    assert told.progress is None
    assert [address for _, address in pods.asked] == ["10.0.0.9", "10.0.0.10"]


async def test_without_a_running_job_nobody_is_asked_and_nothing_remembered(watch, pods):
    await watch.look(KEY, observe())
    assert watch.gap(KEY) == GAP
    assert (await watch.look(KEY, observe(make_job()))).progress is None
    assert watch.gap(KEY) is None
    assert len(pods.asked) == 1


async def test_a_clock_that_is_set_back_asks_again(watch, pods):
    pods.moment = timedelta(hours=1)
    await watch.look(KEY, observe())
    pods.moment = timedelta(0)
    assert (await watch.look(KEY, observe())).progress is not None
    assert len(pods.asked) == 2


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, GAP), (timedelta(seconds=3), timedelta(seconds=3)), (LASTS, GAP)]
)
async def test_a_pass_comes_again_while_a_job_runs_and_hears_of_it(watch, pods, asked, expected):
    cluster, seen = FakeCluster(), []
    cluster.create_now(make_model_deployment())
    for body in (make_job(), make_pod()):
        cluster.create_now(body)

    def plan(observed, _policy, _now):
        seen.append(observed.progress)
        return Plan(requeue_after=asked)

    reconcile = Reconciler(cluster=cluster, clock=pods, policy=POLICY, plan=plan, jobs=watch)
    outcome = await reconcile(KEY)
    assert outcome == Outcome(result=Result.REQUEUE_AFTER, after=expected.total_seconds())
    assert [heard.note for heard in seen] == [pods.answer]
    cluster.remove_now("ModelDeployment", OWNER.name)
    assert (await reconcile(KEY)).result is Result.SUCCESS
    assert watch.gap(KEY) is None
