"""A whole rollout on a real API server with its real Job and Deployment controllers; only the kubelet is played.

What the API server makes of our objects (defaults, canonical quantities, added labels) must not look like a difference
to the next pass, or the operator would write for ever.
"""

import asyncio
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from kubernetes import client, config

from pilotfish import names
from pilotfish.adapters.observe import read
from pilotfish.controller.keys import Key
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import plan
from pilotfish.core.objects import condition_is_true
from support.builders import POLICY, make_result, make_verification
from support.kube import fresh_namespace, kube_cluster, make_object
from support.status_check import check_status

pytestmark = pytest.mark.apiserver

SPEC = {
    "model": {"uri": "s3://models/digits/v1/", "credentials": {"secretName": "creds"}},
    "optimization": {"resources": {"cpu": "0.5", "memory": "1024Mi"}},
    "storage": {"size": "1024Mi"},
    "serving": {"replicas": 2, "gpus": {"count": 1}, "resources": {"cpu": "0.5", "memory": "1024Mi"}},
}


class Clock:
    def now(self):
        return datetime.now(tz=UTC)


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        yield name


@pytest.fixture
def kubelet(api_server, kubectl, namespace):
    with config.new_client_from_config(str(api_server)) as api_client:
        yield Kubelet(client.CoreV1Api(api_client), namespace)


@pytest_asyncio.fixture
async def cluster(api_server, kubectl):
    async with kube_cluster(api_server) as cluster:
        yield cluster


class Kubelet:
    """Says of pods what a kubelet would."""

    def __init__(self, api, namespace):
        self.api, self.namespace = api, namespace

    def pods(self, component):
        selector = f"{names.COMPONENT_LABEL}={component}"
        return self.api.list_namespaced_pod(self.namespace, label_selector=selector).items

    def finish(self, pod, message):
        ended = {"exitCode": 0, "message": message, "reason": "Completed"}
        (container,) = pod.spec.containers
        self.say(pod, phase="Succeeded", containerStatuses=[_status(container.name, {"terminated": ended})])

    def make_ready(self, pod):
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        statuses = [_status("triton", {"running": {}}, ready=True)]
        self.say(pod, phase="Running", conditions=[ready], containerStatuses=statuses)

    def say(self, pod, **status):
        self.api.patch_namespaced_pod_status(pod.metadata.name, self.namespace, {"status": status})


def _status(name, state, *, ready=False):
    return {"name": name, "ready": ready, "restartCount": 0, "image": "i", "imageID": "i", "state": state}


async def until(reconcile, holds):
    """Passes until something holds."""
    async with asyncio.timeout(60):
        while True:
            await reconcile()
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.2)


async def test_a_rollout_comes_to_rest_without_a_write(cluster, namespace, kubelet):
    await cluster.apply(make_object("digits", namespace, SPEC))
    reconciler = Reconciler(cluster=cluster, clock=Clock(), policy=POLICY, plan=plan)

    async def reconcile():
        await reconciler(Key(namespace=namespace, name="digits"))

    async def next_plan():
        reading = await read(cluster, namespace=namespace, name="digits")
        return plan(reading.observed(), POLICY, Clock().now()), reading.body

    (job_pod,) = await until(reconcile, lambda: kubelet.pods("optimize"))
    recipe = job_pod.metadata.labels[names.RECIPE_LABEL]
    kubelet.finish(job_pod, make_result(recipe).to_json())

    async def two_pods():
        pods = kubelet.pods("triton")
        return pods if len(pods) == 2 else None

    pods = await until(reconcile, two_pods)
    made, _ = await next_plan()
    assert [a.body["kind"] for a in made.applies] == []
    assert made.deletes == ()
    for pod in pods:
        kubelet.make_ready(pod)

    (verify_pod,) = await until(reconcile, lambda: kubelet.pods("verify"))
    made, body = await next_plan()
    assert (made.applies, made.deletes) == ((), ()), "the Job that runs is left alone"
    assert not condition_is_true(body, "Ready"), "no traffic before it passes"
    kubelet.finish(verify_pod, make_verification().to_json())

    async def ready():
        _, body = await next_plan()
        return condition_is_true(body, "Ready")

    await until(reconcile, ready)
    made, body = await next_plan()
    assert made.is_empty, made
    check_status(body)
    assert body["status"]["readyReplicas"] == 2
