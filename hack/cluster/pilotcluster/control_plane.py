"""Start etcd, the API server and the controllers, on this machine's loopback or inside a node's namespaces."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pilotcluster import api, certificates, processes, programs, record
from pilotcluster.console import ClusterError, step, wait_for
from pilotcluster.paths import Layout
from pilotcluster.programs import Endpoints

READY_SECONDS = 120.0
LOG_TAIL = 600
# With Go's default a tenth of all processor time of the tests goes into collecting heaps of 100 MB.
LAZY_COLLECTOR = {"GOGC": "500"}

Wrap = Callable[[Sequence[str]], list[str]]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment, on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def loopback_endpoints() -> Endpoints:
    """Endpoints for a control plane without nodes."""
    api_port, etcd_port, peer_port = free_ports(3)
    return Endpoints(
        bind="127.0.0.1", api_port=api_port, etcd_port=etcd_port, etcd_peer_port=peer_port, services="10.96.0.0/24"
    )


def launch(
    layout: Layout, current: record.Record, name: str, command: Sequence[str], env: dict[str, str] | None = None
) -> record.Record:
    """Start one program and write it down at once."""
    process = processes.start(name, command, log=layout.logs / f"{name}.log", env={**LAZY_COLLECTOR, **(env or {})})
    current = current.with_processes([process])
    record.write(layout, current)
    return current


def start(
    layout: Layout, current: record.Record, kube: Path, endpoints: Endpoints, *, wrap: Wrap, clients: Sequence[str]
) -> record.Record:
    """Start the control plane and wait until it answers and its controllers work.

    `clients` names the certificates that get a kubeconfig in the config folder.
    Raises ClusterError with the end of the log of what did not start.
    """
    for name in clients:
        certificates.write_kubeconfig(layout, layout.client(name), certificate=name, server=endpoints.server)
    certificates.write_kubeconfig(layout, layout.kubeconfig, certificate="admin", server=endpoints.server)
    current = replace(current, server=endpoints.server)
    with step(f"etcd and API server at {endpoints.server}"):
        current = launch(layout, current, "etcd", wrap(programs.etcd(layout, kube, endpoints)))
        current = launch(layout, current, "kube-apiserver", wrap(programs.apiserver(layout, kube, endpoints)))
        server = api.connect(layout, endpoints.server)
        wait_while_alive(layout, current, "the API server's readiness", server.is_ready)
    with step("controllers"):
        # Not earlier: it gives up when the API server is not healthy within ten seconds.
        current = launch(layout, current, "kube-controller-manager", wrap(programs.controller_manager(layout, kube)))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_while_alive(layout, current, "the first service account", lambda: bool(server.call("GET", account)))
    return current


def wait_while_alive(layout: Layout, current: record.Record, what: str, probe: Callable[[], bool]) -> None:
    """Wait for a condition, but stop as soon as a program that it needs has ended.

    A call that the API server does not answer is no reason to stop: a busy machine may need a moment.
    """

    def check() -> bool:
        for process in current.processes:
            if not processes.is_alive(process):
                log = layout.logs / f"{process.name}.log"
                tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].replace("\n", " | ")
                raise ClusterError(f"{process.name} ended while waiting for {what}; the end of {log}: {tail}")
        try:
            return probe()
        except api.ApiError:
            return False

    wait_for(what, check, seconds=READY_SECONDS, hint=f"see {layout.logs}")


def port_was_taken(layout: Layout) -> bool:
    """Whether a program ended because another one listens on its port."""
    logs = (path.read_text(encoding="utf-8", errors="replace") for path in layout.logs.glob("*.log"))
    return any("address already in use" in text for text in logs)
