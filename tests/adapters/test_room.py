"""What is free: the arithmetic on made-up nodes, and the lists of a real API server."""

import contextlib
import json

import pytest

from pilotfish.adapters.room import make_room, read_room, requests_of
from pilotfish.core.room import NodeRoom
from pilotfish.ports import ClusterError, Forbidden
from support.fake_cluster import FakeCluster

GPU = "nvidia.com/gpu"


def make_node(name="n", *, taints=(), ready="True", unschedulable=False, **allocatable):
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "10", GPU: "2"} | allocatable
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": list(taints), **({"unschedulable": True} if unschedulable else {})},
        "status": {"allocatable": amounts, "conditions": [{"type": "Ready", "status": ready}]},
    }


def requests(**amounts):
    return {"resources": {"requests": {GPU if key == "gpu" else key: value for key, value in amounts.items()}}}


def make_pod(*containers, node="n", phase="Running", name="p", **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "other"},
        "spec": {"nodeName": node, "containers": list(containers), **spec},
        "status": {"phase": phase},
    }


def make_quota(name, hard, used=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"hard": hard, **spec},
        **({} if used is None else {"status": {"hard": hard, "used": used}}),
    }


def room(*, nodes=(), pods=(), quotas=(), **more):
    return make_room(nodes, pods, quotas, resource=GPU, **more)


class TestNodes:
    def test_allocatable_minus_what_runs(self):
        pods = [
            make_pod(requests(cpu="500m", memory="1Gi", gpu="1"), requests(cpu="250m")),
            make_pod({}, name="asks-for-nothing"),
            make_pod(requests(cpu="1", gpu="2"), node="elsewhere"),
        ]
        (left,) = room(nodes=[make_node()], pods=pods).nodes
        assert left == NodeRoom(name="n", gpus=1, cpu=3.25, memory=7 * 2**30)

    @pytest.mark.parametrize(
        ("phase", "free"), [("Running", 1), ("Pending", 1), ("Unknown", 1), ("Succeeded", 2), ("Failed", 2)]
    )
    def test_pods_that_ended_hold_nothing(self, phase, free):
        (left,) = room(nodes=[make_node()], pods=[make_pod(requests(gpu="1"), phase=phase)]).nodes
        assert left.gpus == free

    def test_a_leaving_pod_holds_its_place_and_a_waiting_one_has_none(self):
        leaving = make_pod(requests(gpu="1"))
        leaving["metadata"]["deletionTimestamp"] = "2026-11-22T12:00:00Z"
        waiting = make_pod(requests(gpu="1"), phase="Pending")
        del waiting["spec"]["nodeName"]
        (left,) = room(nodes=[make_node()], pods=[leaving, waiting]).nodes
        assert left.gpus == 1

    def test_more_than_there_is_is_told_as_it_is(self):
        (left,) = room(nodes=[make_node(**{GPU: "0"})], pods=[make_pod(requests(gpu="1"))]).nodes
        assert left.gpus == -1

    def test_a_node_without_the_resource(self):
        node = make_node()
        del node["status"]["allocatable"][GPU]
        assert [left.gpus for left in room(nodes=[node]).nodes] == [0]

    @pytest.mark.parametrize(("most", "nodes"), [("2", 1), ("1", 0), ("0", 0)])
    def test_a_node_full_of_pods_takes_no_more(self, most, nodes):
        assert len(room(nodes=[make_node(pods=most)], pods=[make_pod({})]).nodes) == nodes

    @pytest.mark.parametrize("ready", ["False", "Unknown"])
    def test_a_node_that_is_not_ready(self, ready):
        assert room(nodes=[make_node(ready=ready)]).nodes == ()

    def test_a_new_node_without_any_status(self):
        assert room(nodes=[{"metadata": {"name": "n"}}]).nodes == ()

    def test_a_cordoned_node(self):
        assert room(nodes=[make_node(unschedulable=True)]).nodes == ()

    @pytest.mark.parametrize(("effect", "nodes"), [("NoSchedule", 0), ("NoExecute", 0), ("PreferNoSchedule", 1)])
    def test_a_tainted_node(self, effect, nodes):
        assert len(room(nodes=[make_node(taints=[{"key": "k", "effect": effect}])]).nodes) == nodes

    @pytest.mark.parametrize(
        ("toleration", "nodes"),
        [
            ({"key": GPU, "operator": "Exists", "effect": "NoSchedule"}, 1),
            ({"key": GPU, "operator": "Exists"}, 1),
            ({"operator": "Exists"}, 1),
            ({"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"}, 1),
            ({"key": GPU, "value": "present"}, 1),
            ({"key": GPU, "value": "absent"}, 0),
            ({"key": GPU}, 0),
            ({"key": GPU, "operator": "Gt", "value": "present"}, 0),
            ({"key": GPU, "operator": "Exists", "effect": "NoExecute"}, 0),
            ({"key": "other", "operator": "Exists"}, 0),
        ],
    )
    def test_a_taint_that_our_pods_tolerate_keeps_nobody_away(self, toleration, nodes):
        node = make_node(taints=[{"key": GPU, "value": "present", "effect": "NoSchedule"}])
        assert len(room(nodes=[node], tolerations=[toleration]).nodes) == nodes

    def test_every_taint_must_be_tolerated(self):
        taints = [{"key": GPU, "effect": "NoSchedule"}, {"key": "maintenance", "effect": "NoExecute"}]
        node = make_node(taints=taints)
        assert room(nodes=[node], tolerations=[{"key": GPU, "operator": "Exists"}]).nodes == ()


