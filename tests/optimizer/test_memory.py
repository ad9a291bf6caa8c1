"""Models that do not fit beside each other take turns; the answers stay the same."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotfish.optimizer import memory
from pilotfish.optimizer.memory import Room
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import Worker
from support.canaries import write_model

GIB = 1 << 30


@dataclass(eq=False)
class Process:
    weight: int
    runs: bool = False

    def resident_bytes(self) -> int:
        return self.weight if self.runs else 0

    def expected_bytes(self) -> int:
        return self.weight

    def park(self) -> None:
        self.runs = False


def ask(room: Room, process: Process) -> None:
    room.admit(process)
    process.runs = True


def running(*processes: Process) -> list[bool]:
    return [p.runs for p in processes]


def test_all_run_where_all_fit():
    room, a, b = Room(2 * GIB), Process(GIB), Process(GIB)
    ask(room, a)
    ask(room, b)
    assert running(a, b) == [True, True]


def test_the_least_recently_used_goes_first():
    room, a, b, c = Room(2 * GIB), Process(GIB), Process(GIB), Process(GIB)
    for one in (a, b, a, c):
        ask(room, one)
    assert running(a, b, c) == [True, False, True]


def test_what_children_hold_is_not_there_for_the_parent(tmp_path, monkeypatch):
    (limit := tmp_path / "memory.max").write_text(str(4 * GIB))
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (limit,))
    monkeypatch.setattr(memory, "available_memory", lambda: 64 * GIB)
    alone = memory.room_here()
    assert alone <= 4 * GIB - memory.resident_bytes(os.getpid()) + (64 << 20)
    with subprocess.Popen(["python", "-c", "held = bytes(range(256)) * 2**20; print(flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # fmt: skip
        child.stdout.readline()
        assert alone - memory.room_here() > 200 << 20
        child.communicate(b"\n")


def test_a_model_that_only_a_cycle_holds_is_given_back():
    holder = [np.zeros(64 << 20, np.uint8) + 1]
    holder.append(holder)
    held = memory.resident_bytes(os.getpid())
    del holder
    memory.give_back()
    assert held - memory.resident_bytes(os.getpid()) > 60 << 20


def test_no_more_go_than_must():
    room, small, large, next_one = Room(4 * GIB), Process(GIB), Process(3 * GIB), Process(GIB)
    for one in (large, small, next_one):
        ask(room, one)
    assert running(small, large, next_one) == [True, False, True]


def test_what_is_asked_runs_though_it_never_fits():
    room, a, huge = Room(GIB), Process(GIB), Process(5 * GIB)
    ask(room, a)
    ask(room, huge)
    assert running(a, huge) == [False, True]


def test_the_closed_are_forgotten():
    room, a, b = Room(GIB), Process(GIB), Process(GIB)
    ask(room, a)
    room.forget(a)
    ask(room, b)
    assert a.runs, "a process that is nobody's business any more was parked"


@pytest.mark.parametrize(("text", "limit"), [("max", None), ("4294967296", 4 * GIB), ("9223372036854771712", None)])
def test_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, limit: int | None):
    (tmp_path / "limit").write_text(text + "\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "missing", tmp_path / "limit"))
    assert memory.container_limit() == limit


def test_the_limit_counts_this_process_and_a_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "limit").write_text(str(3 * GIB))
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (tmp_path / "limit",))
    monkeypatch.setattr(memory, "available_memory", lambda: 100 * GIB)
    monkeypatch.setattr(memory, "resident_bytes", lambda _pid: GIB)
    assert memory.budget_for_workers() == 2 * GIB - memory.RESERVE


def test_workers_that_take_turns_answer_as_if_each_were_alone(tmp_path: Path):
    inputs = tmp_path / "inputs.safetensors"
    rng = np.random.default_rng(3)
    save_file({"image": rng.random((6, 1, 8, 8), dtype=np.float32)}, inputs)
    room = Room(1)  # nothing fits beside anything
    workers = []
    for scale in (1.0, 2.0):
        path = write_model(tmp_path / f"{scale}.onnx", scale=scale)
        subject = Subject(kind="onnx", path=str(path), threads=1, inputs=str(inputs), outputs=("logits",), batched=True)
        workers.append(Worker(subject, work=tmp_path, room=room))
    one, two = workers
    with one, two:
        first, second = one.run(batch=2), two.run(batch=2)
        assert two.resident_bytes() > 0
        assert one.resident_bytes() == 0
        (name,) = first
        np.testing.assert_array_equal(one.run(batch=2)[name], first[name])
        assert not np.array_equal(first[name], second[name])
        assert two.resident_bytes() == 0
        assert len(two.time(batch=1, warmup=1, min_runs=3, min_seconds=0, max_seconds=1)["times"]) >= 3
