"""Every query of every panel and every metric of every alert, asked of a real Prometheus.

It scrapes the operator's own process and real Triton servers with the labels of the chart's PodMonitors; the API server
is real and only the kubelet is played, so the servers stand for the pods of the two revisions of a canary.
"""

import asyncio
import threading
from contextlib import suppress

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.http as triton_http

from pilotfish.api.report import TerminationMessage
from pilotfish.core.objects import ref_of
from support.asked_dashboards import queries
from support.builders import make_result
from support.dashboard_answers import record_answers, unanswered_queries, unanswered_rules
from support.helm import NAMESPACE
from support.infer import http, infer
from support.kube import fresh_namespace, kube_cluster, make_object
from support.kubelet import playing_kubelet
from support.operator_process import install_rights, running_operator
from support.polling import until
from support.prometheus import list_targets, listed_scrape, pod_monitors, running_prometheus
from support.repository import linear_onnx, make_config, write_model
from support.triton import TritonServer, free_port

pytestmark = [pytest.mark.apiserver, pytest.mark.triton, pytest.mark.slow]

MISSING = {
    "nv_gpu_": "no GPU on this machine",
    "container_": "no kubelet, so no cAdvisor; test_prometheus.py asks a real one",
    "pilotfish_optimization_progress_ratio": "a played Job tells no progress",
    "pilotfish_source_check_failed": "nothing has spec.model.refresh",
    "pilotfish_model_drift": "nobody samples requests here",
}
_OURS = 'pilotfish_dev_revision="${revision}"'
FAILED = f"sum(rate(nv_inference_request_failure{{{_OURS}}}[5s]))"
SHARE = f"{FAILED} / ({FAILED} + sum(rate(nv_inference_request_success{{{_OURS}}}[5s])))"


def make_rollout(most):
    """A canary that ends when more requests fail than that, which Prometheus says; half of them do."""
    check = {"name": "failed-share", "query": SHARE, "max": most}
    analysis = {"interval": "5s", "window": "10s", "minRequests": 1, "checks": {"podRestarts": {"max": 0}}}
    analysis["checks"]["prometheus"] = [check]
    return {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}], "analysis": analysis}


def spec(version, *, most="0.9"):
    return {
        "model": {"uri": f"s3://models/{version}/"},
        "serving": {"replicas": 1},
        "rollout": make_rollout(most),
    }


def optimize(job):
    if job["model"]["uri"].endswith("/unsafe/"):
        return TerminationMessage(outcome="Failed", reason="UnsafeModel", message="The file holds code")
    return make_result(job["recipeKey"])


@pytest.fixture
def servers(tmp_path):
    """Of the stable revision and of the canary."""
    # The config promises any width, the model takes four: a request of another width fails.
    repository = write_model(tmp_path / "models", "digits", make_config("digits", dims=-1), linear_onnx())
    stable = TritonServer(repository=repository, scratch=tmp_path / "stable")
    canary = TritonServer(repository=repository, scratch=tmp_path / "canary")
    with stable, canary:
        yield stable, canary


def asking(servers, stop):
    """Requests that succeed and some that fail, to all of them."""
    good, bad = np.ones((2, 4), np.float32), np.ones((1, 3), np.float32)
    clients = [http(server.wait_ready("digits")) for server in servers]
    while not stop.wait(0.1):
        for client in clients:
            infer(client, triton_http, "digits", {"x": good})
            with pytest.raises(triton_http.InferenceServerException):
                infer(client, triton_http, "digits", {"x": bad})


@pytest_asyncio.fixture
async def world(api_server, kubectl, servers, tmp_path):
    """Clients ask, Prometheus scrapes, the operator works; pods are played."""
    account = install_rights(kubectl, tmp_path)
    of_operator, of_triton = pod_monitors()
    operators, tritons = tmp_path / "operator.json", tmp_path / "triton.json"
    scrapes = [listed_scrape(of_operator, targets=operators), listed_scrape(of_triton, targets=tritons)]
    port, stop = free_port(), threading.Event()
    clients = asyncio.get_running_loop().run_in_executor(None, asking, servers, stop)
    with fresh_namespace(kubectl) as namespace, running_prometheus(tmp_path, scrapes) as prometheus:
        async with kube_cluster(api_server) as cluster, playing_kubelet(cluster, namespace, result=optimize):
            with running_operator(account, resync=1, port=port, prometheus_url=prometheus.url):
                name_operator(operators, of_operator, port)
                yield World(cluster, namespace, prometheus, servers, tritons)
                stop.set()
                await clients


class World:
    """ModelDeployments, and what Prometheus knows of them."""

    def __init__(self, cluster, namespace, prometheus, servers, tritons):
        self.cluster, self.namespace, self.prometheus = cluster, namespace, prometheus
        self.servers, self.tritons = servers, tritons

    async def apply(self, name, version, **rollout):
        await self.cluster.apply(make_object(name, self.namespace, spec(version, **rollout)))

    async def status(self, name):
        return (await self.cluster.get(ref_of(make_object(name, self.namespace))))["status"]

    async def until_answer(self, query):
        async def probe():
            return self.prometheus.history(query)

        await until(f"Prometheus has {query}", probe, seconds=60)

    async def until_phase(self, name, phase):
        """Now, not once."""

        async def probe():
            return self.prometheus.now(f'pilotfish_phase{{name="{name}",phase="{phase}"}}') == 1

        await until(f"{name} is {phase} to Prometheus", probe, seconds=60)

    async def name_servers(self):
        """As pods of the stable revision and of the canary would be found."""
        status = await self.status("digits")
        _, monitor = pod_monitors()
        pods = []
        for server, role in zip(self.servers, ("stableRevision", "candidateRevision"), strict=True):
            revision = status[role]["hash"]
            own = {"pilotfish.dev/name": "digits", "pilotfish.dev/revision": revision}
            labels = {**monitor["spec"]["selector"]["matchLabels"], **own}
            pods.append((f"127.0.0.1:{server.ports.metrics}", self.namespace, f"digits-{revision}-0", labels))
        list_targets(self.tritons, monitor, pods)


@pytest.mark.timeout(240)
async def test_every_query_has_an_answer_and_one_decides_over_a_canary(world):
    await world.until_answer("pilotfish_optimization_failures_total == 0")
    await world.apply("unsafe", "unsafe")
    await world.apply("digits", "v1")
    await world.until_phase("digits", "Ready")
    await world.apply("digits", "v2")
    await world.until_phase("digits", "Canarying")
    await world.until_phase("unsafe", "Stalled")
    await world.name_servers()
    await world.until_answer('pilotfish_analysis_verdict{check="failed-share", verdict="Pass"}')
    await world.apply("digits", "v2", most="0.1")
    await world.until_phase("digits", "Aborted")
    assert (await world.status("digits"))["rollout"]["aborted"]["reason"] == "AnalysisFailed"
    variables = {"namespace": world.namespace, "name": "digits", "job": f"{NAMESPACE}/pilotfish"}
    missed = ["not asked yet"]

    async def complete():
        missed[:] = unanswered_queries(world.prometheus, variables, MISSING)
        return not missed

    with suppress(AssertionError):
        await until("every query has an answer", complete, seconds=20)
    record_answers(world.prometheus, variables)
    assert missed == []
    assert unanswered_rules(world.prometheus, MISSING) == []
    assert len(list(queries())) > 80


def name_operator(path, monitor, port):
    labels = monitor["spec"]["selector"]["matchLabels"]
    list_targets(path, monitor, [(f"127.0.0.1:{port}", NAMESPACE, "operator-0", labels)])
