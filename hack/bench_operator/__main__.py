"""`make bench-operator`: what the operator costs beside the floor, for 100, 1,000 and 3,000 objects (SIZES="100 1000").

For each size two API servers of their own, one after the other, their controllers standing still: at the first a bare
client sends the writes that the operator would send, at the second the operator is at work. Requests are counted by
the API server, CPU and memory are the kernel's figures. Busy neighbours change CPU by 15 %, counts never.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench_operator.load import NAMESPACE, SETTINGS, load, serve, write_floor
from bench_operator.machine import Requests, Server, cpu_seconds, memory_mib, own_requests
from bench_operator.report import show, show_served
from support.apiserver import running_api_server
from support.kube import install_crd, make_kubectl
from support.operator_process import OperatorProcess, install_rights, running_operator

SIZES = (100, 1000, 3000)
OPERATOR = {
    **SETTINGS,
    "log_level": "INFO",
    "resync": 300,
    "drain": 15,
    "lease_duration": 120,
    "lease_renew_deadline": 110,
    "lease_retry": 10,
}
"""As the chart has it, but for the Lease: on a busy machine the bench must not end for a late renewal."""
QUIET = 5.0
"""Seconds of next to no CPU after which nothing happens any more."""
IDLE = 0.03
"""Share of a core that an operator at rest takes at most."""
WAKE_UP = 70.0
"""Nobody makes pods here: after a minute every object says so, once."""
STEADY = 120.0
SERVED = 100
"""Objects that are brought all the way to Ready."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one stretch of time: CPU seconds by program, requests by verb and resource, seconds until quiet."""

    cpu: dict[str, float] = field(default_factory=dict)
    requests: Requests = field(default_factory=Requests)
    seconds: float = 0.0
    memory: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All of one size. `made`: children per object."""

    count: int
    idle: tuple[float, float]
    floor: Figures
    new: Figures
    minute: Figures
    steady: Figures
    restart: Figures
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Objects on their whole way to Ready, with real controllers and a played kubelet; then a restart among them."""

    count: int
    way: Figures
    restart: Figures
    steady: Figures
    children: tuple[str, ...]


def main() -> None:
    """Run the sizes named on the command line, or all; at last the whole way of a few."""
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        show(run(size))
    show_served(run_served(SERVED))


def run(count: int) -> Run:
    """Floor, then operator, each on a fresh server."""
    with server() as (ours, account):
        floor = measure_floor(ours, account, count)
    with server() as (ours, account):
        with running_operator(account, **OPERATOR) as operator:
            operator.wait_until_said("lease acquired")
            wait_quiet(operator)
            idle = memory_mib(operator.process.pid)
            new = measure(ours, operator, lambda: bring(ours, count, "operator"))
            minute = measure(ours, operator, lambda: wait(WAKE_UP, "the first minute of every object"))
            steady = measure(ours, operator, lambda: wait(STEADY, "nothing changes"), quiet=False)
            operator.stop()
        children = made_of_each(ours)
        say("a restart")
        before = Mark.now(ours)
        with running_operator(account, **OPERATOR) as operator:
            operator.wait_until_said("lease acquired")
            seconds, pid = wait_quiet(operator, since=before.began), operator.process.pid
            restart = before.until(Mark.now(ours, pid), seconds=seconds, pid=pid)
    return Run(
        count=count,
        idle=idle,
        floor=floor,
        new=new,
        minute=minute,
        steady=steady,
        restart=restart,
        children=children,
    )


def run_served(count: int) -> Served:
    """Until all are Ready; what the operator asked is what it counted itself: others are at work as well."""
    with server(hold=False) as (ours, account):
        with running_operator(account, **OPERATOR) as operator:
            operator.wait_until_said("lease acquired")
            wait_quiet(operator)
            before = Mark.now(ours, operator.process.pid)
            bring(ours, count, "served")
            asyncio.run(serve(ours.kubeconfig, count, lambda ready: say(f"{ready} of {count} are Ready")))
            seconds, pid = wait_quiet(operator, since=before.began), operator.process.pid
            way = before.until(Mark.now(ours, pid), seconds=seconds, pid=pid)
            way.requests = own_requests(operator.get("/metrics"))
            operator.stop()
        ours.hold_controllers()
        children = made_of_each(ours)
        before = Mark.now(ours)
        with running_operator(account, **OPERATOR) as operator:
            operator.wait_until_said("lease acquired")
            seconds, pid = wait_quiet(operator, since=before.began), operator.process.pid
            restart = before.until(Mark.now(ours, pid), seconds=seconds, pid=pid)
            steady = measure(ours, operator, lambda: wait(STEADY, "nothing changes"), quiet=False)
    return Served(count=count, way=way, restart=restart, steady=steady, children=children)


