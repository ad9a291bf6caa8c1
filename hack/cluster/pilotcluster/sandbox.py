"""The node's own corner of the machine: namespaces for mounts, network and processes, and a control group.

Everything that a node does to a machine happens in there, so that the kernel itself removes it with the first
process. What must be outside is little and is undone by name: one wire, one NAT rule, one sysctl, the control group.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pilotcluster import processes
from pilotcluster.console import ClusterError, wait_for
from pilotcluster.node_config import Addresses, cgroup_name
from pilotcluster.packages import find_program
from pilotcluster.paths import Layout
from pilotcluster.processes import Process

# Folders that programs insist on; each becomes one of the state folder's inside the node.
PRIVATE_FOLDERS = (Path("/var/lib/kubelet"), Path("/var/lib/cni"), Path("/var/log"))
CGROUPS = Path("/sys/fs/cgroup")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
LINKS = Path("/sys/class/net")
CGROUP_SECONDS = 20.0
START_SECONDS = 10.0

MOUNTS = """
mount --make-rshared /
mount -t tmpfs -o mode=755 node-run /run
mkdir /run/netns
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
while [ $# -gt 0 ]; do
  mkdir -p "$1"
  mount --bind "$1" "$2"
  shift 2
done
"""


def run(*command: str) -> str:
    """Run a system program. Raises ClusterError with the program's last line."""
    program = find_program(command[0])
    if program is None:
        raise ClusterError(f"{command[0]} is not installed")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ClusterError(f"{' '.join(command[:6])} failed: {reason}")
    return done.stdout


def hold(layout: Layout, pause: Path) -> tuple[Process, Process]:
    """Start the process that keeps the namespaces; gives it and the first process inside."""
    flags = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")
    outer = processes.start("node", ["unshare", *flags, str(pause), f"{layout.folder}/"], log=layout.logs / "node.log")

    def inner() -> int | None:
        pid = processes.first_child(outer.pid)
        try:
            return pid if pid and Path(f"/proc/{pid}/exe").readlink() == pause.resolve() else None
        except OSError:
            return None

    pid = wait_for("the node's first process", inner, seconds=START_SECONDS, hint=f"see {layout.logs / 'node.log'}")
    return outer, Process(name="node-init", pid=pid, started=processes.start_time(pid) or 0)


def enter(holder: int, *command: str) -> str:
    """Run a system program inside the namespaces."""
    return run("nsenter", f"--target={holder}", "--mount", "--net", "--pid", "--", *command)


def mount(layout: Layout, holder: int) -> list[Path]:
    """Make the node's private folders; gives those that did not exist on the machine before."""
    made = [folder for folder in PRIVATE_FOLDERS if not folder.exists()]
    for folder in made:
        folder.mkdir(parents=True)
    pairs = [word for folder in PRIVATE_FOLDERS for word in (f"{layout.folder}/var/{folder.name}", str(folder))]
    enter(holder, "sh", "-euc", MOUNTS, "sh", *pairs)
    return made


def link_name(addresses: Addresses) -> str:
    """Name of the machine's end of the wire."""
    return f"pilotfish{addresses.index}"


def nat_rule(addresses: Addresses, *, cluster: str) -> list[str]:
    """The rule that lets a node reach what the machine reaches."""
    return [
        "-A", "POSTROUTING", "-s", addresses.link, "!", "-o", link_name(addresses),
        "-m", "comment", "--comment", f"pilotfish-{cluster}", "-j", "MASQUERADE",
    ]  # fmt: skip


def nat_removals(saved: str, *, cluster: str) -> list[list[str]]:
    """Arguments that delete each of the cluster's rules in what iptables-save printed."""
    rules = [line.replace('"', "").split() for line in saved.splitlines() if line.startswith("-A ")]
    return [["-D", *rule[1:]] for rule in rules if f"pilotfish-{cluster}" in rule]


def connect(addresses: Addresses, *, holder: int, cluster: str) -> None:
    """Lay the wire between machine and node, with routes to pods and services."""
    wire = link_name(addresses)
    run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", str(holder))
    run("ip", "address", "add", f"{addresses.host}/30", "dev", wire)
    run("ip", "link", "set", wire, "up")
    for network in (addresses.pods, addresses.services):
        run("ip", "route", "add", network, "via", addresses.node)
    script = (
        'ip link set lo up; ip address add "$1/30" dev eth0; ip link set eth0 up; ip route add default via "$2"; '
        "echo 1 > /proc/sys/net/ipv4/ip_forward"
    )
    enter(holder, "sh", "-euc", script, "sh", addresses.node, addresses.host)
    run("iptables", "-w", "-t", "nat", *nat_rule(addresses, cluster=cluster))
    FORWARDING.write_text("1", encoding="ascii")


def other_wires(addresses: Addresses) -> bool:
    """Whether another node hangs on this machine and needs what all of them share."""
    names = {entry.name for entry in LINKS.iterdir()} - {link_name(addresses)}
    return any(re.fullmatch(r"pilotfish\d+", name) for name in names)


def disconnect(addresses: Addresses, *, cluster: str) -> None:
    """Take the wire and the rule away."""
    wire = LINKS / link_name(addresses)
    if wire.exists():
        try:
            run("ip", "link", "delete", wire.name)
        except ClusterError:
            # The kernel takes the wire away by itself once the node's end is gone.
            if wire.exists():
                raise
    for rule in nat_removals(run("iptables-save", "-t", "nat"), cluster=cluster):
        run("iptables", "-w", "-t", "nat", *rule)


def hierarchies() -> Iterator[Path]:
    """Every control group hierarchy: one with cgroup v2, one for each controller with v1."""
    if (CGROUPS / "cgroup.procs").exists():
        yield CGROUPS
        return
    for folder in sorted({entry.resolve() for entry in CGROUPS.iterdir()}):
        if (folder / "cgroup.procs").exists():
            yield folder


def make_cgroups(cluster: str) -> None:
    """Make the cluster's group in every hierarchy, ready for children."""
    for top in hierarchies():
        group = top / cgroup_name(cluster)
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (top / setting).exists():
                (group / setting).write_text((top / setting).read_text(encoding="ascii"), encoding="ascii")
        offered = top / "cgroup.controllers"
        if top == CGROUPS and offered.exists():
            wanted = " ".join(f"+{name}" for name in offered.read_text(encoding="ascii").split())
            (top / "cgroup.subtree_control").write_text(wanted, encoding="ascii")


def remove_cgroups(cluster: str) -> None:
    """Remove the cluster's groups; the kernel may need a moment after the last process. Raises ClusterError."""
    deadline = time.monotonic() + CGROUP_SECONDS
    for top in hierarchies():
        group = top / cgroup_name(cluster)
        if not group.exists():
            continue
        folders: Sequence[Path] = [group, *(path for path in group.rglob("*") if path.is_dir())]
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            wait_for(
                f"removal of control group {folder}",
                partial(_removed, folder),
                seconds=max(0.0, deadline - time.monotonic()),
            )


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
