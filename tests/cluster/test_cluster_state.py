"""Telling a healthy cluster from what one left behind, and our processes from everybody else's."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pilotcluster import cli, processes, record
from pilotcluster.paths import Layout, cache_root
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record, State


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    return Layout(name="x", folder=tmp_path / "state" / "x")


@pytest.fixture
def sleeper(layout):
    """A program of ours: it stands in the cache and names the state folder."""
    program = cache_root() / "bin" / "sleep"
    program.parent.mkdir(parents=True)
    shutil.copyfile(shutil.which("tail"), program)
    program.chmod(0o755)
    layout.logs.mkdir(parents=True)
    (layout.logs / "x").touch()
    started = processes.start("sleeper", [str(program), "-f", f"{layout.logs}/x"], log=layout.logs / "sleeper.log")
    yield started
    processes.kill([started])


def made(layout, **changes):
    return replace(Record(name="x", mode=Mode.API_ONLY, boot=processes.boot_id(), complete=True), **changes)


def test_nothing_there_is_absent(layout):
    assert record.judge(layout) is State.ABSENT


def test_a_record_survives_the_way_to_disk(layout, sleeper):
    current = made(layout, processes=(sleeper,), owner=sleeper, kubeconfigs=("/k",), undo={"forwarding": "0"})
    record.write(layout, current)
    assert record.read(layout) == current


def test_running_while_every_process_lives(layout, sleeper):
    record.write(layout, made(layout, processes=(sleeper,)))
    assert record.judge(layout) is State.RUNNING
    processes.kill([sleeper])
    assert record.judge(layout) is State.BROKEN


@pytest.mark.parametrize("changes", [{"boot": "an earlier boot"}, {"complete": False}])
def test_a_reboot_and_a_half_done_start_are_broken(layout, sleeper, changes):
    record.write(layout, made(layout, processes=(sleeper,), **changes))
    assert record.judge(layout) is State.BROKEN


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "x"'])
def test_a_record_that_cannot_be_read_is_broken(layout, text):
    layout.folder.mkdir(parents=True)
    layout.record.write_text(text)
    assert record.judge(layout) is State.BROKEN


def test_a_process_id_that_was_given_to_somebody_else_is_not_ours(layout):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        began = processes.start_time(stranger.pid)
        assert processes.is_alive(Process(name="x", pid=stranger.pid, started=began))
        stale = Process(name="x", pid=stranger.pid, started=began - 1)
        assert not processes.is_alive(stale)
        processes.kill([stale])
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_strays_are_our_programs_only(layout, sleeper):
    stranger = subprocess.Popen(["tail", "-f", f"{layout.logs}/x"], stdout=subprocess.DEVNULL)
    try:
        assert [stray.pid for stray in processes.strays(layout.folder)] == [sleeper.pid]
        assert processes.strays(layout.folder.with_name("y")) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_process_is_dead_even_before_anybody_reaps_it(layout, sleeper):
    os.kill(sleeper.pid, signal.SIGKILL)
    processes.kill([sleeper])
    assert not processes.is_alive(sleeper)


def test_sweep_removes_what_an_ended_owner_left_and_nothing_else(layout, sleeper):
    gone = Process(name="owner", pid=sleeper.pid, started=sleeper.started - 1)
    record.write(layout, made(layout, processes=(sleeper,), owner=gone))
    neighbour = Layout(name="y", folder=layout.folder.with_name("y"))
    alive = Process(name="owner", pid=os.getpid(), started=processes.start_time(os.getpid()))
    record.write(neighbour, made(neighbour, name="y", owner=alive))
    cli.sweep(keep="z")
    assert not layout.folder.exists()
    assert not processes.is_alive(sleeper)
    assert neighbour.folder.exists()


def test_down_removes_an_unrecorded_process_and_the_written_kubeconfig(layout, sleeper, tmp_path):
    copy, changed = tmp_path / "copy", tmp_path / "changed"
    for path in (layout.kubeconfig, copy):
        path.write_text("ours")
    changed.write_text("somebody else's")
    record.write(layout, made(layout, kubeconfigs=(str(copy), str(changed))))
    assert cli.main(["down", "--name", "x"]) == 0
    assert not processes.is_alive(sleeper)
    assert not layout.folder.exists()
    assert not copy.exists()
    assert changed.exists()
    assert cli.main(["down", "--name", "x"]) == 0


def test_the_lock_goes_with_the_cluster(layout):
    with cli.locked(layout):
        assert list(layout.folder.parent.iterdir()) == [layout.folder.with_name(".x.lock")]
    assert list(layout.folder.parent.iterdir()) == []


def test_state_lives_where_the_environment_says(layout, tmp_path):
    assert layout.folder == Path(tmp_path) / "state" / "x"
