"""A whole cluster with one real node, inside namespaces of its own on this machine."""

import fcntl
import ipaddress
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotcluster import (
    api,
    bootstrap,
    certificates,
    control_plane,
    gpus,
    images,
    node_config,
    packages,
    pause_image,
    processes,
    programs,
    record,
    sandbox,
    tools,
)
from pilotcluster.api import Api
from pilotcluster.console import ClusterError, step
from pilotcluster.node_config import MAX_CLUSTERS, Addresses, node_name
from pilotcluster.paths import Layout, state_root
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record

CLIENTS = ("controller-manager", "scheduler", "kubelet", "kube-proxy", "coredns", "provisioner")
RESOLV_CONFS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def up(layout: Layout, *, gpu_count: int, owner: Process | None) -> Record:
    """Start control plane and node and wait until the node is Ready. Raises ClusterError saying what did not start."""
    if os.geteuid() != 0:
        raise ClusterError("a real node without docker or podman needs root: run this as root, or start an engine")
    if layout.folder.is_relative_to("/run") or layout.folder.is_relative_to("/var/log"):
        raise ClusterError(f"state folder {layout.folder}: choose PILOTFISH_STATE outside of /run and /var/log")
    packages.require()
    kubernetes, containerd = tools.kubernetes_folder(), tools.containerd_folder()
    with step("namespaces, network and certificates"):
        current, addresses, holder = _make_sandbox(layout, kubernetes / "pause", owner)
        _write_files(layout, addresses)

    def inside(command: Sequence[str]) -> list[str]:
        return programs.inside(holder, layout, command)

    kube = kubernetes / "kube"
    path = {"PATH": f"{containerd}:{os.environ.get('PATH', '')}:{packages.SBIN}"}
    runtime = inside(programs.containerd(layout, containerd / "containerd"))
    current = control_plane.launch(layout, current, "containerd", runtime, path)
    current = control_plane.start(layout, current, kube, addresses.endpoints, wrap=inside, clients=CLIENTS)
    server = api.connect(layout, current.server)
    server.apply(bootstrap.make_objects(addresses.endpoints, node=node_name(layout.name)))
    with step("pause image"):
        archive = layout.folder / "pause.tar"
        pause_image.write_pause_image(archive, kubernetes / "pause")
        images.ctr(holder, containerd / "ctr", "images", "import", str(archive))
    with step(f"node {node_name(layout.name)} is Ready"):
        commands = {
            "kube-scheduler": programs.scheduler(layout, kube),
            "kubelet": programs.kubelet(layout, kube, node=node_name(layout.name), address=addresses.node),
            "kube-proxy": programs.kube_proxy(layout, kube),
            "coredns": programs.coredns(layout, kubernetes / "coredns"),
            "provisioner": programs.provisioner(layout, kube),
        }
        for name, command in commands.items():
            current = control_plane.launch(layout, current, name, inside(command), path)
        control_plane.wait_while_alive(layout, current, "the node's Ready", lambda: is_ready(server, layout.name))
    gpus.advertise_storage(server, node_name(layout.name), shutil.disk_usage(layout.folder).total)
    gpus.advertise(server, node_name(layout.name), gpu_count)
    return current


def is_ready(server: Api, cluster: str) -> bool:
    """Whether the node reports Ready."""
    node = server.call("GET", f"/api/v1/nodes/{node_name(cluster)}")
    conditions = node["status"].get("conditions", []) if node else []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def clean(layout: Layout, current: Record | None) -> None:
    """Undo what a node changed outside of its namespaces; its processes are gone already."""
    sandbox.remove_cgroups(layout.name)
    if current is None or current.mode is not Mode.NODE:
        return
    addresses = Addresses(current.index)
    sandbox.disconnect(addresses, cluster=layout.name)
    if sandbox.other_wires(addresses):
        # Removing a folder would take it away under the other node's mount on it.
        return
    sandbox.FORWARDING.write_text(current.undo.get("forwarding", "1"), encoding="ascii")
    for folder in map(Path, json.loads(current.undo.get("folders", "[]"))):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def holder_of(current: Record) -> int:
    """The first process inside the node's namespaces. Raises ClusterError when there is none."""
    for process in current.processes:
        if process.name == "node-init":
            return process.pid
    raise ClusterError(f"cluster {current.name} has no node: start it without --api-only")


def _make_sandbox(layout: Layout, pause: Path, owner: Process | None) -> tuple[Record, Addresses, int]:
    with _index_lock():
        addresses = Addresses(free_index(json.loads(sandbox.run("ip", "-4", "-j", "route"))))
        others = _other_nodes(layout)
        undo = others[0].undo if others else {"forwarding": sandbox.FORWARDING.read_text(encoding="ascii").strip()}
        current = Record(
            name=layout.name,
            mode=Mode.NODE,
            boot=processes.boot_id(),
            index=addresses.index,
            owner=owner,
            undo=dict(undo),
        )
        record.write(layout, current)
        outer, inner = sandbox.hold(layout, pause)
        current = current.with_processes([outer, inner])
        record.write(layout, current)
        made = sandbox.mount(layout, inner.pid)
        folders = sorted({*json.loads(undo.get("folders", "[]")), *map(str, made)})
        current = replace(current, undo={**undo, "folders": json.dumps(folders)})
        record.write(layout, current)
        sandbox.connect(addresses, holder=inner.pid, cluster=layout.name)
    sandbox.make_cgroups(layout.name)
    return current, addresses, inner.pid


def _write_files(layout: Layout, addresses: Addresses) -> None:
    endpoints = addresses.endpoints
    wanted = certificates.api_certificates(addresses=(endpoints.bind, endpoints.service_api))
    wanted += certificates.node_certificates(node=node_name(layout.name), address=addresses.node)
    certificates.issue(layout, wanted)
    texts = [path.read_text(encoding="utf-8") for path in RESOLV_CONFS if path.exists()]
    runc = packages.find_program("runc") or "runc"
    node_config.write_configs(layout, addresses, runc=runc, upstream=node_config.upstream_servers(*texts))
    layout.volumes.mkdir(exist_ok=True)


def free_index(routes: Iterable[dict[str, Any]]) -> int:
    """The first index none of whose networks the machine has a route to. Raises ClusterError when all are taken."""
    taken = [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    for index in range(MAX_CLUSTERS):
        addresses = Addresses(index)
        wanted = [ipaddress.ip_network(text) for text in (addresses.link, addresses.pods, addresses.services)]
        if not any(network.overlaps(other) for network in wanted for other in taken):
            return index
    raise ClusterError("every network that a cluster could use is taken: take clusters down with `cluster down --name`")


def _other_nodes(layout: Layout) -> list[Record]:
    found = [record.read(Layout(name=path.parent.name, folder=path.parent)) for path in _records(layout)]
    return [item for item in found if item and item.mode is Mode.NODE and item.boot == processes.boot_id()]


def _records(layout: Layout) -> list[Path]:
    return sorted(path for path in state_root().glob("*/state.json") if path.parent != layout.folder)


@contextmanager
def _index_lock() -> Iterator[None]:
    with (state_root() / ".networks.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
