from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl


@pytest.fixture(scope="session")
def kubectl(api_server):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return kubectl


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.apiserver)])
def flavour(request):
    return request.param


@pytest.fixture
def namespace(flavour, request):
    if flavour == "fake":
        yield "team"
        return
    with fresh_namespace(request.getfixturevalue("kubectl")) as name:
        yield name


@pytest_asyncio.fixture
async def cluster(flavour, request) -> AsyncIterator:
    if flavour == "fake":
        from support.fake_cluster import FakeCluster

        yield FakeCluster()
        return
    request.getfixturevalue("kubectl")
    async with kube_cluster(request.getfixturevalue("api_server")) as cluster:
        yield cluster
