"""The operator's own process needs these: the CRD, its account with the chart's rights, a namespace, a client."""

import pytest
import pytest_asyncio

from support.kube import fresh_namespace, kube_cluster, kubectl
from support.operator_process import account

__all__ = ["account", "kubectl"]


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        yield name


@pytest_asyncio.fixture
async def cluster(api_server):
    async with kube_cluster(api_server) as cluster:
        yield cluster
