"""Installing Pilotfish from this tree's chart into the local cluster."""

from testbed.kubectl import ROOT, Kubectl

NAMESPACE = "pilotfish-system"
RELEASE = "pilotfish"
TAG = "dev"
IMAGES = tuple(
    f"pilotfish/{name}:{TAG}"
    for name in ("operator", "optimizer", "optimizer-torch", "triton-cpu", "triton-cpu-torch", "testbed")
)


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
