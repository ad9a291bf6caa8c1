"""What makes room scarce in a namespace: another tenant who wants a GPU, a quota for GPUs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from testbed.kubectl import wait_for
from testbed.manifests import IMAGE

from support.deployments import Deployments

TENANT = "tenant"
GPU = "nvidia.com/gpu"
QUOTA = f"requests.{GPU}"


@contextmanager
def tenant(made: Deployments) -> Iterator[None]:
    """Somebody else's pod that is next in the scheduler's queue for a GPU, and takes none away from who has one."""
    urgent = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": made.namespace},
        "value": 1000,
        "preemptionPolicy": "Never",
    }
    try:
        made.kubectl.apply(urgent, make_tenant(made.namespace))
        yield
    finally:
        made.kubectl.delete("pod", TENANT, namespace=made.namespace)
        made.kubectl.delete("priorityclass", made.namespace, namespace="")


def make_tenant(namespace: str) -> dict[str, Any]:
    """Its pod; the PriorityClass has the namespace's name."""
    container = {
        "name": TENANT,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "resources": {"limits": {GPU: "1"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": TENANT, "namespace": namespace},
        "spec": {
            "priorityClassName": namespace,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


def tenant_runs(made: Deployments) -> bool:
    """Whether it has its GPU."""
    pod = made.kubectl.get("pod", TENANT, namespace=made.namespace) or {}
    return pod.get("status", {}).get("phase") == "Running"


@contextmanager
def quota(made: Deployments, gpus: int) -> Iterator[Callable[[int], None]]:
    """A ResourceQuota for GPUs of the namespace that has counted what is there; yields how to change it."""

    def put(count: int) -> None:
        hard = {QUOTA: str(count)}
        meta = {"name": "gpus", "namespace": made.namespace}
        made.kubectl.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})

        def counted() -> bool:
            found = made.kubectl.get("resourcequota", "gpus", namespace=made.namespace) or {}
            return bool(found.get("status", {}).get("hard") == hard)

        wait_for("the quota to count", counted, seconds=30)

    put(gpus)
    try:
        yield put
    finally:
        made.kubectl.delete("resourcequota", "gpus", namespace=made.namespace)
