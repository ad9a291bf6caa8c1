"""Other people at a real API server: who they are, what roles they have, what they are told."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pilotfish.adapters.connection import connect
from pilotfish.adapters.kube import KubeCluster
from pilotfish.ports import ClusterError, Forbidden, Invalid


@asynccontextmanager
async def acting_as(kubeconfig: Path, user: str) -> AsyncIterator[KubeCluster]:
    """The API server as that user sees it; the kubeconfig's own may impersonate everybody."""
    client = await connect(kubeconfig=kubeconfig)
    client.set_default_header("Impersonate-User", user)
    cluster = KubeCluster(client)
    try:
        yield cluster
    finally:
        await cluster.close()


def make_role_binding(namespace: str, user: str, role: str) -> dict[str, Any]:
    """A user gets a ClusterRole in one namespace."""
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{user}-{role}", "namespace": namespace},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
    }


async def refusal(cluster: KubeCluster, body: Mapping[str, Any]) -> str:
    """Apply it; the API server's sentence where it refuses, else nothing."""
    try:
        await cluster.apply(body)
    except (Forbidden, Invalid) as error:
        return str(error)
    except ClusterError as error:
        raise AssertionError(f"neither taken nor refused: {error}") from error
    return ""
