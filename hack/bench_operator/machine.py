"""What processes have used, and what an API server was asked: exact counts, CPU seconds, resident memory."""

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pilotfish.adapters.kinds import PLURALS
from support.kube import make_kubectl

_TICK = os.sysconf("SC_CLK_TCK")
_REQUEST = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_OWN = re.compile(r"^pilotfish_api_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
OURS = frozenset(PLURALS.values()) - {"leases"}
"""What the operator asks about, without the Lease: that goes by time, not by objects."""

Requests = Counter[tuple[str, str]]
"""By verb and resource, `modeldeployments/status` for a subresource."""


def own_requests(page: str) -> Requests:
    """What the operator's metrics say it asked, by verb and kind, refused or not."""
    found: Requests = Counter()
    for labels, count in _OWN.findall(page):
        label = dict(_LABEL.findall(labels))
        if label["kind"] not in {"Lease", "APIResourceList"} and label["verb"] != "WATCH":
            found[label["verb"], label["kind"]] += int(float(count))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident memory now, and the most it ever was."""
    found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return tuple(int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Server:
    """One API server with its etcd and without its controllers: they stand still, so that only one side works."""

    kubeconfig: Path
    pids: dict[str, int]

    @classmethod
    def of(cls, kubeconfig: Path) -> "Server":
        """The server behind a kubeconfig of hack/cluster."""
        record = json.loads((kubeconfig.parent / "state.json").read_text())
        return cls(kubeconfig, {process["name"]: process["pid"] for process in record["processes"]})

    def hold_controllers(self) -> None:
        """Nobody makes pods, counts them, or collects garbage from here on."""
        os.kill(self.pids["kube-controller-manager"], signal.SIGSTOP)

    def release_controllers(self) -> None:
        """So that they can be told to end."""
        os.kill(self.pids["kube-controller-manager"], signal.SIGCONT)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far by program."""
        return {name: cpu_seconds(self.pids[name]) for name in ("kube-apiserver", "etcd")}

    def requests(self) -> Requests:
        """Everything it was asked so far, streams left out: these count when they end."""
        found: Requests = Counter()
        for labels, count in _REQUEST.findall(make_kubectl(self.kubeconfig).run("get", "--raw", "/metrics")):
            label = dict(_LABEL.findall(labels))
            if label["resource"] in OURS and label["verb"] != "WATCH":
                what = "/".join(part for part in (label["resource"], label["subresource"]) if part)
                found[label["verb"], what] += int(float(count))
        return found