class TestRequests:
    """Against the rules of the scheduler."""

    def amounts(self, pod):
        return {name: float(amount) for name, amount in requests_of(pod).items()}

    def test_an_init_container_counts_where_it_needs_more(self):
        pod = make_pod(
            requests(cpu="1", memory="1Gi"), initContainers=[requests(cpu="3"), requests(cpu="2", memory="1Mi")]
        )
        assert self.amounts(pod) == {"cpu": 3, "memory": 2**30}

    def test_an_init_container_that_stays_counts_beside_what_follows(self):
        sidecar = {**requests(cpu="1"), "restartPolicy": "Always"}
        assert self.amounts(make_pod(requests(cpu="2"), initContainers=[sidecar])) == {"cpu": 3}
        assert self.amounts(make_pod(requests(cpu="2"), initContainers=[sidecar, requests(cpu="5")])) == {"cpu": 6}
        assert self.amounts(make_pod(requests(cpu="2"), initContainers=[requests(cpu="5"), sidecar])) == {"cpu": 5}

    def test_overhead_comes_on_top(self):
        assert self.amounts(make_pod(requests(cpu="2"), overhead={"cpu": "250m", "memory": "1Mi"})) == {
            "cpu": 2.25,
            "memory": 2**20,
        }

    def test_what_the_pod_as_a_whole_asks_for_replaces_its_containers(self):
        pod = make_pod(requests(cpu="2", gpu="1"), **requests(cpu="3"))
        assert self.amounts(pod) == {"cpu": 3, GPU: 1}


