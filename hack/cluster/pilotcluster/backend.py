"""The two ways to run a cluster behind one interface, and the choice between them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pilotcluster.console import ClusterError
from pilotcluster.kind import Kind
from pilotcluster.native import Native
from pilotcluster.paths import Layout
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record, State

ENGINES: Mapping[str, Sequence[str]] = {
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
    "podman": ("podman", "version", "--format", "{{.Server.Version}}"),
}
ANSWER_SECONDS = 10.0


class Backend(Protocol):
    """What the commands need; every method raises ClusterError with a sentence for the user."""

    def state(self, layout: Layout) -> State:
        """Whether the cluster is absent, healthy, or left behind broken."""

    def up(self, layout: Layout, *, gpus: int, owner: Process | None) -> Record:
        """Start the cluster with one node that advertises `gpus` GPUs; its kubeconfig is then in the layout."""

    def down(self, layout: Layout) -> None:
        """Remove the cluster and everything that it left on the machine."""

    def load(self, layout: Layout, images: Sequence[str]) -> None:
        """Bring images of the local storage onto the node."""

    def advertise(self, layout: Layout, gpus: int) -> None:
        """Change how many GPUs the node advertises."""

    def gateway(self, layout: Layout, namespace: str) -> str:
        """Run a gateway for the Gateway `public` of this namespace; its URL."""

    def stop_gateway(self, layout: Layout) -> None:
        """End the gateway; the objects stay."""

    def metrics(self, layout: Layout) -> None:
        """Run a metrics-server; it goes with the cluster."""

    def logs(self, layout: Layout, program: str | None, lines: int) -> str:
        """The end of the logs of one program, or of all."""


def answers(command: Sequence[str]) -> bool:
    """Whether an engine's server, not only its command line program, is there."""
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(list(command), capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def choose(environment: Mapping[str, str] = os.environ, probe: Callable[[Sequence[str]], bool] = answers) -> Backend:
    """Choose kind with the first engine that answers, else native; PILOTFISH_BACKEND=kind or native decides instead."""
    wanted = environment.get("PILOTFISH_BACKEND", "")
    if wanted not in {"", "kind", "native"}:
        raise ClusterError(f"PILOTFISH_BACKEND={wanted}: use kind or native")
    if wanted == "native":
        return Native()
    for engine, command in ENGINES.items():
        if probe(command):
            return Kind(engine=engine)
    if wanted == "kind":
        raise ClusterError("PILOTFISH_BACKEND=kind, but neither docker nor podman answers: start one of them")
    return Native()


def backend_of(current: Record | None, *, default: Callable[[], Backend] = choose) -> Backend:
    """The backend that made a cluster, which stays responsible for it whatever answers today."""
    if current is None:
        return default()
    if current.mode is Mode.KIND:
        return Kind(engine=current.undo["engine"])
    return Native()
