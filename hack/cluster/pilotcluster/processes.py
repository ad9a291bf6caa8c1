"""Processes that outlive this program, told apart from everybody else's.

A process is ours when its id, start time and boot are the recorded ones, or when it runs one of our programs with
the cluster's state folder in its command line. Nothing else is ever signalled.
"""

import os
import signal
import subprocess
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotcluster.console import wait_for
from pilotcluster.paths import cache_root

HOLDERS = frozenset({"unshare", "nsenter", "docker-registry"})
KILL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Process:
    """A started process; `started` is in clock ticks since boot."""

    name: str
    pid: int
    started: int


def boot_id() -> str:
    """Identity of this boot of the machine: process ids mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_time(pid: int) -> int | None:
    """Start of a live process in ticks since boot; None when it is gone or only a zombie.

    A zombie with threads is the first of its process namespace and still ends the others: it counts as alive.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    state, threads, began = fields[0], int(fields[17]), int(fields[19])
    return None if state in "ZX" and threads <= 1 else began


def start(name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Process:
    """Start a process in its own session with both outputs appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(  # it must live on after this program
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    return Process(name=name, pid=child.pid, started=start_time(child.pid) or 0)


def is_alive(process: Process) -> bool:
    """Whether this very process, not a later one with the same id, still runs."""
    return start_time(process.pid) == process.started


def strays(folder: Path) -> list[Process]:
    """Our programs that name the state folder on their command line, recorded or not."""
    needle = f"{folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            cmdline = (entry / "cmdline").read_bytes()
            program = Path((entry / "exe").readlink())
        except OSError:
            continue
        ours = program.name in HOLDERS or program.is_relative_to(cache_root())
        began = start_time(int(entry.name))
        if needle in cmdline and ours and began is not None:
            found.append(Process(name=program.name, pid=int(entry.name), started=began))
    return found


def running(folder: Path, names: Container[str]) -> list[Process]:
    """Our programs of these names that work for the state folder."""
    return [process for process in strays(folder) if process.name in names]


def kill(processes: Iterable[Process]) -> None:
    """Kill at once and wait until they are gone: a cluster's state is thrown away, so nobody needs to flush.

    Raises ClusterError when one survives.
    """
    targets = [process for process in processes if is_alive(process)]
    for process in targets:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for(
        f"end of {', '.join(sorted({process.name for process in targets}))}",
        lambda: not any(is_alive(process) for process in targets),
        seconds=KILL_SECONDS,
    )
    for process in targets:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            continue


def first_child(pid: int) -> int | None:
    """The first child of a process; None while it has none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(children[0]) if children else None
