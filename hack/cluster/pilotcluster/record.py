"""What a cluster remembers of itself, and the judgement made from it: absent, running, or left behind broken."""

import enum
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pilotcluster.paths import Layout
from pilotcluster.processes import Process, boot_id, is_alive


class State(enum.Enum):
    """What the state folder and the process table say together."""

    ABSENT = "absent"
    RUNNING = "running"
    BROKEN = "broken"


class Mode(enum.Enum):
    """How much of a cluster runs."""

    API_ONLY = "api-only"
    NODE = "node"
    KIND = "kind"


@dataclass(frozen=True, slots=True)
class Record:
    """Written before the first process starts and after each one; `complete` when `up` has ended well."""

    name: str
    mode: Mode
    boot: str
    server: str = ""
    index: int = 0
    owner: Process | None = None
    processes: tuple[Process, ...] = ()
    complete: bool = False
    kubeconfigs: tuple[str, ...] = ()
    undo: dict[str, str] = field(default_factory=dict)

    def with_processes(self, more: Iterable[Process]) -> "Record":
        """The record with more processes."""
        return replace(self, processes=(*self.processes, *more))


def write(layout: Layout, record: Record) -> None:
    """Replace the record in one step, so that a reader never sees half of it."""
    layout.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    scratch = layout.record.with_suffix(".tmp")
    scratch.write_text(json.dumps({**asdict(record), "mode": record.mode.value}, indent=1), encoding="utf-8")
    scratch.replace(layout.record)


def read(layout: Layout) -> Record | None:
    """The record; None when there is none or when it cannot be read (the folder is then left-over)."""
    try:
        data: dict[str, Any] = json.loads(layout.record.read_text(encoding="utf-8"))
        data["mode"] = Mode(data["mode"])
        data["processes"] = tuple(Process(**item) for item in data["processes"])
        data["owner"] = Process(**data["owner"]) if data["owner"] else None
        data["kubeconfigs"] = tuple(data["kubeconfigs"])
        return Record(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def judge(layout: Layout) -> State:
    """ABSENT without a state folder; RUNNING when started completely in this boot and every process is alive."""
    if not layout.folder.exists():
        return State.ABSENT
    record = read(layout)
    if record is None or not record.complete or record.boot != boot_id():
        return State.BROKEN
    return State.RUNNING if all(is_alive(process) for process in record.processes) else State.BROKEN


def owner_is_gone(record: Record) -> bool:
    """Whether the process that asked for this cluster has ended without taking it down."""
    return record.owner is not None and (record.boot != boot_id() or not is_alive(record.owner))
