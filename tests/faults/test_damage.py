"""What is lost under a model: its store while it serves, the node under its Job. It comes back, or a condition says how."""

import asyncio
import json
import time
from datetime import timedelta

import pytest

from pilotfish.adapters.clock import ServerClock
from pilotfish.controller.keys import Key
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import plan
from pilotfish.core.objects import condition_is_true, name_of, ref_of
from pilotfish.names import COMPONENT_LABEL
from support.builders import POLICY
from support.kube import fresh_namespace, kube_cluster, make_object
from support.kubelet import Kubelet
from support.neighbours import DAMAGED, Neighbours
from support.specs import make_wanted, uri
from support.world import World


def optimizations(world):
    """How often a Job was made for an artifact."""
    return sum(e.verb == "apply" and e.kind == "Job" and e.name.endswith("-optimize") for e in world.cluster.effects)


def lose_pods(world):
    for pod in world.cluster.find("Pod", {"pilotfish.dev/component": "triton"}):
        world.cluster.remove_now("Pod", name_of(pod))


@pytest.mark.parametrize("restarted", [False, True])
def test_an_artifact_that_is_lost_while_it_serves_is_made_again_when_its_record_is_deleted(restarted, monkeypatch):
    # The played kubelet looks at the record, which is not there for a while.
    monkeypatch.setattr(Neighbours, "_uri_of", lambda _self, _pod: uri("v1"))
    world = World()
    world.submit(make_wanted("v1"))
    world.settle()
    assert (world.said("Ready"), optimizations(world)) == (("True", "Serving"), 1)
    world.happens("the store is lost", lambda: world.around.models.update({uri("v1"): DAMAGED}))
    lose_pods(world)
    world.go_on(timedelta(minutes=5))
    assert world.said("Ready") == ("False", "ArtifactDigestMismatch")
    (record,) = world.cluster.find("ControllerRevision")
    advice = f'delete ControllerRevision "{name_of(record)}" to make it again'
    assert advice in world.condition("Ready")["message"]
    assert world.next_plan().is_empty, "it waits for the user and writes nothing"
    world.cluster.remove_now("ControllerRevision", name_of(record))
    world.around.models.clear()  # what is made now is sound
    if restarted:
        world.restart()
    world.go_on(timedelta(minutes=30))
    assert optimizations(world) == 2, "the result of the first Job is not taken for an artifact"
    assert world.said("Ready") == ("True", "Serving")
    assert world.next_plan().is_empty


NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "short-lived"}}


@pytest.mark.apiserver
@pytest.mark.soak
async def test_a_node_that_goes_under_the_job_costs_one_attempt(prepared):
    """Real Job and pod garbage collectors: the pod of a node that is no more goes after 40 s, another takes its place."""
    kubectl = prepared.kubectl
    with fresh_namespace(kubectl) as namespace:
        async with kube_cluster(kubectl.kubeconfig) as cluster:
            reconcile = Reconciler(cluster=cluster, clock=ServerClock(), policy=POLICY, plan=plan)
            owner, kubelet = make_object("digits", namespace), Kubelet(cluster, namespace)
            await cluster.apply(owner)

            async def until(what, probe, *, seconds=240.0):
                deadline = time.monotonic() + seconds
                while True:
                    await reconcile(Key(namespace, "digits"))
                    if found := await probe():
                        return found
                    assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
                    await asyncio.sleep(0.3)

            async def optimizers():
                labels = {COMPONENT_LABEL: "optimize"}
                return await cluster.list(api_version="v1", kind="Pod", namespace=namespace, labels=labels)

            async def another():
                return [name for name in map(name_of, await optimizers()) if name != name_of(first)]

            async def ready():
                await kubelet.play()
                return condition_is_true(await cluster.get(ref_of(owner)), "Ready")

            (first,) = await until("the Job's pod", optimizers)
            kubectl.apply(NODE)
            target = {"apiVersion": "v1", "kind": "Node", "name": "short-lived"}
            metadata = {"name": name_of(first), "namespace": namespace}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
            path = f"/api/v1/namespaces/{namespace}/pods/{name_of(first)}/binding"
            kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
            bound = await cluster.get(ref_of(first))
            await cluster.write_status({**bound, "status": {**bound["status"], "phase": "Running"}})
            kubectl.run("delete", "node", "short-lived")
            await until("another pod", another)
            await until("Ready", ready)
            jobs = await cluster.list(api_version="batch/v1", kind="Job", namespace=namespace, labels={})
            assert sum(name_of(job).endswith("-optimize") for job in jobs) == 1
