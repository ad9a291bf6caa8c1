"""Weights of routes at a real gateway (Contour and Envoy) in front of real pods, on a cluster of its own.

No operator: the routes are the operator's, written as its passes write them; the pods stand in for Triton's.
"""

import asyncio
import http.client
import logging
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from testbed.kubectl import CLUSTER, Kubectl

from pilotfish import names
from pilotfish.names import Component
from support.apiserver import run_cluster
from support.gateway_clients import GATEWAY, HTTP_HOST, GatewayClients, Refused, until_it_answers
from support.kube import install_crd, kube_cluster, make_kubectl, make_object
from support.routes import RouteKeeper

log = logging.getLogger(__name__)

NAME = f"gateway-test-{os.getpid()}"
SPACE = "shop"
IMAGE = "pilotfish/gateway-backend:test"
OLD, NEW = "bbbbbbbb", "cccccccc"
SPEC = {
    "model": {"uri": "s3://models/digits/v1/"},
    "serving": {"gateway": GATEWAY},
}
REQUESTS = 3000
SIGMAS = 5
"""A share that is this far off happens by chance once in a million runs."""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory):
    """A cluster with a gateway and two revisions of two pods each."""
    try:
        run_cluster("up", "--name", NAME, "--owner-pid", str(os.getpid()), "--gpus", "0")
        build_backend(tmp_path_factory.mktemp("backend"))
        run_cluster("load", "--name", NAME, IMAGE)
        kubectl = make_kubectl(Path(run_cluster("kubeconfig", "--name", NAME)))
        install_crd(kubectl)
        run_cluster("gateway", "--name", NAME, "--namespace", SPACE)
        kubectl.apply(*(make_pod(revision, number) for revision in (OLD, NEW) for number in (1, 2)))
        kubectl.run("wait", "pods", "--all", "-n", SPACE, "--for=condition=Ready", "--timeout=60s")
        yield kubectl
    finally:
        subprocess.run([str(CLUSTER), "down", "--name", NAME], check=True)
    assert left_behind() == []


@pytest.fixture(scope="module")
def address(kubectl):
    """host:port of the gateway."""
    return urlsplit(run_cluster("gateway", "--name", NAME, "--namespace", SPACE)).netloc


@pytest_asyncio.fixture
async def keeper(kubectl):
    async with kube_cluster(kubectl.kubeconfig) as cluster:
        await cluster.apply(make_object("digits", SPACE, SPEC))
        yield RouteKeeper(cluster=cluster, namespace=SPACE, name="digits")


