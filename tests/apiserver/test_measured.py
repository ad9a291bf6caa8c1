"""Against a real API server: pods are asked for their counters during a rollout and never otherwise."""

import asyncio
from contextlib import suppress

import pytest

from pilotfish.adapters.clock import ServerClock
from pilotfish.adapters.observe import read
from pilotfish.controller.keys import Key
from pilotfish.controller.measure import Measurements
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import plan
from pilotfish.core.health.samples import QueryAnswer, Sample
from pilotfish.core.objects import condition_is_true, ref_of
from pilotfish.ports import Conflict
from support.builders import POLICY
from support.kube import fresh_namespace, kube_cluster, make_object
from support.kubelet import playing_kubelet

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

SECONDS = 90
SPEC = {
    "model": {"uri": "s3://models/digits/v1/"},
    "serving": {"gpus": {"count": 1}},
    "rollout": {"analysis": {"checks": {"prometheus": [{"name": "x", "query": "max(x)", "max": "1"}]}}},
}


class Outside(ServerClock):
    """Answers everything, and writes down who was asked while the object was in which stage."""

    def __init__(self):
        super().__init__()
        self.asked = []

    async def sample(self, *, address, model):
        self.asked.append(("pod", model))
        return Sample(at=self.now())

    async def ask(self, query):
        self.asked.append(("prometheus", query))
        return QueryAnswer(value=0.0)

    async def read_room(self, *, namespace, resource, tolerations=()):
        self.asked.append(("room", resource))


async def test_an_object_without_a_rollout_in_progress_is_never_scraped(api_server, kubectl):
    outside = Outside()
    with fresh_namespace(kubectl) as namespace:
        async with kube_cluster(api_server) as cluster, playing_kubelet(cluster, namespace, answer=True):
            measurements = Measurements(clock=outside, metrics=outside, queries=outside, room=outside.read_room)
            reconcile = Reconciler(cluster=cluster, clock=outside, policy=POLICY, plan=plan, measurements=measurements)
            key, ref = Key(namespace, "digits"), ref_of(make_object("digits", namespace))

            async def is_served():
                await reconcile(key)
                return condition_is_true(await cluster.get(ref), "Ready")

            await cluster.apply(make_object("digits", namespace, SPEC))
            await until_true(is_served)
            outside.asked.clear()
            for _ in range(10):
                await reconcile(key)
            assert outside.asked == []
            assert measurements._memories == {}

            pods = await cluster.list(api_version="v1", kind="Pod", namespace=namespace, labels={})
            assert any(pod["status"].get("podIP") for pod in pods), "there was somebody to ask"
            await put_into_stage(cluster, ref, "Promoting")
            observed = await read_observed(cluster, namespace)
            await measurements.look(key, observed)
            assert ("pod", "digits") in outside.asked
            assert ("prometheus", "max(x)") in outside.asked


async def until_true(probe):
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not await probe():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.2)


async def put_into_stage(cluster, ref, stage):
    """As a pass in the middle of a rollout would leave it."""
    for _ in range(5):
        body = await cluster.get(ref)
        revision = body["status"]["stableRevision"]["hash"]
        rollout = {**body["status"].get("rollout", {}), "stage": stage, "revision": revision}
        with suppress(Conflict):
            await cluster.write_status({**body, "status": {**body["status"], "rollout": rollout}})
            return
    raise AssertionError("the status cannot be written")


async def read_observed(cluster, namespace):
    reading = await read(cluster, namespace=namespace, name="digits")
    return reading.observed()
