"""What a pass gets to know: when parties are asked, what is remembered of them, and that their trouble is only told."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.measure import Measurements
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import Plan
from pilotfish.core.health.samples import Health, QueryAnswer, Sample, ShadowCounters
from pilotfish.core.observed import Observed
from pilotfish.core.room import Room
from pilotfish.ports import ClusterError, Unmeasured
from pilotfish.telemetry import metrics as telemetry
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import FakeCluster

KEY = Key(OWNER.namespace, OWNER.name)
CHECKS = {
    "prometheus": [
        {"name": "a", "query": "max(a)", "max": "1"},
        {"name": "b", "query": 'max(b{r="${revision}"})', "maxRegression": "0.1"},
    ]
}
SPEC = {"model": {"uri": "s3://models/digits/v2/"}, "rollout": {"strategy": "Canary"}}
ON_GPU = {**SPEC, "serving": {"gpus": {"count": 1}}}


@dataclass
class Outside:
    """Everybody that is asked, played; the time is the test's."""

    moment: int = 0
    asked: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    shadows: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)
    room: object = None

    def now(self):
        return NOW + timedelta(seconds=self.moment)

    async def sample(self, *, address, model):
        self.asked.append(("pod", address, model))
        count = self.counts[address]
        if isinstance(count, str):
            raise Unmeasured(count)
        return Sample(at=self.now(), success=count)

    async def shadow(self, *, address):
        self.asked.append(("shadow", address))
        count = self.shadows[address]
        if isinstance(count, str):
            raise Unmeasured(count)
        return ShadowCounters(at=self.now(), compared=count)

    async def ask(self, query):
        self.asked.append(("prometheus", query))
        return self.answers.get(query, QueryAnswer())

    async def read_room(self, *, namespace, resource, tolerations=()):
        self.asked.append(("room", namespace, resource, tuple(tolerations)))
        if isinstance(self.room, ClusterError):
            raise self.room
        return self.room


@pytest.fixture
def outside():
    return Outside(counts={"10.0.0.1": 10, "10.0.0.2": 20})


@pytest.fixture
def measurements(outside):
    return Measurements(clock=outside, metrics=outside, queries=outside, room=outside.read_room)


def make_pod(uid, revision, address, component="triton", **status):
    is_shadow = component == "shadow"
    labels = names.shadow_labels if is_shadow else lambda name, of: names.labels(name, names.Component.TRITON, of)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": uid, "uid": uid, "labels": labels(OWNER.name, revision)},
        "spec": {},
        "status": {"podIP": address, "containerStatuses": [{"name": "c", "started": True}], **status},
    }


OLD, NEW = make_pod("old-1", "old", "10.0.0.1"), make_pod("new-1", "new", "10.0.0.2")


def observe(*pods, stage="Stepping", spec=SPEC, uid="u1"):
    body = make_model_deployment(spec)
    body["metadata"]["uid"] = uid
    body["status"] = {
        "stableRevision": {"name": "digits-old", "hash": "old"},
        "rollout": {"revision": "new", **({"stage": stage} if stage else {})},
    }
    return Observed(body=body, pods=pods or (OLD, NEW))


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def shown(health):
    return {pod.uid: [(int((s.at - NOW).total_seconds()), s.success) for s in pod.samples] for pod in health.pods}


async def test_every_pod_of_both_revisions_is_asked_by_its_address(outside, measurements):
    before = observe()
    after = await measurements.look(KEY, before)
    assert outside.asked == [("pod", "10.0.0.1", "digits"), ("pod", "10.0.0.2", "digits")]
    assert shown(after.health) == {"old-1": [(0, 10)], "new-1": [(0, 20)]}
    assert {pod.uid: pod.revision for pod in after.health.pods} == {"old-1": "old", "new-1": "new"}
    assert after.health.since == NOW
    assert (after.body, after.pods) == (before.body, before.pods)


async def test_samples_are_a_third_of_the_interval_apart(outside, measurements):
    for outside.moment in range(16):
        await measurements.look(KEY, observe())
    health = (await measurements.look(KEY, observe())).health
    assert [seconds for seconds, _ in shown(health)["new-1"]] == [0, 5, 10, 15]
    assert health.since == NOW


