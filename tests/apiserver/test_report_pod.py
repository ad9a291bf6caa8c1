"""The pod that reads a report, on a real API server: taken where Pod Security is strictest, and with which rights."""

import pytest
from testbed.kubectl import wait_for

from pilotfish.core.objects import ObjectRef, ref_of
from pilotfish.ports import Conflict, NotFound
from pilotfish.resources.meta import Owner
from pilotfish.resources.report_pod import CONTAINER, ReportIntent, make_report_pod
from support.kube import fresh_namespace, kube_cluster, make_object

pytestmark = pytest.mark.apiserver

TEMPLATE = {
    "initContainers": [{"name": "install", "image": "registry.example/optimizer:1", "imagePullPolicy": "IfNotPresent"}],
    "imagePullSecrets": [{"name": "pull"}],
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "nodeSelector": {"disk": "fast"},
}


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        kubectl.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        wait_for("the namespace has its account", lambda: _has_account(kubectl, name), seconds=60)
        yield name


def _has_account(kubectl, namespace):
    return "default" in kubectl.run("get", "serviceaccounts", "-n", namespace, "-o", "name")


async def make_pod(cluster, namespace):
    """The pod of an owner that exists: the garbage collector takes any other."""
    stored = await cluster.create(make_object("digits", namespace), manager="somebody")
    owner = Owner(name="digits", namespace=namespace, uid=stored["metadata"]["uid"])
    return make_report_pod(owner, ReportIntent(path="artifacts/k/report.json", template=TEMPLATE, suffix="a1b2c3"))


async def test_it_is_taken_under_the_strictest_pod_security_and_deleted(api_server, namespace):
    async with kube_cluster(api_server) as cluster:
        pod = await make_pod(cluster, namespace)
        stored = await cluster.create(pod, manager="pilotfish-cli")
        assert stored["spec"]["nodeSelector"] == {"disk": "fast"}
        assert stored["spec"]["imagePullSecrets"] == [{"name": "pull"}]
        with pytest.raises(Conflict):
            await cluster.create(pod, manager="pilotfish-cli")
        await cluster.delete(ref_of(stored))
        assert await cluster.get(ref_of(stored)) is None


async def test_a_log_is_bytes_and_the_log_of_no_pod_is_not_found(api_server, namespace):
    async with kube_cluster(api_server) as cluster:
        stored = await cluster.create(await make_pod(cluster, namespace), manager="pilotfish-cli")
        assert await cluster.log(ref_of(stored), container=CONTAINER, limit=100) == b""
        missing = ObjectRef(api_version="v1", kind="Pod", namespace=namespace, name="missing")
        with pytest.raises(NotFound, match="missing"):
            await cluster.log(missing, container=CONTAINER, limit=100)