@contextmanager
def server(*, hold: bool = True) -> Iterator[tuple[Server, Path]]:
    """A fresh API server that knows our kind, and the kubeconfig of the operator's account."""
    say("a fresh API server")
    with running_api_server() as kubeconfig, tempfile.TemporaryDirectory() as folder:
        kubectl = make_kubectl(kubeconfig)
        install_crd(kubectl)
        account = install_rights(kubectl, Path(folder))
        kubectl.run("create", "namespace", NAMESPACE)
        ours = Server.of(kubeconfig)
        if hold:
            ours.hold_controllers()
        try:
            yield ours, account
        finally:
            ours.release_controllers()


def measure_floor(ours: Server, account: Path, count: int) -> Figures:
    """The load and the writes of a client that does nothing else."""
    before = Mark.now(ours)
    bodies = bring(ours, count, "floor")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests"
        write_floor(bodies, file)
        say(f"floor: the writes of {count} objects")
        command = [sys.executable, "-m", "bench_operator.floor", str(account), str(file)]
        client = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    after = Mark.now(ours)
    cpu = {name: used - before.cpu[name] for name, used in after.cpu.items()}
    requests, seconds = after.requests - before.requests, after.began - before.began
    return Figures(cpu={**cpu, "client": client}, requests=requests, seconds=seconds)


def measure(ours: Server, operator: OperatorProcess, act: Callable[[], object], *, quiet: bool = True) -> Figures:
    """What an act and everything that follows from it costs."""
    pid = operator.process.pid
    before = Mark.now(ours, pid)
    act()
    seconds = wait_quiet(operator, since=before.began) if quiet else time.monotonic() - before.began
    return before.until(Mark.now(ours, pid), seconds=seconds, pid=pid)


@dataclass(frozen=True, slots=True)
class Mark:
    """How things stood at one moment."""

    cpu: dict[str, float]
    requests: Requests
    began: float

    @classmethod
    def now(cls, ours: Server, pid: int | None = None) -> "Mark":
        """With the CPU of the operator, if it runs already."""
        own = {} if pid is None else {"operator": cpu_seconds(pid)}
        return cls({**ours.cpu(), **own}, ours.requests(), time.monotonic())

    def until(self, later: "Mark", *, seconds: float, pid: int) -> Figures:
        """What happened between the two."""
        cpu = {name: used - self.cpu.get(name, 0.0) for name, used in later.cpu.items()}
        return Figures(cpu=cpu, requests=later.requests - self.requests, seconds=seconds, memory=memory_mib(pid))


def wait_quiet(operator: OperatorProcess, *, since: float | None = None) -> float:
    """Until the operator has used next to no CPU for a while; seconds from `since` to the beginning of that while."""
    pid, began = operator.process.pid, time.monotonic()
    used, at = cpu_seconds(pid), time.monotonic()
    quiet_from = at
    while time.monotonic() - quiet_from < QUIET:
        time.sleep(1.0)
        assert operator.process.poll() is None, f"the operator ended: {operator.log.read_text()[-2000:]}"
        now, then = cpu_seconds(pid), time.monotonic()
        if (now - used) / (then - at) > IDLE:
            quiet_from = then
        used, at = now, then
        say(f"until quiet: {now:.1f} CPU s")
    return quiet_from - (began if since is None else since)


def wait(seconds: float, why: str) -> None:
    """Let time pass."""
    for left in range(int(seconds), 0, -1):
        say(f"{why}: {left} s")
        time.sleep(1.0)


def bring(ours: Server, count: int, whose: str) -> list:
    """Create the objects."""
    return asyncio.run(load(ours.kubeconfig, count, lambda done: say(f"{whose}: {done} of {count} objects created")))


def made_of_each(ours: Server) -> tuple[str, ...]:
    """Kinds of children of one object."""
    kinds = "networkpolicies,pvc,jobs,configmaps,services,deployments,controllerrevisions,poddisruptionbudgets"
    labels = "app.kubernetes.io/managed-by=pilotfish,pilotfish.dev/name=model-00000"
    found = make_kubectl(ours.kubeconfig).run("get", kinds, "-n", NAMESPACE, "-l", labels, "-o", "name")
    return tuple(sorted(line.partition("/")[0].partition(".")[0] for line in found.splitlines()))


def say(what: str) -> None:
    """Progress: on one line of a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _said[-1] > SAY_EVERY:
        _said.append(time.monotonic())
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


_said = [0.0]
SAY_EVERY = 10.0


if __name__ == "__main__":
    main()
