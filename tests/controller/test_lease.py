import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from pilotfish.controller.fence import FencedCluster, NotLeader
from pilotfish.controller.lease import Lease, LeaseLost, LeaseTimes
from pilotfish.ports import ClusterError, Conflict
from support.virtual_time import run_in_virtual_time


class LeaseServer:
    """One Lease with versions; can be cut off, per replica."""

    def __init__(self):
        self.body = None
        self.versions = itertools.count(1)
        self.down = set()
        self.lost = 0

    def of(self, who):
        return Connection(self, who)


class Connection:
    def __init__(self, server, who):
        self.server, self.who = server, who

    async def get(self, ref):
        await self._trip()
        return self.server.body

    async def put(self, body):
        await self._trip()
        current = self.server.body
        version = body["metadata"].get("resourceVersion")
        if (None if current is None else current["metadata"]["resourceVersion"]) != version:
            raise Conflict("too late")
        self.server.body = {
            **body,
            "metadata": {**body["metadata"], "resourceVersion": str(next(self.server.versions))},
        }
        return self.server.body

    async def _trip(self):
        await asyncio.sleep(0.05)
        if self.who in self.server.down:
            raise ClusterError("no route")
        if self.server.lost:
            self.server.lost -= 1
            await asyncio.Event().wait()


class SkewedClock:
    """Wall clocks of replicas differ; the Lease must not care."""

    def __init__(self, minutes):
        self.skew = timedelta(minutes=minutes)

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + self.skew + timedelta(seconds=now())


def now():
    return asyncio.get_running_loop().time()


def make_lease(server, who, *, skew=0, **more):
    return Lease(
        store=server.of(who), clock=SkewedClock(skew), namespace="s", name="l", identity=who, times=LeaseTimes(), **more
    )


def test_the_first_comer_holds_and_the_second_waits():
    async def story():
        server = LeaseServer()
        first, second = make_lease(server, "a"), make_lease(server, "b", skew=60)
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(600)
        assert not waiting.done()
        assert first.may_write_until is not None
        assert second.may_write_until is None
        holding.cancel()
        waiting.cancel()

    run_in_virtual_time(story())


@pytest.mark.parametrize("skew", [-60, 0, 60])
def test_a_dead_holder_is_replaced_after_its_duration_whatever_the_clocks_say(skew):
    async def story():
        server = LeaseServer()
        first, second = make_lease(server, "a"), make_lease(server, "b", skew=skew)
        await first.acquire()
        start = now()
        await second.acquire()
        return now() - start

    assert 15 <= run_in_virtual_time(story()) <= 15 + 2 + 1


def test_a_released_lease_is_taken_at_the_next_try():
    async def story():
        server = LeaseServer()
        first, second = make_lease(server, "a"), make_lease(server, "b")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(5)
        start = now()
        await first.release()
        await waiting
        assert first.may_write_until is None
        return now() - start

    assert run_in_virtual_time(story()) <= 2.5


def test_a_holder_that_is_cut_off_stops_before_another_may_begin():
    async def story():
        server = LeaseServer()
        first, second = make_lease(server, "a"), make_lease(server, "b")
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(20)
        server.down.add("a")
        with pytest.raises(LeaseLost):
            await holding
        lost = now()
        assert first.may_write_until is None
        assert second.may_write_until is None
        await waiting
        return now() - lost

    assert run_in_virtual_time(story()) > 1


def test_a_short_outage_loses_nothing():
    async def story():
        server = LeaseServer()
        lease = make_lease(server, "a")
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        for _ in range(10):
            await asyncio.sleep(10)
            server.down.add("a")
            await asyncio.sleep(6)
            server.down.discard("a")
        assert not holding.done()
        assert lease.may_write_until is not None
        holding.cancel()

    run_in_virtual_time(story())


def test_an_answer_that_never_comes_loses_nothing():
    async def story():
        server = LeaseServer()
        lease = make_lease(server, "a")
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        for _ in range(10):
            await asyncio.sleep(20)
            server.lost = 1
        await asyncio.sleep(20)
        assert not holding.done()
        assert lease.may_write_until is not None
        holding.cancel()

    run_in_virtual_time(story())


def test_a_standby_that_asked_into_the_void_asks_again():
    async def story():
        server = LeaseServer()
        lease = make_lease(server, "a")
        server.lost = 1
        start = now()
        await lease.acquire()
        return now() - start

    assert run_in_virtual_time(story()) <= 8


def test_the_process_is_to_end_after_it_may_write_and_before_another_may():
    async def story():
        server, ends = LeaseServer(), []
        lease = make_lease(server, "a", end_at=ends.append)
        await lease.acquire()
        begun = now() - 0.1
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(0)
        until = lease.may_write_until
        assert ends == [pytest.approx(begun + 12.5)]
        assert until < ends[-1] < begun + 15
        await asyncio.sleep(9)
        assert len(ends) == 5, "it moves with each renewal"
        server.down.add("a")
        with pytest.raises(LeaseLost):
            await holding
        assert ends[-1] is None, "who knows that the Lease is lost may go in peace"
        assert now() < ends[-2]

    run_in_virtual_time(story())


