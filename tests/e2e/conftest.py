"""The real thing: local cluster, images built from this tree, operator installed with its chart.

Files run side by side (`--dist=loadfile`), each in a namespace of its own. A test that disturbs the operator is marked
`alone` and runs when no other does.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from testbed.kubectl import Kubectl, wait_for
from testbed.manifests import make_namespace, make_store
from testbed.operator import GPUS, bring_up

from support.deployments import Deployments

# Minutes each: the whole suite stays under an hour from nothing on two cores.
SOAK = {
    "test_autoscaling.py",
    "test_capacity.py",
    "test_gateway.py",
    "test_gateway_rollout.py",
    "test_optimizer_images.py",
    "test_prometheus.py",
    "test_refresh.py",
    "test_tls.py",
}

# The files that take minutes, so that none of them begins when the others have ended.
FIRST = ("test_canary.py", "test_bad_luck.py", "test_lifecycle.py", "test_damage.py", "test_transformer.py")

# Set by who has just run `python -m testbed`.
BROUGHT_UP = "PILOTFISH_TESTBED_IS_UP"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))
            if item.path.name in SOAK:
                item.add_marker(pytest.mark.soak)
    first = [Path(__file__).with_name(name) for name in FIRST]
    items.sort(key=lambda item: first.index(item.path) if item.path in first else len(first))


@pytest.fixture(scope="session")
def kubectl(testrun_uid: str) -> Kubectl:
    """A running cluster with the operator in it; left running for the next run, `make down` removes it."""
    done = Path(tempfile.gettempdir()) / f"pilotfish-e2e-{testrun_uid}"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            if BROUGHT_UP not in os.environ:
                bring_up(gpus=GPUS)
            done.touch()
    return Kubectl.of_local_cluster()


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A restricted namespace of its own with a model store in it. It goes while other tests run."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    kubectl.apply(make_namespace(name))
    kubectl.apply(*make_store(name))
    kubectl.run("rollout", "status", "deployment/store", "-n", name, "--timeout=120s")
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def deployments(kubectl: Kubectl, namespace: str) -> Iterator[Deployments]:
    """Every ModelDeployment of the test is gone when it ends, and so is everything that belonged to it."""
    made = Deployments(kubectl=kubectl, namespace=namespace)
    yield made
    for name in made.names():
        kubectl.delete("modeldeployment", name, namespace=namespace)
    wait_for("children to be gone", lambda: not made.children(), seconds=120, found=made.children)
