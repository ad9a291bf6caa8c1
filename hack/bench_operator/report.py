"""The figures as a table beside their goals."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench_operator.__main__ import Figures, Run, Served

ROW = "{:<58} {:>12} {:>10} {}"
READS = {"GET", "LIST"}


def show(run: "Run") -> None:
    """One block per size."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    count, new, floor = run.count, run.new, run.floor
    asked = {key: n for key, n in new.requests.items() if not _is_load(key)}
    print(f"\n{count} objects; children of each: {', '.join(run.children)}")
    for (verb, what), n in sorted(asked.items()):
        print(f"    {verb:<6} {what:<34} {n:>8} {n / count:>8.2f} per object")
    _row("API requests per new object until quiet", sum(asked.values()) / count, goal=6)
    first_minute = sum(run.minute.requests.values()) / count
    _row("  more after a minute, said of Jobs that got no pod", first_minute)
    _row("controller CPU, ms per object", new.cpu["operator"] / count * 1000, goal=8)
    _row("API server CPU s", new.cpu["kube-apiserver"])
    _row("etcd CPU s", new.cpu["etcd"])
    _row("floor: API server, etcd, client CPU s", _sum(floor), note=_parts(floor))
    _row("API server and etcd, ratio to the floor's", _served(new) / _served(floor))
    _row("all CPU, ratio to the floor", _sum(new) / _sum(floor), goal=1.5)
    _row("all CPU, ratio to a floor whose client costs nothing", _sum(new) / _served(floor))
    _row("seconds until quiet, ratio to the floor", new.seconds / floor.seconds, note=f"{new.seconds:.0f} s")
    _row("restart: LISTs", _reads(run.restart), note=_named(run.restart))
    _row("restart: writes", _writes(run.restart), goal=0)
    _row("restart: controller CPU s", run.restart.cpu["operator"], goal=4)
    _row("restart: seconds until quiet", run.restart.seconds)
    minutes = run.steady.seconds / 60
    _row("steady: writes", _writes(run.steady), goal=0, note=f"in {minutes:.1f} min")
    _row("steady: controller CPU s per minute", run.steady.cpu["operator"] / minutes, goal=0.1)
    _row("RSS MiB, idle", run.idle[0])
    _row("RSS MiB with the objects", run.steady.memory[0], goal=150, note=f"peak {run.steady.memory[1]:.0f}")
    _row("RSS MiB after the restart", run.restart.memory[0], goal=150, note=f"peak {run.restart.memory[1]:.0f}")


def show_served(served: "Served") -> None:
    """One block: what a whole life costs, and a restart among whole children."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    count, way = served.count, served.way
    print(f"\n{count} objects all the way to Ready; children of each: {', '.join(served.children)}")
    for (verb, what), n in sorted(way.requests.items()):
        print(f"    {verb:<6} {what:<34} {n:>8} {n / count:>8.2f} per object")
    _row("children that the operator makes", len(served.children))
    _row("API requests per object until Ready and quiet", sum(way.requests.values()) / count)
    _row("  of them reads", sum(n for (verb, _), n in way.requests.items() if verb in READS) / count)
    _row("controller CPU, ms per object", way.cpu["operator"] / count * 1000)
    _row("restart: LISTs", _reads(served.restart), note=_named(served.restart))
    _row("restart: writes, all children compared", _writes(served.restart), goal=0)
    _row("restart: controller CPU s", served.restart.cpu["operator"])
    _row("steady: writes", _writes(served.steady), goal=0, note=f"in {served.steady.seconds / 60:.1f} min")
    _row("RSS MiB after the restart", served.restart.memory[0], note=f"peak {served.restart.memory[1]:.0f}")


def _row(what: str, figure: float, *, goal: float | None = None, note: str = "") -> None:
    verdict = "" if goal is None else f"<= {goal:g}{'' if figure <= goal else ' MISSED'}"
    print(ROW.format(what, f"{figure:.2f}".rstrip("0").rstrip("."), verdict, note).rstrip(), flush=True)


def _is_load(key: tuple[str, str]) -> bool:
    """What the bench itself asks: the objects of the load."""
    return key == ("APPLY", "modeldeployments")


def _served(figures: "Figures") -> float:
    return figures.cpu["kube-apiserver"] + figures.cpu["etcd"]


def _sum(figures: "Figures") -> float:
    return sum(figures.cpu.values())


def _parts(figures: "Figures") -> str:
    return ", ".join(f"{name} {used:.1f}" for name, used in sorted(figures.cpu.items()))


def _reads(figures: "Figures") -> int:
    return sum(n for (verb, _), n in figures.requests.items() if verb in READS)


def _writes(figures: "Figures") -> int:
    return sum(n for (verb, _), n in figures.requests.items() if verb not in READS)


def _named(figures: "Figures") -> str:
    return ", ".join(f"{what} {n}" for (verb, what), n in sorted(figures.requests.items()) if verb in READS)
