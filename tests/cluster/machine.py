"""What a cluster could leave on a machine, as a set of lines that can be compared before and after."""

import subprocess
from pathlib import Path

from pilotcluster import processes, sandbox
from pilotcluster.node_config import cgroup_name
from pilotcluster.paths import Layout

SHARED = ("/var/lib/kubelet", "/var/lib/cni", "/run/containerd", "/run/netns", "/opt/containerd", "/etc/cni")


def traces(layout: Layout) -> set[str]:
    """Processes, mounts, network links, routes, rules, namespaces, control groups and folders, one line each."""
    found = {f"process {process.name} {process.pid}" for process in processes.strays(layout.folder)}
    mounts = Path("/proc/mounts").read_text().splitlines()
    found |= {f"mount {line}" for line in mounts if "pilotfish" in line or "netns" in line or "kubelet" in line}
    found |= {f"link {entry.name}" for entry in Path("/sys/class/net").iterdir()}
    found |= {f"route {line}" for line in _lines("ip", "route")}
    found |= {f"rule {line}" for line in _lines("iptables-save") if line.startswith("-A")}
    found |= {f"namespace {line}" for line in _lines("lsns", "--noheadings", "--output=NS,TYPE", "--type=net")}
    found |= {f"control group {top}" for top in sandbox.hierarchies() if (top / cgroup_name(layout.name)).exists()}
    found |= {f"folder {folder}" for folder in SHARED if Path(folder).exists()}
    found |= {f"state {path}" for path in layout.folder.parent.glob(f"*{layout.name}*")}
    return found | {f"forwarding {sandbox.FORWARDING.read_text().strip()}"}


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines()]
