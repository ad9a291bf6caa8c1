"""Flux's kustomize-controller, the operator's process and a real API server: a rollout by commits. Nodes are played.

One story, because each part begins where the last one ended.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest

from support.builders import make_verification
from support.flux import running_flux
from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl, make_object
from support.kubelet import playing_kubelet
from support.operator_process import install_rights, running_operator
from support.polling import until

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.soak]

FILE = "digits.yaml"


def make_git(namespace, version, **rollout):
    steps = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}], "analysis": {"minRequests": 0}}
    spec = {
        "model": {"uri": f"s3://models/digits/{version}/"},
        "serving": {"replicas": 1, "gpus": {"count": 0}},
        "rollout": {**steps, **rollout},
    }
    return make_object("digits", namespace, spec)


class Story:
    """Git, Flux and what became of the object. Calls of kubectl leave the loop to the kubelet that is played in it."""

    def __init__(self, flux, namespace):
        self.flux, self.namespace = flux, namespace

    async def commit(self, version, **rollout):
        return await asyncio.to_thread(self.flux.commit, {FILE: make_git(self.namespace, version, **rollout)})

    async def wait(self, status, revision):
        return await asyncio.to_thread(self.flux.wait, status, revision=revision, seconds=90)

    async def live(self):
        return await asyncio.to_thread(self.flux.kubectl.get, "modeldeployment", "digits", namespace=self.namespace)

    async def until_status(self, what, there):
        async def probe():
            body = await self.live()
            status = (body or {}).get("status", {})
            return (
                body
                if body and status.get("observedGeneration") == body["metadata"]["generation"] and there(status)
                else None
            )

        return await until(what, probe, seconds=90)

    async def stays(self, reason):
        before = await self.live()
        await asyncio.to_thread(self.flux.check_quiet, "digits", file=FILE, reason=reason)
        return before, await self.live()


@asynccontextmanager
async def telling(api_server, tmp_path, verify):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    account = install_rights(kubectl, tmp_path)
    with fresh_namespace(kubectl) as namespace:
        async with kube_cluster(api_server) as cluster, playing_kubelet(cluster, namespace, verify=verify):
            with running_operator(account, watch_namespaces=namespace), running_flux(kubectl, namespace) as flux:
                yield Story(flux, namespace)


async def test_a_rollout_by_commits(api_server, tmp_path):
    bad = []
    async with telling(api_server, tmp_path, lambda _order: make_verification(passed=not bad)) as story:
        # The first one: Flux waits until it serves.
        await story.wait("True", await story.commit("v1"))
        first = await story.live()
        assert first["status"]["phase"] == "Ready"
        await story.stays("ReconciliationSucceeded")

        # An update canaries; Flux waits with it, and a commit promotes it.
        revision = await story.commit("v2")
        canary = await story.until_status("a canary", lambda status: status["phase"] == "Canarying")
        assert canary["status"]["stableRevision"] == first["status"]["stableRevision"]
        assert (await asyncio.to_thread(story.flux.wait, "Unknown", revision=revision, seconds=30))[
            "reason"
        ] == "Progressing"
        await story.wait("True", await story.commit("v2", action={"id": "go", "verb": "promoteFull"}))
        second = await story.live()
        assert second["status"]["stableRevision"]["hash"] == canary["status"]["candidateRevision"]["hash"]

        # A bad one is given up, Flux says so, and no further sync starts it again.
        bad.append(True)
        told = await story.wait("False", await story.commit("v3"))
        assert told["reason"] == "HealthCheckFailed"
        given_up, after = await story.stays("HealthCheckFailed")
        assert given_up["status"]["phase"] == after["status"]["phase"] == "Aborted"
        assert after["status"]["stableRevision"] == second["status"]["stableRevision"]
        assert after["status"]["candidateRevision"] == given_up["status"]["candidateRevision"]

        # Git goes back: nothing has to be made again.
        await story.wait("True", await story.commit("v2"))
        await story.stays("ReconciliationSucceeded")

        # Git without it: Flux prunes, and nothing holds it.
        await asyncio.to_thread(story.flux.commit, {FILE: None, "empty.yaml": make_empty(story.namespace)})

        async def is_gone():
            return await story.live() is None

        await until("the pruned object is gone", is_gone, seconds=60)


def make_empty(namespace):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "empty", "namespace": namespace}}