async def test_and_two_seconds_at_least(outside, measurements):
    spec = {**SPEC, "rollout": {"analysis": {"interval": "5s"}}}
    for outside.moment in range(5):
        found = await measurements.look(KEY, observe(spec=spec))
    assert [seconds for seconds, _ in shown(found.health)["new-1"]] == [0, 2, 4]


async def test_a_window_and_two_intervals_are_kept_and_one_sample_before(outside, measurements):
    for outside.moment in range(0, 301, 5):
        found = await measurements.look(KEY, observe())
    moments = [seconds for seconds, _ in shown(found.health)["new-1"]]
    assert moments == [205, *range(210, 301, 5)]


async def test_without_a_rollout_nobody_is_asked_and_nothing_remembered(outside, measurements):
    await measurements.look(KEY, observe())
    outside.asked.clear()
    for stage in (None, "Starting", "Verifying"):
        before = observe(stage=stage)
        assert await measurements.look(KEY, before) is before
    assert outside.asked == []
    assert measurements._memories == {}


async def test_pods_that_are_gone_are_forgotten_and_those_that_start_again_are_not(outside, measurements):
    await measurements.look(KEY, observe())
    outside.moment = 5
    restarting = make_pod("new-1", "new", "10.0.0.2", containerStatuses=[{"name": "c", "started": False}])
    found = await measurements.look(KEY, observe(restarting))
    assert shown(found.health) == {"new-1": [(0, 20)]}


async def test_an_object_that_is_gone_or_another_one_starts_anew(outside, measurements):
    await measurements.look(KEY, observe())
    outside.moment = 1
    other = await measurements.look(KEY, observe(uid="u2"))
    assert shown(other.health)["new-1"] == [(1, 20)]
    assert other.health.since == at(1)
    assert len(measurements._memories) == 1
    measurements.forget(KEY)
    assert measurements._memories == {}


async def test_a_pod_that_does_not_answer_keeps_what_it_said_and_says_why(outside, measurements):
    await measurements.look(KEY, observe())
    outside.moment, outside.counts["10.0.0.2"] = 5, "no answer within 2 s"
    old, new = sorted((await measurements.look(KEY, observe())).health.pods, key=lambda pod: pod.revision, reverse=True)
    assert (len(old.samples), old.error) == (2, None)
    assert (len(new.samples), new.error) == (1, "no answer within 2 s")
    outside.moment, outside.counts["10.0.0.2"] = 10, 25
    new = next(pod for pod in (await measurements.look(KEY, observe())).health.pods if pod.uid == "new-1")
    assert (len(new.samples), new.error) == (2, None)


async def test_a_clock_that_was_set_back_stops_nothing(outside, measurements):
    outside.moment = 3600
    await measurements.look(KEY, observe())
    outside.moment = 0
    found = await measurements.look(KEY, observe())
    assert shown(found.health)["new-1"] == [(0, 20)]


async def test_queries_are_asked_about_the_candidate_and_where_needed_about_stable(outside, measurements):
    spec = {**SPEC, "rollout": {"analysis": {"checks": CHECKS}}}
    outside.answers = {
        "max(a)": QueryAnswer(error="Prometheus: down"),
        'max(b{r="new"})': QueryAnswer(value=2.0),
        'max(b{r="old"})': QueryAnswer(value=1.0),
    }
    for outside.moment in (0, 1):
        found = await measurements.look(KEY, observe(spec=spec))
    assert found.health.queries == {"a": QueryAnswer(error="Prometheus: down"), "b": QueryAnswer(value=2.0)}
    assert found.health.baselines == {"b": QueryAnswer(value=1.0)}
    assert len([who for who, *_ in outside.asked if who == "prometheus"]) == 3, "none of them twice"
    outside.moment = 2
    found = await measurements.look(KEY, observe())
    assert (found.health.queries, found.health.baselines) == ({}, {}), "a check that is gone takes its answer along"


async def test_a_shadow_that_starts_again_counts_anew(outside, measurements):
    def look(number):
        return measurements.look(KEY, observe(OLD, NEW, make_pod(f"s{number}", "new", f"10.0.1.{number}", "shadow")))

    for outside.moment, outside.shadows in ((0, {"10.0.1.1": 5}), (5, {"10.0.1.1": 9}), (10, {"10.0.1.1": "gone"})):
        found = await look(1)
    assert [c.compared for c in found.health.shadow] == [5, 9], "a silent moment changes nothing"
    outside.moment, outside.shadows = 15, {"10.0.1.1": 2}
    assert [c.compared for c in (await look(1)).health.shadow] == [2], "fewer: another process"
    outside.moment, outside.shadows = 20, {"10.0.1.2": 7}
    assert [c.compared for c in (await look(2)).health.shadow] == [7], "another pod"
    outside.moment = 21
    assert (await measurements.look(KEY, observe())).health.shadow == ()


