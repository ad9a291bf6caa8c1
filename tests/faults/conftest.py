"""A real API server with everything around it, for tests of what an operator does while things go wrong."""

import os

import pytest
import pytest_asyncio

from support.faults.proxy import proxies
from support.faults.replica import operators_in_threads
from support.faults.run import prepare, staged
from support.kube import install_crd, kube_cluster, kubectl, make_kubectl
from support.routes import install_routes

__all__ = ["kubectl"]


@pytest.fixture(scope="session")
def host():
    with proxies() as host:
        yield host


@pytest.fixture(scope="session")
def prepared(api_server, host, tmp_path_factory):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    install_routes(kubectl)
    slots = int(os.environ.get("PILOTFISH_FAULT_SLOTS", "6"))
    return prepare(kubectl, host, folder=tmp_path_factory.mktemp("faults"), slots=slots)


@pytest_asyncio.fixture
async def stage(prepared):
    async with kube_cluster(prepared.kubectl.kubeconfig) as admin:
        with operators_in_threads():
            async with staged(prepared, admin) as stage:
                yield stage


@pytest.fixture
def seed():
    """PILOTFISH_FAULT_SEED draws others; a failing test prints each plan whole."""
    return int(os.environ.get("PILOTFISH_FAULT_SEED", "1"))
