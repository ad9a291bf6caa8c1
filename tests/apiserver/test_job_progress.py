"""Against a real API server: what the Job's own server says stands in status, and is written no more often than told."""

import json

import pytest
from testbed.kubectl import wait_for

from pilotfish.adapters.clock import ServerClock
from pilotfish.adapters.job_progress import JobProgressReader
from pilotfish.controller.job_watch import JobWatch
from pilotfish.controller.keys import Key
from pilotfish.controller.reconcile import Reconciler
from pilotfish.core import job_progress as core
from pilotfish.core import plan
from pilotfish.core.objects import ref_of
from pilotfish.optimizer import progress_server
from pilotfish.optimizer.progress import OPTIMIZE_STAGES, Progress
from pilotfish.optimizer.progress_server import progress_shown
from support.builders import POLICY
from support.kube import fresh_namespace, kube_cluster, make_object

pytestmark = pytest.mark.apiserver

RUNNING = {
    "name": "optimize",
    "image": "i",
    "imageID": "i",
    "ready": True,
    "restartCount": 0,
    "started": True,
    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
}


@pytest.fixture
def job_server(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setattr(progress_server, "own_address", lambda: "127.0.0.1")
    with progress_shown(port=0) as port:
        yield port


def run_pod(kubectl, namespace, job):
    """The pod that the Job controller makes, as the kubelet would run it."""
    selector = f"batch.kubernetes.io/job-name={job['metadata']['name']}"
    (pod,) = wait_for(
        "the Job's pod", lambda: kubectl.list("pods", namespace=namespace, selector=selector) or None, seconds=60
    )
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "containerStatuses": [RUNNING]}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    kubectl.run("patch", "pod", pod["metadata"]["name"], "-n", namespace, *patch)


async def test_the_job_s_word_stands_in_status_and_small_steps_are_not_written(
    api_server, kubectl, job_server, monkeypatch
):
    monkeypatch.setattr(core, "GAP", core.timedelta(0))
    monkeypatch.setattr("pilotfish.controller.job_watch.GAP", core.timedelta(0))
    reader = JobProgressReader(port=job_server)
    progress = Progress(OPTIMIZE_STAGES)
    with fresh_namespace(kubectl) as namespace:
        async with kube_cluster(api_server) as cluster:
            watch = JobWatch(clock=ServerClock(), reader=reader)
            reconcile = Reconciler(cluster=cluster, clock=ServerClock(), policy=POLICY, plan=plan, jobs=watch)
            key, ref = Key(namespace, "digits"), ref_of(make_object("digits", namespace))
            await cluster.apply(make_object("digits", namespace))
            await reconcile(key)
            (job,) = await cluster.list(api_version="batch/v1", kind="Job", namespace=namespace, labels={})
            run_pod(kubectl, namespace, job)

            async def look():
                await reconcile(key)
                return await cluster.get(ref)

            with progress.stage("benchmark", "2 threads"):
                first = await look()
                assert first["status"]["optimization"]["progress"]["message"] == "2 threads"
                progress.step(0.05, "round 1", force=True)
                assert await look() == first, "two points further: the stored object is the same to the last byte"
                progress.step(0.5, "round 3", force=True)
                told = (await look())["status"]["optimization"]["progress"]
                assert (told["stage"], told["percent"], told["message"]) == ("benchmark", 70, "round 3")
                assert "benchmark, 70 %: round 3" in kubectl.run("get", "mdep", "digits", "-n", namespace, "-o", "wide")
    await reader.close()
