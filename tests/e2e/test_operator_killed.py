"""The operator is killed again and again while it works; the model ends up served all the same."""

import threading

import pytest
from testbed.digits import train
from testbed.kubectl import Kubectl
from testbed.operator import NAMESPACE, RELEASE
from testbed.store import upload

from support.deployments import Deployments
from support.digits import spec
from support.status_check import check_status

PAUSE_SECONDS = 4.0


def test_killed_operator_ends_in_the_same_place(
    deployments: Deployments, kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory
):
    uri = upload(kubectl, train(tmp_path_factory.mktemp("m") / "v1", seed=0), "digits/v1", namespace=namespace)
    stop = threading.Event()
    kills = []

    def killer() -> None:
        selector = f"app.kubernetes.io/instance={RELEASE}"
        while not stop.wait(PAUSE_SECONDS):
            kubectl.run("delete", "pods", "-n", NAMESPACE, "-l", selector, "--grace-period=0", "--force")
            kills.append(1)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        deployments.apply("digits", spec(uri))
        stop.wait(40)
    finally:
        stop.set()
        thread.join()
    assert len(kills) >= 3
    body = deployments.wait_ready("digits", seconds=240)
    check_status(body)
    assert len(deployments.children("digits", "jobs")) <= 1
    assert len(deployments.children("digits", "deployments")) == 1
