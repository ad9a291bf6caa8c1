"""The kind backend: a node in a container, where docker or podman answers.

The command lines are pure functions, so that they can be checked on a machine without an engine.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotcluster import gpus as gpu_resources
from pilotcluster import processes, record, tools
from pilotcluster.console import ClusterError, step
from pilotcluster.paths import REPOSITORY, Layout
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record, State

CONFIG = REPOSITORY / "kind-config.yaml"
WAIT = "180s"


def create_command(kind: str, layout: Layout) -> list[str]:
    """Create the cluster of kind-config.yaml with its kubeconfig in the state folder only."""
    return [
        kind, "create", "cluster", f"--name={layout.name}", f"--config={CONFIG}",
        f"--kubeconfig={layout.kubeconfig}", f"--wait={WAIT}",
    ]  # fmt: skip


def delete_command(kind: str, layout: Layout) -> list[str]:
    """Delete the cluster."""
    return [kind, "delete", "cluster", f"--name={layout.name}", f"--kubeconfig={layout.kubeconfig}"]


def advertise_command(kubectl: str, layout: Layout, count: int) -> list[str]:
    """Make the node advertise GPUs."""
    return [
        kubectl, f"--kubeconfig={layout.kubeconfig}", "patch", "node", node_name(layout.name),
        "--subresource=status", "--type=merge", f"--patch={json.dumps(gpu_resources.make_patch(count))}",
    ]  # fmt: skip


def load_commands(kind: str, layout: Layout, images: Sequence[str], *, engine: str, archive: Path) -> list[list[str]]:
    """Load images; podman's need an archive in between."""
    if engine == "docker":
        return [[kind, "load", "docker-image", f"--name={layout.name}", *images]]
    save = ["podman", "save", "--multi-image-archive", f"--output={archive}", *images]
    return [save, [kind, "load", "image-archive", f"--name={layout.name}", str(archive)]]


def node_name(cluster: str) -> str:
    """Name of the one node, as kind gives it."""
    return f"{cluster}-control-plane"


@dataclass(frozen=True, slots=True)
class Kind:
    """A cluster in a container of this engine, docker or podman."""

    engine: str

    def state(self, layout: Layout) -> State:
        """See backend.Backend."""
        current = record.read(layout)
        exists = layout.name in self._run([self._kind(), "get", "clusters"]).split()
        if not exists and not layout.folder.exists():
            return State.ABSENT
        if not exists or current is None or not current.complete:
            return State.BROKEN
        ready = [self._kubectl(), f"--kubeconfig={layout.kubeconfig}", "get", "--raw=/readyz"]
        healthy = subprocess.run(ready, capture_output=True, check=False).returncode == 0
        return State.RUNNING if healthy else State.BROKEN

    def up(self, layout: Layout, *, gpus: int, owner: Process | None) -> Record:
        """See backend.Backend."""
        current = Record(
            name=layout.name, mode=Mode.KIND, boot=processes.boot_id(), owner=owner, undo={"engine": self.engine}
        )
        record.write(layout, current)
        with step(f"kind cluster {layout.name} in {self.engine} (the first time fetches the node image)"):
            self._run(create_command(self._kind(), layout))
        self.advertise(layout, gpus)
        return current

    def down(self, layout: Layout) -> None:
        """See backend.Backend."""
        self._run(delete_command(self._kind(), layout))
        shutil.rmtree(layout.folder, ignore_errors=True)

    def load(self, layout: Layout, images: Sequence[str]) -> None:
        """See backend.Backend."""
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "images.tar"
            commands = load_commands(self._kind(), layout, images, engine=self.engine, archive=archive)
            with step(f"load {' '.join(images)}"):
                for command in commands:
                    self._run(command)

    def advertise(self, layout: Layout, gpus: int) -> None:
        """See backend.Backend."""
        self._run(advertise_command(self._kubectl(), layout, gpus))

    def gateway(self, layout: Layout, namespace: str) -> str:
        """See backend.Backend."""
        raise ClusterError(
            f"cluster {layout.name} runs in {self.engine}: install a gateway of your choice for namespace {namespace} "
            "with kubectl, or use PILOTFISH_BACKEND=native"
        )

    def stop_gateway(self, layout: Layout) -> None:
        """See backend.Backend: there is none that this program started."""

    def metrics(self, layout: Layout) -> None:
        """See backend.Backend."""
        raise ClusterError(
            f"cluster {layout.name} runs in {self.engine}: install metrics-server with kubectl, "
            "or use PILOTFISH_BACKEND=native"
        )

    def logs(self, layout: Layout, program: str | None, lines: int) -> str:
        """See backend.Backend: the node's journal, of the unit with the program's name when one is given."""
        unit = [f"--unit={program}"] if program else []
        node = node_name(layout.name)
        return self._run([self.engine, "exec", node, "journalctl", "--no-pager", f"--lines={lines}", *unit])

    def _kind(self) -> str:
        return shutil.which("kind") or str(tools.kind_program())

    def _kubectl(self) -> str:
        return str(tools.client_folder() / "kubectl")

    def _run(self, command: Sequence[str]) -> str:
        env = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": self.engine}
        done = subprocess.run(list(command), env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ClusterError(f"{Path(command[0]).name} {' '.join(command[1:3])} failed: {reason}")
        return done.stdout
