"""The real HPA controller scales a ModelDeployment, and the real operator obeys.

There are no nodes: a played kubelet makes pods ready, and their CPU is written where metrics-server would serve it.
"""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from pilotfish import names
from pilotfish.core.objects import condition_is_true, condition_of, ref_of
from support.kube import make_object
from support.kubelet import playing_kubelet
from support.operator_process import running_operator
from support.polling import until

# The HPA controller looks every 15 seconds.
pytestmark = [pytest.mark.apiserver, pytest.mark.soak, pytest.mark.timeout(600)]

LOOK = 1.0
SECONDS = 120
HPA = "HorizontalPodAutoscaler"
POD_METRICS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, it stands in for metrics-server"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "pods", "singular": "podmetrics", "kind": "PodMetrics", "listKind": "PodMetricsList"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@pytest.fixture
def pod_metrics(kubectl):
    kubectl.apply(POD_METRICS)
    kubectl.run("wait", "--for=condition=Established", "crd/pods.metrics.k8s.io", "--timeout=60s")
    yield
    kubectl.run("delete", "crd", "pods.metrics.k8s.io")


class Load:
    """CPUs that all requests together need, spread evenly over the pods that serve."""

    def __init__(self, kubectl, namespace):
        self.kubectl, self.namespace, self.cpus = kubectl, namespace, 0.0

    async def run(self):
        while True:
            await asyncio.to_thread(self.write)
            await asyncio.sleep(LOOK)

    def write(self):
        selector = ",".join(f"{k}={v}" for k, v in names.pod_selector("digits").items())
        pods = [
            p
            for p in self.kubectl.list("pods", namespace=self.namespace, selector=selector)
            if condition_is_true(p, "Ready")
        ]
        usage = {"cpu": f"{int(1000 * self.cpus / max(1, len(pods)))}m", "memory": "1Mi"}
        for pod in pods:
            metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels")}
            containers = [{"name": c["name"], "usage": usage} for c in pod["spec"]["containers"]]
            now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.kubectl.apply(
                {
                    "apiVersion": "metrics.k8s.io/v1beta1",
                    "kind": "PodMetrics",
                    "metadata": metadata,
                    "timestamp": now,
                    "window": "1s",
                    "containers": containers,
                }
            )


@asynccontextmanager
async def loaded(kubectl, namespace):
    load = Load(kubectl, namespace)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def scaled(namespace, *metrics, least=1, most=4):
    autoscaling = {"minReplicas": least, "maxReplicas": most, "metrics": list(metrics)}
    spec = {"model": {"uri": "s3://models/digits/v1/"}, "serving": {"autoscaling": autoscaling}}
    return make_object("digits", namespace, spec)


async def serves(cluster, namespace, pods):
    """Ready with that many pods, by the autoscaler's own number."""

    async def probe():
        body = await cluster.get(ref_of(make_object("digits", namespace)))
        ready = condition_of(body, "Ready")
        fresh = ready and ready["status"] == "True" and ready["observedGeneration"] == body["metadata"]["generation"]
        there = body["spec"]["serving"]["replicas"] == body.get("status", {}).get("readyReplicas") == pods
        return body if fresh and there else None

    return await until(f"{pods} pods", probe, seconds=SECONDS)


async def hpa_of(cluster, namespace):
    """With its managedFields, which lists leave out."""
    found = await cluster.list(api_version="autoscaling/v2", kind=HPA, namespace=namespace, labels={})
    return await cluster.get(ref_of(found[0])) if found else None


async def test_the_autoscaler_stands_as_it_was_written_and_bounds_by_itself(kubectl, account, cluster, namespace):
    """Bounds need no metrics. Whatever order the API server keeps metrics in, nothing is ever applied twice."""
    metrics = ({"type": "QueueTime", "target": "0.5"}, {"type": "CPU", "target": "70"})
    async with playing_kubelet(cluster, namespace):
        with running_operator(account) as operator:
            await cluster.apply(scaled(namespace, *metrics, least=2))
            await serves(cluster, namespace, 2)
            before = await hpa_of(cluster, namespace)
            await cluster.apply(scaled(namespace, *metrics, least=3))
            body = await serves(cluster, namespace, 3)
            after = await hpa_of(cluster, namespace)
            assert after["spec"]["metrics"] == before["spec"]["metrics"]
            assert after["spec"]["minReplicas"] == 3
            assert body["status"]["selector"].endswith(",pilotfish.dev/revision")
            kubectl.run("scale", "modeldeployment", "digits", "-n", namespace, "--replicas=0")
            await serves(cluster, namespace, 0)
            applied = [e["time"] for e in after["metadata"]["managedFields"] if e["manager"] == "pilotfish"]
            now = await hpa_of(cluster, namespace)
            assert [e["time"] for e in now["metadata"]["managedFields"] if e["manager"] == "pilotfish"] == applied
            assert operator.stop() == 0
    assert (
        len(await cluster.list(api_version="apps/v1", kind="ControllerRevision", namespace=namespace, labels={})) == 1
    )


@pytest.mark.usefixtures("pod_metrics")
async def test_load_comes_and_goes(kubectl, account, cluster, namespace):
    manifest = scaled(namespace, {"type": "CPU", "target": "50"})
    async with playing_kubelet(cluster, namespace), loaded(kubectl, namespace) as load:
        with running_operator(account) as operator:
            load.cpus = 0.5
            await cluster.apply(manifest)
            await serves(cluster, namespace, 1)
            load.cpus = 1.4
            body = await serves(cluster, namespace, 3)
            writers = {e["manager"] for e in body["metadata"]["managedFields"] if "f:spec" in e["fieldsV1"]}
            assert "pilotfish-operator" not in writers, "the operator wrote a spec"
            await cluster.apply(manifest)  # a sync from Git, where nobody says how many
            assert (await serves(cluster, namespace, 3))["spec"]["serving"]["replicas"] == 3
            # Kubernetes waits for five minutes before it takes a pod away.
            calm = '{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}}}'
            kubectl.run("patch", "hpa", "digits", "-n", namespace, "--type=merge", "-p", calm)
            load.cpus = 0.4
            await serves(cluster, namespace, 1)
            assert "behavior" in (await hpa_of(cluster, namespace))["spec"], (
                "what the operator does not name is the user's"
            )
            assert operator.stop() == 0
    assert (
        len(await cluster.list(api_version="apps/v1", kind="ControllerRevision", namespace=namespace, labels={})) == 1
    )
