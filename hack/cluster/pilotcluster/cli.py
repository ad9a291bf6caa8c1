"""The commands of hack/cluster/cluster. Progress goes to standard error, results to standard output."""

import argparse
import fcntl
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pilotcluster import api, native, node, processes, record, tools
from pilotcluster.console import ClusterError, say, step
from pilotcluster.paths import DEFAULT_NAME, Layout, layout_of, state_root
from pilotcluster.processes import Process
from pilotcluster.record import State


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Only one command changes a cluster at a time."""
    state_root().mkdir(parents=True, exist_ok=True)
    lock = layout.folder.with_name(f".{layout.name}.lock")
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        if not layout.folder.exists():
            lock.unlink(missing_ok=True)


def up(args: argparse.Namespace) -> None:
    """Bring the cluster up; a healthy one is left as it is."""
    layout = layout_of(args.name)
    sweep(keep=args.name)
    with locked(layout):
        state = record.judge(layout)
        if state is State.BROKEN:
            with step(f"clean what an earlier cluster {args.name} left behind"):
                native.down(layout)
        if state is not State.RUNNING:
            owner = owner_of(args.owner_pid)
            if args.api_only:
                current = native.up_api_only(layout, owner=owner)
            else:
                current = node.up(layout, gpu_count=args.gpus, owner=owner)
            record.write(layout, replace(current, complete=True))
        if args.kubeconfig:
            shutil.copyfile(layout.kubeconfig, args.kubeconfig)
            Path(args.kubeconfig).chmod(0o600)
    say(f"cluster {args.name} is up: export KUBECONFIG={args.kubeconfig or layout.kubeconfig}")


def owner_of(pid: int | None) -> Process | None:
    """The owner as a process that can be told from a later one with the same id."""
    started = processes.start_time(pid) if pid else None
    return Process(name="owner", pid=pid, started=started) if pid and started else None


def sweep(*, keep: str) -> None:
    """Remove clusters whose owner ended without taking them down."""
    for folder in sorted(state_root().glob("*/state.json")):
        layout = layout_of(folder.parent.name)
        current = record.read(layout)
        if layout.name != keep and current and record.owner_is_gone(current):
            with locked(layout), step(f"remove cluster {layout.name}, whose owner has ended"):
                native.down(layout)


def down(args: argparse.Namespace) -> None:
    """Remove the cluster and everything that it left on the machine."""
    layout = layout_of(args.name)
    with locked(layout):
        if layout.folder.exists():
            with step(f"remove cluster {args.name}"):
                native.down(layout)


def status(args: argparse.Namespace) -> None:
    """Say whether the cluster runs."""
    layout = layout_of(args.name)
    state = record.judge(layout)
    current = record.read(layout)
    if state is State.RUNNING and current and not api.connect(layout, current.server).is_ready():
        state = State.BROKEN
    print(state.value if current is None else f"{state.value} ({current.mode.value}) {current.server}")


def kubeconfig(args: argparse.Namespace) -> None:
    """Print the path of the administrator's kubeconfig."""
    layout = layout_of(args.name)
    if not layout.kubeconfig.exists():
        raise ClusterError(f"no cluster {args.name}: start it with `cluster up --name {args.name}`")
    print(layout.kubeconfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit code 1 with one line for anything that went wrong."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in {"up": up, "down": down, "status": status, "kubeconfig": kubeconfig}.items():
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("--name", default=DEFAULT_NAME)
        command.set_defaults(run=function)
        if name == "up":
            command.add_argument("--api-only", action="store_true")
            command.add_argument("--kubeconfig")
            command.add_argument("--gpus", type=int, default=2)
            command.add_argument("--owner-pid", type=int)
    commands.add_parser("tools", help="print the folder of helm and kubectl").set_defaults(
        run=lambda _args: print(tools.client_folder())
    )
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0