async def test_an_abort_waits_for_nobody(outside, measurements):
    await measurements.look(KEY, observe())
    outside.moment = 60
    outside.asked.clear()
    spec = {**SPEC, "rollout": {**SPEC["rollout"], "action": {"id": "1", "verb": "abort"}}}
    found = await measurements.look(KEY, observe(spec=spec))
    assert outside.asked == []
    assert shown(found.health)["new-1"] == [(0, 20)], "what is known stays known"


async def test_all_are_asked_at_once(outside, measurements):
    """The slowest decides how long a pass waits, not their sum."""
    running, most = 0, 0

    async def sample(*, address, model):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Sample(at=outside.now())

    outside.sample = sample
    await measurements.look(KEY, observe(*(make_pod(f"p{n}", "new", f"10.0.0.{n}") for n in range(9))))
    assert most == 9


ROOM = Room(resource="nvidia.com/gpu")


async def test_room_is_read_every_ten_seconds_while_it_is_wanted(outside, measurements):
    outside.room = ROOM
    for outside.moment in range(21):
        found = await measurements.look(KEY, observe(spec=ON_GPU, stage="Starting"))
        assert found.room is ROOM
        assert found.health == Health()
    assert outside.asked == [("room", "team", "nvidia.com/gpu", ())] * 3
    assert (await measurements.look(KEY, observe(spec=ON_GPU, stage="Baking"))).room is None


async def test_room_that_cannot_be_read_is_the_last_known_for_a_minute(outside, measurements):
    def look():
        return measurements.look(KEY, observe(spec=ON_GPU, stage="Starting"))

    outside.room = ROOM
    await look()
    outside.room = ClusterError("cannot reach the API server")
    for outside.moment in (10, 60):
        assert (await look()).room is ROOM
    outside.moment = 70
    assert (await look()).room is None
    outside.moment, outside.room = 80, None
    assert (await look()).room is None, "the operator may not look"


async def test_without_a_reader_there_is_no_room(outside):
    measurements = Measurements(clock=outside, metrics=outside, queries=outside)
    assert (await measurements.look(KEY, observe(spec=ON_GPU, stage="Starting"))).room is None


async def test_what_is_asked_is_counted(outside, measurements):
    def count(target, result):
        return telemetry.REGISTRY.get_sample_value("pilotfish_scrapes_total", {"target": target, "result": result})

    before = {pair: count(*pair) for pair in (("pod", "success"), ("pod", "error"), ("prometheus", "error"))}
    outside.counts["10.0.0.2"] = "gone"
    outside.answers = {"max(a)": QueryAnswer(error="down"), 'max(b{r="new"})': QueryAnswer(value=1.0)}
    spec = {**SPEC, "rollout": {"analysis": {"checks": CHECKS}}}
    await measurements.look(KEY, observe(spec=spec))
    assert {pair: count(*pair) - n for pair, n in before.items()} == dict.fromkeys(before, 1)
    seconds = telemetry.REGISTRY.get_sample_value("pilotfish_scrape_duration_seconds_count", {"target": "pod"})
    assert seconds >= 2


async def test_a_pass_plans_with_what_was_measured_and_forgets_what_is_gone(outside, measurements):
    cluster = FakeCluster(now=outside.now)
    cluster.create_now(observe(spec=ON_GPU).body)
    outside.room = ROOM
    seen = []

    def plan(observed, _policy, _now):
        seen.append(observed)
        return Plan()

    reconcile = Reconciler(cluster=cluster, clock=outside, policy=POLICY, plan=plan, measurements=measurements)
    assert await reconcile(KEY) == Outcome(result=Result.SUCCESS)
    assert seen[0].room is ROOM
    assert measurements._memories != {}
    cluster.remove_now("ModelDeployment", OWNER.name)
    await reconcile(KEY)
    assert measurements._memories == {}
