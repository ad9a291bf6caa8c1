"""What may happen to pods and volumes under a model that serves: it comes back by itself, or a condition says how.

The processes of the node are processes of this machine: they are found by the control group of their pod.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from testbed.digits import train
from testbed.kubectl import Kubectl, wait_for
from testbed.store import upload

from support.deployments import Deployments
from support.digits import spec
from support.status_check import check_status

GOOD = "s3://models/digits/v1/"
NAME = "hurt"


@pytest.fixture(scope="module")
def serving(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    """One ModelDeployment that serves with two pods."""
    upload(kubectl, train(tmp_path_factory.mktemp("models") / "v1", seed=0), "digits/v1", namespace=namespace)
    made = Deployments(kubectl=kubectl, namespace=namespace)
    wanted = spec(GOOD)
    wanted["serving"]["replicas"] = 2
    made.apply(NAME, wanted)
    made.wait_ready(NAME)
    yield made
    kubectl.delete("modeldeployment", NAME, namespace=namespace)


def triton_pods(serving: Deployments) -> tuple[Mapping[str, Any], ...]:
    return serving.kubectl.list("pods", namespace=serving.namespace, selector="pilotfish.dev/component=triton")


def processes_of(pod: Mapping[str, Any], program: str) -> list[int]:
    """Pids of a program in a pod, as this machine sees them."""
    uid = pod["metadata"]["uid"]
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            group, name = (folder / "cgroup").read_text(), (folder / "comm").read_text().strip()
        except OSError:
            continue
        if (uid in group or uid.replace("-", "_") in group) and name.startswith(program):
            found.append(int(folder.name))
    assert found, f"no {program} in pod {pod['metadata']['name']}"
    return found


def restarts(serving: Deployments, pod: Mapping[str, Any]) -> int:
    found = serving.kubectl.get("pod", pod["metadata"]["name"], namespace=serving.namespace)
    assert found is not None, "the pod was replaced"
    return sum(status["restartCount"] for status in found["status"]["containerStatuses"])


def both_ready(serving: Deployments) -> bool:
    body = serving.get(NAME)
    check_status(body)
    return body["status"].get("readyReplicas") == 2 and serving.condition(NAME, "Ready")["status"] == "True"


def available(serving: Deployments) -> bool:
    return serving.condition(NAME, "Available")["status"] == "True"


def test_a_server_that_is_killed_comes_back_and_the_other_one_answers_meanwhile(serving: Deployments):
    pod, *_ = triton_pods(serving)
    before = restarts(serving, pod)
    for pid in processes_of(pod, "tritonserver"):
        os.kill(pid, signal.SIGKILL)
    wait_for("the container starts again", lambda: restarts(serving, pod) > before, seconds=60)
    assert available(serving)
    wait_for("both pods are ready", lambda: both_ready(serving), seconds=120, found=lambda: serving.story(NAME))


@pytest.mark.soak
def test_a_server_that_hangs_loses_its_requests_and_is_replaced(serving: Deployments):
    """Readiness takes it out of the Service within seconds; liveness ends it in a minute, and its grace period later."""
    pod, *_ = triton_pods(serving)
    before = restarts(serving, pod)
    for pid in processes_of(pod, "tritonserver"):
        os.kill(pid, signal.SIGSTOP)
    wait_for("one pod is ready", lambda: serving.get(NAME)["status"].get("readyReplicas") == 1, seconds=60)
    assert available(serving)
    wait_for("the container starts again", lambda: restarts(serving, pod) > before, seconds=240)
    wait_for("both pods are ready", lambda: both_ready(serving), seconds=120, found=lambda: serving.story(NAME))


@pytest.mark.soak
def test_a_claim_that_is_lost_is_said_and_the_advice_is_enough(serving: Deployments):
    """What serves goes on; a pod that starts finds no artifact, and the condition says what to do."""
    kubectl, namespace = serving.kubectl, serving.namespace
    jobs = serving.optimize_jobs(NAME)
    claim = f"{NAME}-store"
    kubectl.run("delete", "pvc", claim, "-n", namespace, "--wait=false")
    assert available(serving), "what is loaded needs no claim"
    old = {pod["metadata"]["name"] for pod in triton_pods(serving)}
    kubectl.run("delete", "pods", "-n", namespace, *sorted(old), "--wait=false")
    found = serving.wait_condition(NAME, "Ready", "False", reason="ArtifactMissing", seconds=300)
    record = f"{NAME}-{serving.get(NAME)['status']['stableRevision']['hash']}"
    assert f'delete ControllerRevision "{record}" to make it again' in found["message"]
    kubectl.delete("controllerrevision", record, namespace=namespace)
    wait_for("both pods are ready", lambda: both_ready(serving), seconds=500, found=lambda: serving.story(NAME))
    assert jobs


@pytest.mark.soak
def test_an_optimizer_that_is_killed_starts_again_from_what_was_fetched(serving: Deployments):
    """As by a node that goes, or a kernel that is out of memory."""
    wanted = spec(GOOD)
    wanted["serving"]["replicas"] = 2
    wanted["optimization"]["batchSizes"] = [1, 2]
    serving.apply(NAME, wanted)
    selector = "pilotfish.dev/component=optimize"

    def running() -> Mapping[str, Any] | None:
        pods = serving.kubectl.list("pods", namespace=serving.namespace, selector=selector)
        return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)

    pod = wait_for("the optimizer runs", running, seconds=120)
    name = pod["metadata"]["name"]
    serving.kubectl.run("delete", "pod", name, "-n", serving.namespace, "--grace-period=0", "--force")
    wait_for("both pods are ready", lambda: both_ready(serving), seconds=400, found=lambda: serving.story(NAME))
