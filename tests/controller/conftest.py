"""The operator's own process needs these: the CRD, its account with the chart's rights, a namespace, a client."""

import pytest
import pytest_asyncio

from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl
from support.operator_process import install_rights


@pytest.fixture(scope="module")
def kubectl(api_server):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return kubectl


@pytest.fixture(scope="module")
def account(kubectl, tmp_path_factory):
    return install_rights(kubectl, tmp_path_factory.mktemp("account"))


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        yield name


@pytest_asyncio.fixture
async def cluster(api_server):
    async with kube_cluster(api_server) as cluster:
        yield cluster
