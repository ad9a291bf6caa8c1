"""The native backend: real Kubernetes programs on this machine, no engine needed."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotcluster import (
    api,
    certificates,
    control_plane,
    gateway,
    gpus,
    images,
    metrics,
    node,
    node_config,
    processes,
    record,
    tools,
)
from pilotcluster.console import ClusterError, say, step, wait_for
from pilotcluster.paths import Layout
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record, State

ATTEMPTS = 3
# A busy machine is not a broken cluster: `up` on a cluster that is judged broken throws it away.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Native:
    """Clusters of real programs; several at once, each in its own state folder."""

    def state(self, layout: Layout) -> State:
        """See backend.Backend."""
        state, current = record.judge(layout), record.read(layout)
        if state is not State.RUNNING or current is None:
            return state
        if _is_healthy(layout, current):
            return State.RUNNING
        try:
            with step(f"wait for cluster {layout.name} to answer"):
                wait_for("health", lambda: _is_healthy(layout, current), seconds=PATIENCE_SECONDS)
        except ClusterError:
            return State.BROKEN
        return State.RUNNING

    def up(self, layout: Layout, *, gpus: int, owner: Process | None) -> Record:
        """See backend.Backend."""
        return node.up(layout, gpu_count=gpus, owner=owner)

    def up_api_only(self, layout: Layout, *, owner: Process | None) -> Record:
        """Start etcd, the API server and the controllers on free loopback ports, without root and without nodes."""
        kube = tools.kubernetes_folder() / "kube"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _start_api_only(layout, kube, owner)
            except ClusterError:
                # Another program may have taken a port between its choice and its use.
                if attempt == ATTEMPTS or not control_plane.port_was_taken(layout):
                    raise
                say("  a port was taken meanwhile: trying others")
                self.down(layout)
        raise AssertionError

    def down(self, layout: Layout) -> None:
        """See backend.Backend."""
        current = record.read(layout)
        recorded = current.processes if current and current.boot == processes.boot_id() else ()
        processes.kill([*recorded, *processes.strays(layout.folder)])
        node.clean(layout, current)
        for copy in map(Path, current.kubeconfigs if current else ()):
            if copy.exists() and layout.kubeconfig.exists() and copy.read_bytes() == layout.kubeconfig.read_bytes():
                copy.unlink()
        if layout.folder.exists():
            shutil.rmtree(layout.folder)

    def load(self, layout: Layout, names: Sequence[str]) -> None:
        """See backend.Backend."""
        current = _running_node(layout)
        addresses = node_config.Addresses(current.index)
        images.load(layout, names, holder=node.holder_of(current), address=addresses.host)

    def advertise(self, layout: Layout, count: int) -> None:
        """See backend.Backend."""
        current = _running_node(layout)
        gpus.advertise(api.connect(layout, current.server), node_config.node_name(layout.name), count)

    def gateway(self, layout: Layout, namespace: str) -> str:
        """See backend.Backend."""
        current = _running_node(layout)
        addresses = node_config.Addresses(current.index)
        return gateway.start(
            layout, current, holder=node.holder_of(current), address=addresses.node, namespace=namespace
        )

    def stop_gateway(self, layout: Layout) -> None:
        """See backend.Backend."""
        gateway.stop(layout)

    def metrics(self, layout: Layout) -> None:
        """See backend.Backend."""
        current = _running_node(layout)
        addresses = node_config.Addresses(current.index)
        metrics.start(layout, current, holder=node.holder_of(current), address=addresses.node)

    def logs(self, layout: Layout, program: str | None, lines: int) -> str:
        """See backend.Backend."""
        files = sorted(layout.logs.glob(f"{program or '*'}.log"))
        if not files:
            raise ClusterError(f"no log of {program or 'any program'} in {layout.logs}")
        ends = {path: path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] for path in files}
        return "\n".join("\n".join([f"==> {path.name}", *end]) for path, end in ends.items())


def _start_api_only(layout: Layout, kube: Path, owner: Process | None) -> Record:
    endpoints = control_plane.loopback_endpoints()
    current = Record(name=layout.name, mode=Mode.API_ONLY, boot=processes.boot_id(), owner=owner)
    record.write(layout, current)
    with step("certificates"):
        wanted = certificates.api_certificates(addresses=(endpoints.bind, endpoints.service_api))
        certificates.issue(layout, wanted)
    return control_plane.start(layout, current, kube, endpoints, wrap=list, clients=("controller-manager",))


def _is_healthy(layout: Layout, current: Record) -> bool:
    server = api.connect(layout, current.server)
    try:
        return server.is_ready() and (current.mode is Mode.API_ONLY or node.is_ready(server, layout.name))
    except api.ApiError:
        return False


def _running_node(layout: Layout) -> Record:
    current = record.read(layout)
    if record.judge(layout) is not State.RUNNING or current is None or current.mode is not Mode.NODE:
        raise ClusterError(f"cluster {layout.name} has no running node: `cluster up --name {layout.name}` starts one")
    return current
