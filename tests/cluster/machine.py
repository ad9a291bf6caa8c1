"""What one cluster has on a machine, sorted by kind, told apart from everything that others have there."""

import subprocess
from pathlib import Path

from pilotcluster import node_config, processes, sandbox
from pilotcluster.node_config import Addresses
from pilotcluster.paths import Layout
from pilotcluster.record import Record

MEMBERS = "members of its namespaces"
SHARED = ("/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/run/netns", "/opt/containerd", "/etc/cni")


def namespaces(holder: int) -> set[str]:
    """Identities of a process's own namespaces."""
    return {str(Path(f"/proc/{holder}/ns/{kind}").readlink()) for kind in ("net", "mnt", "pid")}


def traces(layout: Layout, current: Record, spaces: set[str]) -> dict[str, list[str]]:
    """Everything of this cluster on the machine; every list is empty once it is gone."""
    addresses = Addresses(current.index)
    wire, group = sandbox.link_name(addresses), node_config.cgroup_name(layout.name)
    alive = {process for process in current.processes if processes.is_alive(process)}
    return {
        "processes": sorted(str(process) for process in alive.union(processes.strays(layout.folder))),
        MEMBERS: sorted(_members(spaces)),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if f"{layout.folder}/" in line],
        "links": [entry.name for entry in Path("/sys/class/net").iterdir() if entry.name == wire],
        "routes": [line for line in _lines("ip", "route") if addresses.node in line or f"dev {wire} " in line],
        "rules": [line for line in _lines("iptables-save") if f"pilotfish-{layout.name} " in line],
        "control groups": [str(top / group) for top in sandbox.hierarchies() if (top / group).exists()],
        "files": sorted(str(path) for path in layout.folder.parent.glob(f"*{layout.name}*")),
    }


def shared_settings() -> dict[str, object]:
    """What all nodes of a machine share, with the names of those that hang on it."""
    links = sorted(entry.name for entry in Path("/sys/class/net").iterdir() if entry.name.startswith("pilotfish"))
    folders = [folder for folder in SHARED if Path(folder).exists()]
    return {"nodes": links, "folders": folders, "forwarding": sandbox.FORWARDING.read_text().strip()}


def _members(spaces: set[str]) -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and not spaces.isdisjoint(namespaces(int(entry.name))):
                found.add(entry.name)
        except OSError:
            continue
    return found


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
