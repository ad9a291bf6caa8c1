"""Pilotfish from this tree in the local cluster: the node, the images, the chart."""

import subprocess
from collections.abc import Callable

from testbed.kubectl import CLUSTER, ROOT, Kubectl

NAMESPACE = "pilotfish-system"
RELEASE = "pilotfish"
TAG = "dev"
# For tests of three files at once: a canary has two pods, and those of the last test may still be draining.
GPUS = 12
IMAGES = tuple(
    f"pilotfish/{name}:{TAG}"
    for name in ("operator", "optimizer", "optimizer-torch", "triton-cpu", "triton-cpu-torch", "testbed")
)


def bring_up(*, gpus: int | None = None, say: Callable[[str], None] = print) -> Kubectl:
    """A running cluster with this tree's operator in it; what is there already is kept.

    `gpus` is how many the node says it has. Raises CalledProcessError when a step fails; its output says why.
    """
    say("Cluster: Kubernetes on this machine")
    subprocess.run([str(CLUSTER), "up", *(() if gpus is None else ("--gpus", str(gpus)))], check=True)
    say("Images: operator, optimizers, Triton")
    subprocess.run([str(ROOT / "hack/images/build"), "all"], check=True)
    subprocess.run([str(CLUSTER), "load", *IMAGES], check=True)
    kubectl = Kubectl.of_local_cluster()
    say("Operator: helm install from charts/pilotfish")
    install_operator(kubectl)
    return kubectl


def install_operator(kubectl: Kubectl) -> None:
    """`helm upgrade --install` with the images that were built here; returns when the operator is ready."""
    values = ROOT / "hack" / "testbed" / "values.yaml"
    arguments = ("--namespace", NAMESPACE, "--create-namespace", "--values", str(values))
    kubectl.helm(
        "upgrade", "--install", RELEASE, str(ROOT / "charts" / "pilotfish"), *arguments, "--wait", "--timeout=180s"
    )
    # The tag stays the same from build to build, so only a restart picks up new bytes.
    kubectl.run("rollout", "restart", "deployment/pilotfish", "-n", NAMESPACE)
    kubectl.run("rollout", "status", "deployment/pilotfish", "-n", NAMESPACE, "--timeout=120s")
