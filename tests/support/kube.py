"""A real API server as the tests of adapters and controller use it: the CRD, namespaces, a client, kubectl."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from testbed.kubectl import ROOT, Kubectl, KubectlError, wait_for

from pilotfish.adapters.connection import connect
from pilotfish.adapters.kube import KubeCluster
from pilotfish.api.base import API_VERSION, KIND
from support.apiserver import run_cluster

CRD = ROOT / "crds" / "pilotfish.dev_modeldeployments.yaml"
TEN_LINES = {"model": {"uri": "s3://models/digits/v1/"}}


def make_kubectl(kubeconfig: Path) -> Kubectl:
    """kubectl as the owner of the kubeconfig."""
    return Kubectl(tools=Path(run_cluster("tools")), kubeconfig=kubeconfig)


@pytest.fixture(scope="module")
def kubectl(api_server: Path) -> Kubectl:
    """kubectl as administrator of an API server that knows our kind; a conftest imports it."""
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return kubectl


def install_crd(kubectl: Kubectl) -> None:
    """Apply the CRD and wait until the API server serves it."""
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CRD))

    def is_served() -> bool:
        # kubectl's own `wait` fails on a CRD so new that it has no conditions.
        try:
            kubectl.run("get", "modeldeployments.pilotfish.dev", "--all-namespaces")
        except KubectlError:
            return False
        return True

    wait_for("the CRD is served", is_served, seconds=60)


@contextmanager
def fresh_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace that is deleted afterwards, without waiting for its end."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl.run("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl.run("delete", "namespace", name, "--wait=false")


@asynccontextmanager
async def kube_cluster(kubeconfig: Path) -> AsyncIterator[KubeCluster]:
    """The adapter under test."""
    cluster = KubeCluster(await connect(kubeconfig=kubeconfig))
    try:
        yield cluster
    finally:
        await cluster.close()


def make_object(name: str, namespace: str, spec: Mapping[str, Any] = TEN_LINES) -> dict[str, Any]:
    """A user's ModelDeployment."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }
