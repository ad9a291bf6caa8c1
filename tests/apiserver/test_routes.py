"""Routes on a real API server: its schemas and defaults, a cluster that lacks them, and the operator's rights on them."""

import asyncio
import json

import pytest
import pytest_asyncio

from pilotfish.adapters.observe import read
from pilotfish.api.reasons import Reason
from pilotfish.core.observed import ROUTE_KINDS
from pilotfish.core.rollout.routes import assigned_weights, keep_routes, unwanted_routes
from support.apiserver import running_api_server
from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl, make_object
from support.operator_process import install_rights, running_operator
from support.routes import RouteKeeper, accepting_parent, install_routes

pytestmark = pytest.mark.apiserver

SPEC = {
    "model": {"uri": "s3://models/digits/v1/"},
    "serving": {
        "gateway": {
            "name": "public",
            "sectionName": "web",
            "hostnames": ["digits.example.org"],
            "grpc": {"hostnames": ["grpc.digits.example.org"]},
        },
        "predict": {},
    },
}
OLD, NEW = "bbbbbbbb", "cccccccc"
GATEWAY_API_ON = ("--set", "gatewayAPI.enabled=true")


@pytest.fixture(scope="module")
def routed_server(tmp_path_factory):
    """An API server with the Gateway API, and a kubeconfig with the rights that the chart gives the operator."""
    with running_api_server() as kubeconfig:
        kubectl = make_kubectl(kubeconfig)
        install_crd(kubectl)
        install_routes(kubectl)
        yield kubectl, install_rights(kubectl, tmp_path_factory.mktemp("rights"), *GATEWAY_API_ON)


@pytest.fixture
def namespace(routed_server):
    with fresh_namespace(routed_server[0]) as name:
        yield name


@pytest_asyncio.fixture
async def keeper(routed_server, namespace):
    async with kube_cluster(routed_server[0].kubeconfig) as admin:
        await admin.apply(make_object("digits", namespace, SPEC))
    async with kube_cluster(routed_server[1]) as cluster:
        yield RouteKeeper(cluster=cluster, namespace=namespace, name="digits")


def be_the_gateway(kubectl, namespace):
    """Accept every route as it stands, as a gateway's controller does."""
    for kind, route in (("httproute", "digits-http"), ("grpcroute", "digits-grpc")):
        generation = kubectl.get(kind, route, namespace=namespace)["metadata"]["generation"]
        patch = json.dumps({"status": {"parents": [accepting_parent(generation)]}})
        kubectl.run("patch", kind, route, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


async def test_what_the_server_stores_is_what_we_wanted(keeper):
    """Defaults of the Gateway API must not look like a difference, or every pass would write."""
    await keeper.keep({OLD: 90, NEW: 10})
    scope = await keeper.look()
    assert keep_routes(scope, {OLD: 90, NEW: 10}) == ()
    assert assigned_weights(scope) == {OLD: 90, NEW: 10}


async def test_weights_count_once_the_gateway_has_accepted_their_generation(keeper, routed_server, namespace):
    kubectl, _ = routed_server
    weights = {OLD: 100, NEW: 0}
    await keeper.keep(weights)
    assert (await keeper.state(weights)).reason is Reason.WAITING_FOR_ROUTES
    be_the_gateway(kubectl, namespace)
    assert (await keeper.state(weights)).ready
    weights = {OLD: 90, NEW: 10}
    await keeper.keep(weights)
    assert "has not taken over the present" in (await keeper.state(weights)).message
    be_the_gateway(kubectl, namespace)
    assert (await keeper.state(weights)).ready


async def test_ta12_ta21_a_backend_that_somebody_added_goes(keeper, routed_server, namespace):
    kubectl, _ = routed_server
    await keeper.keep({OLD: 100})
    added = [{"op": "add", "path": "/spec/rules/0/backendRefs/-", "value": {"name": "mine", "port": 80}}]
    kubectl.run("patch", "httproute", "digits-http", "-n", namespace, "--type=json", "-p", json.dumps(added))
    assert assigned_weights(await keeper.look()) is None
    await keeper.keep({OLD: 100})
    assert assigned_weights(await keeper.look()) == {OLD: 100}
    assert keep_routes(await keeper.look(), {OLD: 100}) == ()


async def test_a_revision_leaves_in_three_steps(keeper, routed_server, namespace):
    """No weight, no backend, no Service: each only after the gateway has accepted the one before."""
    kubectl, _ = routed_server
    kept = frozenset({NEW})
    await keeper.keep({OLD: 0, NEW: 100})
    be_the_gateway(kubectl, namespace)
    assert unwanted_routes(await keeper.look(), kept) == ()
    await keeper.keep({NEW: 100})
    assert unwanted_routes(await keeper.look(), kept) == ()
    be_the_gateway(kubectl, namespace)
    (service,) = unwanted_routes(await keeper.look(), kept)
    assert service["metadata"]["name"] == f"digits-{OLD}-route"


async def test_a_cluster_may_lack_the_gateway_api_and_get_it_later(tmp_path):
    with running_api_server() as kubeconfig:
        kubectl = make_kubectl(kubeconfig)
        install_crd(kubectl)
        account = install_rights(kubectl, tmp_path, *GATEWAY_API_ON)
        with fresh_namespace(kubectl) as namespace, running_operator(account, gateway_api=True) as operator:
            async with kube_cluster(account) as cluster:
                await _create(kubeconfig, namespace)
                reading = await read(cluster, namespace=namespace, name="digits", gateway_api=True)
                assert reading.unserved == {kind for _, kind in ROUTE_KINDS}
                # The operator works on: a model is optimized whatever becomes of its routes.
                await _until_a_job(cluster, namespace)
                install_routes(kubectl)
                reading = await read(cluster, namespace=namespace, name="digits", gateway_api=True)
                assert reading.unserved == frozenset()
            assert operator.stop() == 0


async def _create(kubeconfig, namespace):
    async with kube_cluster(kubeconfig) as admin:
        await admin.apply(make_object("digits", namespace, SPEC))


async def _until_a_job(cluster, namespace):
    async with asyncio.timeout(60):
        while not await cluster.list(  # noqa: ASYNC110 - what another process does is polled
            api_version="batch/v1", kind="Job", namespace=namespace, labels={"pilotfish.dev/name": "digits"}
        ):
            await asyncio.sleep(0.1)
