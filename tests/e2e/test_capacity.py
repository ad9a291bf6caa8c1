"""Room for a new revision, as the real scheduler gives it: GPUs of the node, other tenants, quotas.

One ModelDeployment goes back and forth between two models, so that most tests start from what is optimized already.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.operator import NAMESPACE, RELEASE
from testbed.store import pack_cases, upload

from pilotfish import names
from pilotfish.adapters.room import read_room
from pilotfish.core.objects import is_deleting
from support.apiserver import run_cluster
from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.kube import kube_cluster
from support.scarcity import GPU, QUOTA, quota, tenant, tenant_runs
from support.status_check import check_status
from support.watching import Watch, least_ready, watching

NAME = "room"
SCALES = {"v1": 1.0, "v2": 2.0}


@pytest.fixture(scope="module")
def gpus(kubectl: Kubectl) -> Iterator[Callable[[int], None]]:
    """Sets how many GPUs the node says it has."""
    before = sum(gpus_of_nodes(kubectl))
    selector = "pilotfish.dev/component=triton"
    wait_for(
        "pods of other tests to go", lambda: not kubectl.list("pods", namespace="", selector=selector), seconds=120
    )

    def advertise(count: int) -> None:
        run_cluster("gpus", str(count))

    yield advertise
    advertise(before)


def gpus_of_nodes(kubectl: Kubectl) -> tuple[int, ...]:
    nodes = kubectl.list("nodes", namespace="")
    return tuple(int(node["status"]["allocatable"].get(GPU, 0)) for node in nodes)


def spec(version: str, *, replicas: int, min_available: int, **rollout: Any) -> dict[str, Any]:
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/room/samples.npz", **secret}
    return {
        "model": {"uri": f"s3://models/room/{version}.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"replicas": replicas, "minAvailable": min_available, "gpus": {"count": 1}},
        "rollout": rollout,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The ModelDeployment, and what of the cluster belongs to it."""

    made: Deployments

    def begin(self, *, replicas: int) -> tuple[str, str]:
        """The model that serves with that many pods, alone and ready, and the other one."""
        uri = self.made.get(NAME)["spec"]["model"]["uri"] if NAME in self.made.names() else "v1.onnx"
        old, new = ("v2", "v1") if "v2" in uri else ("v1", "v2")
        self.made.apply(NAME, spec(old, replicas=replicas, min_available=1))
        self.made.wait_ready(NAME, seconds=180)
        self.settled(replicas)
        return old, new

    def settled(self, replicas: int) -> None:
        """No pods but those of the stable revision."""

        def probe() -> bool:
            pods, deployments = self.pods(), self.made.children(NAME, "deployments")
            return len(pods) == replicas and len(deployments) == 1 and not any(map(is_deleting, pods))

        wait_for("one revision alone", probe, seconds=60, found=lambda: self.made.story(NAME))

    def pods(self) -> tuple[Any, ...]:
        """Pods that serve or are to serve."""
        return self.made.kubectl.list("pods", namespace=self.made.namespace, selector=pod_selector())

    def revisions(self) -> list[str]:
        """One entry for each pod."""
        return [str(pod["metadata"]["labels"][names.REVISION_LABEL]) for pod in self.pods()]

    def stable(self) -> str:
        return str(self.made.get(NAME)["status"]["stableRevision"]["hash"])

    def stable_pods(self) -> set[str]:
        """Names of the stable revision's pods that are ready."""
        stable = self.stable()
        return {
            pod["metadata"]["name"]
            for pod in self.pods()
            if pod["metadata"]["labels"][names.REVISION_LABEL] == stable and is_ready(pod)
        }


def pod_selector() -> str:
    return f"{names.NAME_LABEL}={NAME},{names.COMPONENT_LABEL}=triton"