def left_behind():
    """Command lines of processes that name the cluster's state folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().decode(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return [line for line in found if f"/{NAME}/" in line]


def build_backend(folder):
    source = Path(__file__).with_name("backend") / "main.go"
    go = shutil.which("go") or "/usr/local/go/bin/go"
    build = [go, "build", "-ldflags=-s -w", "-o", str(folder / "backend"), str(source)]
    subprocess.run(build, env={**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}, check=True)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY backend /\nENTRYPOINT ["/backend"]\n')
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    bud = ["buildah", "bud", "--layers", "--quiet", f"--tag={IMAGE}", str(folder)]
    subprocess.run(bud, env=env, check=True, capture_output=True)


def make_pod(revision, number):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{revision}-{number}",
            "namespace": SPACE,
            "labels": names.labels("digits", Component.TRITON, revision),
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "triton",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "args": [revision],
                    "ports": [{"name": "http", "containerPort": 8000}, {"name": "grpc", "containerPort": 8001}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                }
            ],
        },
    }


def make_clients(address):
    return GatewayClients(address, ask_http=ask_http, ask_grpc=ask_grpc)


def ask_http(connection):
    connection.request("GET", "/v2/health/ready", headers={"Host": HTTP_HOST})
    answer = connection.getresponse()
    said = answer.read().decode()
    if answer.status != http.client.OK:
        raise Refused(said)
    return said


def ask_grpc(channel):
    return channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"", timeout=10).decode()


async def share(clients, revision, *, requests=REQUESTS):
    """Per protocol, the share of `revision` in the next so many answers, and how many those were."""
    before = clients.counts()
    async with asyncio.timeout(60):
        while min(counter.total() for counter in clients.since(before).values()) < requests:  # noqa: ASYNC110 - counted by threads
            await asyncio.sleep(0.05)
    return {kind: (found[revision] / found.total(), found.total()) for kind, found in clients.since(before).items()}


async def until_only(clients, revision):
    """Until the answers come from `revision` alone, in both protocols."""
    began = time.monotonic()
    while any(found < 1 for found, _ in (await share(clients, revision, requests=50)).values()):
        assert time.monotonic() - began < 30, "the other revision is still asked"
    log.info("only %s answers, seen after %.2f s", revision, time.monotonic() - began)


async def follow(keeper, weights):
    """Write the weights and wait until the gateway follows."""
    began = time.monotonic()
    await keeper.keep(weights)
    async with asyncio.timeout(30):
        while not (state := await keeper.state(weights)).ready:
            log.info("%.2f s: %s", time.monotonic() - began, state.message)
            await asyncio.sleep(0.1)
    log.info("%s accepted after %.2f s", weights, time.monotonic() - began)


def assert_about(found, wanted):
    """Within what chance explains at this number of requests."""
    for kind, (share, requests) in found.items():
        bound = SIGMAS * math.sqrt(wanted * (1 - wanted) / requests)
        log.info("%s: %.4f of %d requests, wanted %.2f ± %.4f", kind, share, requests, wanted, bound)
        assert abs(share - wanted) <= bound, f"{kind}: {share} of {requests}, not {wanted} ± {bound}"


async def test_a_rollout_over_weights_loses_no_request(kubectl: Kubectl, keeper, address):
    """0, 10, 50, 100 percent and the old pods gone, with HTTP and gRPC clients that never pause."""
    await follow(keeper, {OLD: 100, NEW: 0})
    until_it_answers(lambda: make_clients(address))
    with make_clients(address) as clients:
        assert_about(await share(clients, NEW, requests=300), 0.0)
        for percent in (10, 50):
            await follow(keeper, {OLD: 100 - percent, NEW: percent})
            await settle(clients)
            assert_about(await share(clients, NEW), percent / 100)
        await follow(keeper, {OLD: 0, NEW: 100})
        await until_only(clients, NEW)
        # T-A12: no weight, then no pods, then no backend, then no Service.
        assert await keeper.clear(NEW) == ()
        kubectl.run("delete", "pods", "-n", SPACE, "-l", f"{names.REVISION_LABEL}={OLD}", "--wait=true")
        assert_about(await share(clients, NEW, requests=300), 1.0)
        await follow(keeper, {NEW: 100})
        assert await keeper.clear(NEW) == (f"digits-{OLD}-route",)
        assert_about(await share(clients, NEW, requests=300), 1.0)
    assert clients.failures == []


async def test_an_abort_reaches_the_gateway_within_five_seconds(kubectl: Kubectl, keeper, address):
    kubectl.apply(*(make_pod(OLD, number) for number in (1, 2)))
    kubectl.run("wait", "pods", "--all", "-n", SPACE, "--for=condition=Ready", "--timeout=60s")
    await follow(keeper, {OLD: 50, NEW: 50})
    until_it_answers(lambda: make_clients(address))
    with make_clients(address) as clients:
        await share(clients, NEW, requests=100)
        began = time.monotonic()
        await follow(keeper, {OLD: 100, NEW: 0})
        await until_only(clients, OLD)
        seconds = time.monotonic() - began
        log.info("from the decision to the last answer of the aborted revision: %.2f s", seconds)
        assert seconds < 5
    assert clients.failures == []


async def test_a_gateway_that_does_not_exist_is_waited_for(keeper):
    weights = {NEW: 100}
    spec = {**SPEC, "serving": {"gateway": {**GATEWAY, "name": "nowhere"}}}
    await keeper.cluster.apply(make_object("digits", SPACE, spec))
    await keeper.keep(weights)
    for _ in range(10):
        state = await keeper.state(weights)
        assert not state.ready
        await asyncio.sleep(0.1)
    assert 'Gateway "nowhere" has not answered HTTPRoute "digits-http"' in state.message


async def settle(clients):
    """The control plane has accepted the weights; Envoy's answers under way still go by the old ones."""
    await share(clients, NEW, requests=200)
