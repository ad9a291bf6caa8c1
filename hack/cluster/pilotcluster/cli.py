"""The commands of hack/cluster/cluster. Progress goes to standard error, results to standard output."""

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pilotcluster import backend, processes, record, tools
from pilotcluster.console import ClusterError, say, step
from pilotcluster.native import Native
from pilotcluster.paths import DEFAULT_NAME, Layout, layout_of, state_root
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record, State

DEFAULT_GPUS = 2


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Only one command changes a cluster at a time; the lock file goes with the cluster."""
    state_root().mkdir(parents=True, exist_ok=True)
    lock = layout.folder.with_name(f".{layout.name}.lock")
    while True:
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                still_the_file = lock.stat().st_ino == os.fstat(handle.fileno()).st_ino
            except FileNotFoundError:
                continue
            if not still_the_file:
                continue
            try:
                yield
            finally:
                if not layout.folder.exists():
                    lock.unlink(missing_ok=True)
            return


def up(args: argparse.Namespace) -> None:
    """Bring the cluster up; a healthy one is left as it is."""
    layout = layout_of(args.name)
    sweep(keep=args.name)
    with locked(layout):
        current = record.read(layout)
        responsible = _responsible(current, api_only=args.api_only)
        state = responsible.state(layout)
        if state is State.RUNNING and current:
            _use_running(layout, current, args)
        else:
            if state is State.BROKEN:
                with step(f"clean what an earlier cluster {args.name} left behind"):
                    responsible.down(layout)
            current = _start(layout, args)
        if args.kubeconfig:
            current = _copy_kubeconfig(layout, current, Path(args.kubeconfig).absolute())
        record.write(layout, replace(current, complete=True))
    say(f"cluster {args.name} is up: export KUBECONFIG={args.kubeconfig or layout.kubeconfig}")


def down(args: argparse.Namespace) -> None:
    """Remove the cluster and everything that it left on the machine."""
    layout = layout_of(args.name)
    if not layout.folder.exists():
        say(f"no cluster {args.name}")
        return
    with locked(layout), step(f"remove cluster {args.name}"):
        backend.backend_of(record.read(layout)).down(layout)


def status(args: argparse.Namespace) -> int:
    """Say whether the cluster runs; exit code 1 when it does not."""
    layout = layout_of(args.name)
    current = record.read(layout)
    state = backend.backend_of(current).state(layout)
    details = f" ({current.mode.value}) {current.server}".rstrip() if current else ""
    print(f"{state.value}{details}")
    return 0 if state is State.RUNNING else 1


def load(args: argparse.Namespace) -> None:
    """Bring locally built images onto the node."""
    layout = _existing(args.name)
    with locked(layout):
        backend.backend_of(record.read(layout)).load(layout, args.images)


def gpus(args: argparse.Namespace) -> None:
    """Change how many GPUs the node advertises."""
    layout = _existing(args.name)
    backend.backend_of(record.read(layout)).advertise(layout, args.count)


def gateway(args: argparse.Namespace) -> None:
    """Run a real gateway (Contour and Envoy) for the Gateway `public` of a namespace, and print its URL."""
    layout = _existing(args.name)
    with locked(layout):
        responsible = backend.backend_of(record.read(layout))
        if args.stop:
            responsible.stop_gateway(layout)
        else:
            print(responsible.gateway(layout, args.namespace))


def metrics(args: argparse.Namespace) -> None:
    """Run a real metrics-server, for `kubectl top` and autoscalers."""
    layout = _existing(args.name)
    with locked(layout):
        backend.backend_of(record.read(layout)).metrics(layout)


def print_gateway_api(_args: argparse.Namespace) -> None:
    """Print the folder of the Gateway API's CRDs, which are fetched when missing."""
    print(tools.gateway_api_folder())


def logs(args: argparse.Namespace) -> None:
    """Print the end of the programs' logs."""
    layout = _existing(args.name)
    print(backend.backend_of(record.read(layout)).logs(layout, args.program, args.lines))


def kubeconfig(args: argparse.Namespace) -> None:
    """Print the path of the administrator's kubeconfig."""
    print(_existing(args.name).kubeconfig)


def print_tools(_args: argparse.Namespace) -> None:
    """Print the folder of helm and kubectl, which are fetched when missing."""
    print(tools.client_folder())


def print_monitoring_crds(_args: argparse.Namespace) -> None:
    """Print the folder of the CRDs PodMonitor and PrometheusRule, which are fetched when missing."""
    print(tools.monitoring_crds_folder())


def print_helm3(_args: argparse.Namespace) -> None:
    """Print the path of Helm 3, which is built when missing."""
    print(tools.helm3_program())