def test_who_gives_the_lease_back_may_live():
    async def story():
        server, ends = LeaseServer(), []
        lease = make_lease(server, "a", end_at=ends.append)
        await lease.acquire()
        await lease.release()
        assert ends[-1] is None

    run_in_virtual_time(story())


def test_giving_the_lease_back_to_a_silent_server_ends():
    async def story():
        server = LeaseServer()
        lease = make_lease(server, "a")
        await lease.acquire()
        server.lost = 1
        start = now()
        await lease.release()
        return now() - start

    assert run_in_virtual_time(story()) <= 5


STOPPED = """
import asyncio, os, signal, sys
from pilotfish.controller.fence import end_process_at

async def main():
    end_process_at(asyncio.get_running_loop().time() + 1)
    if sys.argv[1] == "moved":
        end_process_at(asyncio.get_running_loop().time() + 60)
    if sys.argv[1] == "lifted":
        end_process_at(None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(1, b"a write")

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("told", "code", "wrote"), [("", 14, b""), ("moved", 0, b"a write"), ("lifted", 0, b"a write")]
)
def test_a_process_that_was_stopped_too_long_does_nothing_any_more(told, code, wrote):
    """The first instruction after SIGCONT would be the write: nothing in the process itself could still prevent it."""
    process = subprocess.Popen([sys.executable, "-c", STOPPED, told], stdout=subprocess.PIPE)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    time.sleep(1.2)  # stopped for longer than it has
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, wrote)


def test_the_first_process_of_a_container_ends_too():
    """The kernel spares it the default action of signals."""
    script = STOPPED.replace("os.kill(os.getpid(), signal.SIGSTOP)", "import time; time.sleep(5)")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--pid", "--fork", sys.executable, "-c", script, ""],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (14, b""), done.stderr


def test_a_lease_that_somebody_else_took_is_lost():
    async def story():
        server = LeaseServer()
        lease = make_lease(server, "a")
        await lease.acquire()
        server.body = {**server.body, "spec": {**server.body["spec"], "holderIdentity": "thief"}}
        with pytest.raises(LeaseLost, match="another replica"):
            await lease.hold()
        await lease.release()
        assert server.body["spec"]["holderIdentity"] == "thief"

    run_in_virtual_time(story())


@pytest.mark.parametrize("seed", range(10))
def test_never_two_writers(seed):
    """Replicas come, go and lose their network in any order; at no moment may two of them write."""
    import random

    async def replica(server, who, alive, writers):
        while alive[who]:
            lease = make_lease(server, who, skew=hash(who) % 100)
            writers[who] = lease
            await lease.acquire()
            try:
                await lease.hold()
            except LeaseLost:
                continue

    async def story():
        rng = random.Random(seed)
        server, writers, changes, holders = LeaseServer(), {}, 0, set()
        alive = dict.fromkeys("abc", True)
        tasks = [asyncio.create_task(replica(server, who, alive, writers)) for who in alive]
        for _ in range(2000):
            await asyncio.sleep(rng.choice([0.1, 0.5, 1]))
            if rng.random() < 0.05:
                who = rng.choice("abc")
                server.down ^= {who}
            allowed = {who for who, lease in writers.items() if lease.may_write_until is not None}
            assert len(allowed) <= 1
            changes += bool(allowed - holders)
            holders |= allowed
        for task in tasks:
            task.cancel()
        return holders

    assert run_in_virtual_time(story()) == set("abc")


class Writes:
    def __init__(self, seconds=0.0):
        self.written, self.seconds = [], seconds

    async def apply(self, body):
        await asyncio.sleep(self.seconds)
        self.written.append(body)
        return body

    async def get(self, ref):
        return {"ref": ref}


def test_without_the_lease_nothing_is_written_and_everything_is_read():
    async def story():
        cluster = Writes()
        fenced = FencedCluster(cluster, may_write_until=lambda: None)
        assert await fenced.get("x") == {"ref": "x"}
        for write in (fenced.apply, fenced.delete, fenced.write_status, fenced.emit):
            with pytest.raises(NotLeader):
                await write({})
        assert cluster.written == []

    run_in_virtual_time(story())


def test_a_write_that_outlives_the_lease_is_cut_off():
    async def story():
        cluster = Writes(seconds=60)
        until = now() + 5
        fenced = FencedCluster(cluster, may_write_until=lambda: until)
        with pytest.raises(NotLeader, match="ran out"):
            await fenced.apply({})
        assert now() == pytest.approx(until)
        assert cluster.written == []

    run_in_virtual_time(story())
