"""How much memory is left for models, and which of several loaded ones must go so that another one fits.

A candidate is a process with a whole model in it. Ten candidates of a gigabyte each do not fit into a Job's limit:
those used least recently are parked (their process ends) and start again when they are asked.
"""

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
RESERVE = 512 << 20
"""Bytes that stay free for the parent's own work: arrays of answers, page tables, libraries."""
_KIB = 1024


class Parkable(Protocol):
    """A process that can end and start again."""

    def resident_bytes(self) -> int:
        """What it holds now; 0 when it does not run."""

    def expected_bytes(self) -> int:
        """What it will hold once its model is loaded."""

    def park(self) -> None:
        """End the process; the next question starts it again."""


class Room:
    """The memory that workers share. Keeps at least the one that is asked, whatever it weighs."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._members: list[Parkable] = []
        """Least recently used first."""

    def fits(self, newcomer: Parkable) -> bool:
        """Whether it may run beside all that run now."""
        return self._taken(without=newcomer) + newcomer.expected_bytes() <= self.budget

    def admit(self, newcomer: Parkable) -> None:
        """Make it the most recently used, and park others until it fits."""
        self.forget(newcomer)
        for member in list(self._members):
            if self.fits(newcomer):
                break
            member.park()
        self._members.append(newcomer)

    def forget(self, member: Parkable) -> None:
        """It is closed."""
        if member in self._members:
            self._members.remove(member)

    def _taken(self, *, without: Parkable) -> int:
        return sum(max(m.resident_bytes(), m.expected_bytes()) for m in self._running() if m is not without)

    def _running(self) -> Iterator[Parkable]:
        return (m for m in self._members if m.resident_bytes())


def budget_for_workers() -> int:
    """Bytes that workers may take beside this process, by the container's limit or the machine's free memory."""
    limit = container_limit()
    left = available_memory() if limit is None else min(available_memory(), limit - resident_bytes(os.getpid()))
    return max(left - RESERVE, 0)


def room_here() -> int:
    """Bytes that this process may still take, by the container's limit or the machine's free memory."""
    limit = container_limit()
    if limit is None:
        return available_memory()
    held = sum(resident_bytes(pid) for pid in (os.getpid(), *_children()))
    return max(min(available_memory(), limit - held), 0)


def give_back() -> None:
    """Return what is free in this process to the system: cycles that hold a model, pages that malloc keeps.

    After 8-bit weights of 1 GiB were made 1.3 GB stayed with the process otherwise, for nothing.
    """
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc has it, other C libraries give back by themselves or not at all
        ctypes.CDLL(None).malloc_trim(0)


def container_limit() -> int | None:
    """The memory limit of this container; None without one. Both generations of control groups are read."""
    for path in CGROUP_LIMITS:
        if path.is_file():
            text = path.read_text().strip()
            # The older generation says "none" with a number near 2^63.
            return int(text) if text.isdigit() and int(text) < 1 << 60 else None
    return None


def available_memory() -> int:
    """What the kernel would give away without swapping, `MemAvailable` of proc(5)."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def peak_bytes() -> int:
    """This process's largest resident size. Not getrusage: that starts from the parent's size at the fork."""
    return _field(Path("/proc/self/status"), "VmHWM")


def resident_bytes(pid: int) -> int:
    """`VmRSS` of proc(5); 0 when there is no such process any more."""
    try:
        return _field(Path(f"/proc/{pid}/status"), "VmRSS")
    except (OSError, StopIteration):  # it ended; what is left of it has no such line
        return 0


def _children() -> Iterator[int]:
    """Processes that a thread of this one has started."""
    for path in Path("/proc/self/task").glob("*/children"):
        yield from map(int, path.read_text().split())


def _field(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) * _KIB for line in lines if line.startswith(f"{name}:"))
