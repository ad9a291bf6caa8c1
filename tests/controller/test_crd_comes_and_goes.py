"""The CRD may be installed after the operator, and may go: an API server of its own, because it loses its CRD."""

import asyncio

import pytest

from pilotfish.names import MANAGED_BY
from support.apiserver import running_api_server
from support.kube import CRD, fresh_namespace, install_crd, kube_cluster, make_kubectl, make_object
from support.operator_process import install_rights, running_operator

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]


async def wait_for_a_job(cluster, namespace):
    async with asyncio.timeout(60):
        while not await cluster.list(  # noqa: ASYNC110 - what another process does is polled
            api_version="batch/v1", kind="Job", namespace=namespace, labels={MANAGED_BY: "pilotfish"}
        ):
            await asyncio.sleep(0.1)


async def test_the_operator_waits_for_its_crd_and_ends_when_it_goes(tmp_path):
    with running_api_server() as kubeconfig:
        kubectl = make_kubectl(kubeconfig)
        account = install_rights(kubectl, tmp_path)
        with running_operator(account) as operator, fresh_namespace(kubectl) as namespace:
            operator.wait_until_said("cannot list ModelDeployments yet")
            install_crd(kubectl)
            async with kube_cluster(kubeconfig) as cluster:
                await cluster.apply(make_object("digits", namespace))
                await wait_for_a_job(cluster, namespace)
            # Without its CRD nothing can be watched: the process ends, its replacement waits for the CRD again.
            kubectl.run("delete", "-f", str(CRD), "--timeout=60s")
            assert await asyncio.to_thread(operator.process.wait, timeout=120) == 1
        with running_operator(account) as operator:
            operator.wait_until_said("cannot list ModelDeployments yet")
            assert operator.stop() == 0