def is_ready(pod: Any) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not is_deleting(pod)


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Nothing serves yet; both models are in the store."""
    folder = tmp_path_factory.mktemp("models")
    upload(kubectl, write_samples(folder / "samples.npz"), "room/samples.npz", namespace=namespace)
    for version, scale in SCALES.items():
        upload(
            kubectl, write_model(folder / f"{version}.onnx", scale=scale), f"room/{version}.onnx", namespace=namespace
        )
    yield Served(made=Deployments(kubectl=kubectl, namespace=namespace))
    kubectl.delete("modeldeployment", NAME, namespace=namespace)


@contextmanager
def asking(served: Served, version: str) -> Iterator[ClientPod]:
    """A client that asks all the time and has its first answers, from `version`."""
    made = served.made
    pod = ClientPod(kubectl=made.kubectl, namespace=made.namespace, name="client")
    images = bright_images()
    expected = {each: answers(images, scale=scale) for each, scale in SCALES.items()}
    try:
        pod.start(service=NAME, cases=pack_cases({"image": images}, expected))
        wait_for("the first answers", lambda: pod.totals().get(version, 0) > 30, seconds=60, found=pod.logs)
        yield pod
    finally:
        made.kubectl.delete("pod", "client", namespace=made.namespace)
        made.kubectl.delete("configmap", "client", namespace=made.namespace)


def watch(served: Served, kind: str, folder: Path, *, selector: str = "") -> Any:
    return watching(served.made.kubectl, kind, namespace=served.made.namespace, selector=selector, folder=folder)


async def test_the_operator_sees_what_is_free_with_its_own_rights(
    kubectl: Kubectl, namespace: str, gpus: Callable[[int], None], tmp_path: Path
):
    gpus(4)
    made = Deployments(kubectl=kubectl, namespace=namespace)
    kubeconfig = yaml.safe_load(kubectl.kubeconfig.read_text())
    token = kubectl.run("create", "token", RELEASE, "-n", NAMESPACE, "--duration=10m").strip()
    kubeconfig["users"] = [{**user, "user": {"token": token}} for user in kubeconfig["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    with tenant(made), quota(made, 3):
        wait_for("the tenant to run", lambda: tenant_runs(made), seconds=60)
        async with kube_cluster(path) as cluster:
            room = await read_room(cluster, namespace=namespace, resource=GPU)
    assert room is not None, "it may not look at nodes or pods"
    assert [node.gpus for node in room.nodes] == [3]
    assert room.quota == {QUOTA: 2.0}


def test_one_gpu_waits_for_leave_to_stop_the_old_pod(served: Served, gpus: Callable[[int], None], tmp_path: Path):
    gpus(1)
    old, new = served.begin(replicas=1)
    made, stable, before = served.made, served.stable(), served.stable_pods()
    with asking(served, old) as client:
        made.apply(NAME, spec(new, replicas=1, min_available=1))
        told = made.wait_condition(NAME, "Ready", "False", reason="InsufficientGPU", seconds=120)
        assert "set spec.serving.minAvailable to 0 or spec.rollout.capacity to Recreate" in told["message"], told
        assert f"revision {stable} keeps serving" in told["message"], told
        assert made.condition(NAME, "Available")["status"] == "True"
        check_status(made.get(NAME))
        waited = client.totals()[old]
        wait_for("answers meanwhile", lambda: client.totals()[old] > waited + 60, seconds=30, found=client.logs)
        assert client.totals().get("failed", 0) == 0, client.totals()
        assert served.stable_pods() == before

        with watch(served, "modeldeployments", tmp_path) as objects, watch(served, "deployments", tmp_path) as parts:
            made.apply(NAME, spec(new, replicas=1, min_available=0))
            body = made.wait_ready(NAME, seconds=120)
        seen = client.totals().get(new, 0)
        wait_for("answers of the new one", lambda: client.totals().get(new, 0) > seen + 60, seconds=60)
        totals = client.stop()
    check_status(body)
    assert body["status"]["stableRevision"]["hash"] != stable
    assert totals.get("failed", 0) > 0, f"no gap, so nothing had to be told: {totals}"
    assert totals.get("wrong", 0) == 0, totals
    assert_told_before_stopped(objects, parts, old_pods=names.revision_name(NAME, stable))


def assert_told_before_stopped(objects: Watch, parts: Watch, *, old_pods: str) -> None:
    told = next(change for change in objects.changes() if capacity_of(change.body).get("plan") == "Recreate")
    stopped = next(
        change
        for change in parts.changes()
        if change.body["metadata"]["name"] == old_pods and change.body["spec"]["replicas"] == 0
    )
    assert told.version < stopped.version
    capacity = capacity_of(told.body)
    assert "the old pod stops before the new one starts; nothing serves for about" in capacity["message"].lower()
    assert capacity["expectedDowntime"] not in {"", "0s"}, capacity
    assert (capacity["gpusNeeded"], capacity["gpusFree"]) == (1, 0), capacity


def capacity_of(body: dict[str, Any]) -> dict[str, Any]:
    return body.get("status", {}).get("rollout", {}).get("capacity") or {}


def test_a_raised_quota_lets_the_update_go_on_by_itself(served: Served, gpus: Callable[[int], None]):
    gpus(2)
    _, new = served.begin(replicas=1)
    made, stable, before = served.made, served.stable(), served.stable_pods()
    with quota(made, 1) as raise_to:
        made.apply(NAME, spec(new, replicas=1, min_available=1))
        told = made.wait_condition(NAME, "Ready", "False", reason="QuotaExceeded", seconds=120)
        assert "raise the quota" in told["message"], told
        check_status(made.get(NAME))
        assert made.condition(NAME, "Available")["status"] == "True"
        assert served.stable_pods() == before
        raise_to(2)
        body = made.wait_ready(NAME, seconds=120)
    check_status(body)
    assert body["status"]["stableRevision"]["hash"] != stable


def test_two_gpus_are_swapped_pod_by_pod_without_a_failed_request(
    served: Served, gpus: Callable[[int], None], tmp_path: Path
):
    gpus(2)
    old, new = served.begin(replicas=2)
    made, stable = served.made, served.stable()
    with (
        asking(served, old) as client,
        watch(served, "pods", tmp_path, selector=pod_selector()) as pods,
        watch(served, "modeldeployments", tmp_path) as objects,
    ):
        made.apply(NAME, spec(new, replicas=2, min_available=1))
        body = made.wait_ready(NAME, seconds=180)
        served.settled(2)
        seen = client.totals().get(new, 0)
        wait_for("the new one alone", lambda: client.totals().get(new, 0) > seen + 60, seconds=60, found=client.logs)
        totals = client.stop()
    check_status(body)
    assert body["status"]["stableRevision"]["hash"] != stable
    plans = {capacity_of(change.body).get("plan") for change in objects.changes()}
    assert "Swap" in plans, plans
    assert "Recreate" not in plans, plans
    assert totals.get("failed", 0) == 0, totals
    assert totals.get("wrong", 0) == 0, totals
    assert least_ready(pods.changes(), present=2) >= 1


def test_a_tenant_who_takes_the_freed_gpu_sends_the_room_back(served: Served, gpus: Callable[[int], None]):
    gpus(2)
    _, new = served.begin(replicas=2)
    made, stable = served.made, served.stable()
    with tenant(made):
        made.apply(NAME, spec(new, replicas=2, min_available=1))
        gone = made.wait_condition(NAME, "Stalled", "True", reason="InsufficientGPU", seconds=150)
        assert f"The room goes back to revision {stable}" in gone["message"], gone
        assert tenant_runs(made)
        body = made.get(NAME)
        check_status(body)
        assert body["status"]["stableRevision"]["hash"] == stable
        assert body["status"]["rollout"]["aborted"]["reason"] == "InsufficientGPU"
        assert made.condition(NAME, "Available")["status"] == "True"
        assert len(served.stable_pods()) == 1
        wait_for("its second pod to be asked for", lambda: served.revisions() == [stable, stable], seconds=60)
    wait_for("both pods again", lambda: len(served.stable_pods()) == 2, seconds=60, found=lambda: made.story(NAME))