class TestQuotas:
    def test_hard_minus_used_and_the_least_of_several(self):
        quotas = [
            make_quota(
                "a", {f"requests.{GPU}": "4", "requests.cpu": "1"}, {f"requests.{GPU}": "1", "requests.cpu": "1500m"}
            ),
            make_quota("b", {f"requests.{GPU}": "2", "limits.memory": "1Gi"}, {}),
        ]
        assert room(quotas=quotas).quota == {f"requests.{GPU}": 2, "requests.cpu": -0.5, "limits.memory": 2**30}

    def test_a_quota_that_nobody_has_counted_yet(self):
        assert room(quotas=[make_quota("a", {"pods": "3"})]).quota == {"pods": 3}

    @pytest.mark.parametrize(
        ("spec", "counts"),
        [
            ({"scopes": ["NotBestEffort"]}, True),
            ({"scopes": ["NotBestEffort", "NotTerminating"]}, True),
            ({"scopes": ["BestEffort"]}, False),
            ({"scopes": ["Terminating"]}, False),
            ({"scopes": ["NotTerminating", "BestEffort"]}, False),
            ({"scopeSelector": {"matchExpressions": [{"scopeName": "NotTerminating", "operator": "Exists"}]}}, True),
            ({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "Exists"}]}}, False),
            (
                {
                    "scopeSelector": {
                        "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
                    }
                },
                False,
            ),
        ],
    )
    def test_only_quotas_that_count_our_pods(self, spec, counts):
        assert (room(quotas=[make_quota("a", {"pods": "3"}, {}, **spec)]).quota == {"pods": 3}) is counts


class Refusing(FakeCluster):
    """An API server that refuses one kind."""

    refused: str
    error: Exception

    async def list(self, *, api_version, kind, namespace, labels):
        if kind == self.refused:
            raise self.error
        return await super().list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)


@pytest.mark.parametrize("kind", ["Node", "Pod", "ResourceQuota"])
async def test_who_may_not_look_sees_nothing(kind):
    cluster = Refusing()
    cluster.refused, cluster.error = kind, Forbidden("nodes is forbidden")
    assert await read_room(cluster, namespace="team", resource=GPU) is None


async def test_any_other_trouble_is_not_hidden():
    cluster = Refusing()
    cluster.refused, cluster.error = "Node", ClusterError("HTTP 500")
    with pytest.raises(ClusterError, match="500"):
        await read_room(cluster, namespace="team", resource=GPU)


@pytest.mark.parametrize("flavour", [pytest.param("real", marks=pytest.mark.apiserver)], indirect=True)
class TestRealServer:
    """Nodes are objects like others to an API server without nodes."""

    @pytest.fixture
    def node(self, namespace, kubectl):
        """A node of the test's own, as its kubelet would tell of it."""
        name = f"node-{namespace}"
        kubectl.run("create", "-f", "-", stdin=json.dumps({**make_node(name), "status": {}}))
        status = {"status": make_node(name, **{GPU: "3", "memory": "16393652Ki", "cpu": "7910m"})["status"]}
        try:
            kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
            # The node lifecycle controller hears of no kubelet and would taint it.
            yield name
        finally:
            with contextlib.suppress(Exception):
                kubectl.run("delete", "node", name, "--wait=false")

    async def test_nodes_pods_and_quotas_as_they_are_stored(self, cluster, namespace, node, kubectl):
        limits = {"requests": {"cpu": "500m", "memory": "1Gi", GPU: "2"}, "limits": {GPU: "2"}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": namespace},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none", "resources": limits}]},
        }
        quota = make_quota("q", {f"requests.{GPU}": "5", "pods": "7"})
        quota["metadata"]["namespace"] = namespace
        kubectl.run("create", "-f", "-", stdin=json.dumps(quota))
        kubectl.run("wait", "-n", namespace, "resourcequota/q", "--for=jsonpath={.status.hard.pods}=7", "--timeout=60s")
        kubectl.run("wait", "-n", namespace, "serviceaccount/default", "--for=create", "--timeout=60s")
        kubectl.run("create", "-f", "-", stdin=json.dumps(pod))
        tolerations = [{"operator": "Exists"}]
        found = await read_room(cluster, namespace=namespace, resource=GPU, tolerations=tolerations)
        (left,) = [each for each in found.nodes if each.name == node]
        assert left == NodeRoom(name=node, gpus=1, cpu=7.41, memory=16393652 * 2**10 - 2**30)
        assert found.quota == {f"requests.{GPU}": 3, "pods": 6}
        kubectl.run("cordon", node)
        cordoned = await read_room(cluster, namespace=namespace, resource=GPU, tolerations=tolerations)
        assert node not in {each.name for each in cordoned.nodes}