def make_programs(_args: argparse.Namespace) -> None:
    """Fetch or build all that tests without nodes start: minutes on a new machine, more than one test may take."""
    for make in (
        tools.client_folder,
        tools.kubernetes_folder,
        tools.helm3_program,
        tools.gateway_api_folder,
        tools.monitoring_crds_folder,
    ):
        make()


def sweep(*, keep: str) -> None:
    """Remove clusters whose owner ended without taking them down."""
    for path in sorted(state_root().glob("*/state.json")):
        layout = layout_of(path.parent.name)
        current = record.read(layout)
        if layout.name == keep or current is None or not record.owner_is_gone(current):
            continue
        with locked(layout):
            if layout.folder.exists():
                with step(f"remove cluster {layout.name}, whose owner has ended"):
                    backend.backend_of(current).down(layout)


def _existing(name: str) -> Layout:
    layout = layout_of(name)
    if not layout.kubeconfig.exists():
        raise ClusterError(f"no cluster {name}: start it with `cluster up --name {name}`")
    return layout


def _responsible(current: Record | None, *, api_only: bool) -> backend.Backend:
    return backend.backend_of(current, default=Native if api_only else backend.choose)


def _start(layout: Layout, args: argparse.Namespace) -> Record:
    started = processes.start_time(args.owner_pid) if args.owner_pid else None
    owner = Process(name="owner", pid=args.owner_pid, started=started) if started else None
    if args.api_only:
        return Native().up_api_only(layout, owner=owner)
    count = DEFAULT_GPUS if args.gpus is None else args.gpus
    return backend.choose().up(layout, gpus=count, owner=owner)


def _use_running(layout: Layout, current: Record, args: argparse.Namespace) -> None:
    if args.api_only != (current.mode is Mode.API_ONLY):
        raise ClusterError(
            f"cluster {layout.name} runs as {current.mode.value}: take it down first, or choose another --name"
        )
    if args.gpus is not None and not args.api_only:
        backend.backend_of(current).advertise(layout, args.gpus)


def _copy_kubeconfig(layout: Layout, current: Record, target: Path) -> Record:
    target.touch(mode=0o600)
    target.chmod(0o600)
    shutil.copyfile(layout.kubeconfig, target)
    return replace(current, kubeconfigs=tuple(sorted({*current.kubeconfigs, str(target)})))


def _not_negative(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of GPUs, 0 or more")
    return int(text)


PRINTERS = {
    "tools": print_tools,
    "helm3": print_helm3,
    "gateway-api": print_gateway_api,
    "monitoring-crds": print_monitoring_crds,
    "programs": make_programs,
}
"""Commands about programs and files, not about a cluster."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="cluster", description="A local Kubernetes for development and tests.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    functions = {
        "up": up, "down": down, "status": status, "load": load, "gpus": gpus, "logs": logs,
        "gateway": gateway, "metrics": metrics, "kubeconfig": kubeconfig, **PRINTERS,
    }  # fmt: skip
    parsers = {name: commands.add_parser(name, help=function.__doc__) for name, function in functions.items()}
    usual = os.environ.get("PILOTFISH_CLUSTER") or DEFAULT_NAME
    for name, function in functions.items():
        parsers[name].set_defaults(run=function)
        if name not in PRINTERS:
            parsers[name].add_argument("--name", default=usual, help="name of the cluster (%(default)s)")
    parsers["up"].add_argument("--api-only", action="store_true", help="etcd, API server and controllers, no node")
    parsers["up"].add_argument("--kubeconfig", metavar="FILE", help="write the kubeconfig here as well")
    parsers["up"].add_argument("--gpus", type=_not_negative, help=f"GPUs the node advertises ({DEFAULT_GPUS})")
    parsers["up"].add_argument(
        "--owner-pid", type=int, help="once this process is gone, the next `up` removes the cluster"
    )
    parsers["load"].add_argument("images", nargs="+", metavar="IMAGE")
    parsers["gpus"].add_argument("count", type=_not_negative)
    parsers["gateway"].add_argument("--namespace", default="default", help="where the Gateway stands (%(default)s)")
    parsers["gateway"].add_argument("--stop", action="store_true", help="end it; the objects stay")
    parsers["logs"].add_argument("program", nargs="?", help="kubelet, kube-apiserver, … (all)")
    parsers["logs"].add_argument("--lines", type=int, default=20)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit code 1 with one line for anything that went wrong."""
    args = make_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cluster: interrupted; `cluster down` or the next `cluster up` cleans up", file=sys.stderr)
    return 1
