"""P10: the leader is killed, or stopped for longer than its Lease and let go on. Another takes over; the old one writes nothing.

Real processes. Each talks through a proxy of its own, which says when it is about to write and what was taken of it.
"""

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import dataclass

import pytest

from pilotfish.core.objects import ObjectRef, ref_of
from support.faults.kept import ProcessLife
from support.faults.plan import Act, Fault, Plan
from support.faults.workloads import is_ready, make
from support.kube import make_object

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

SEED = int(os.environ.get("PILOTFISH_SEED", "1"))
SHORT = {"lease_duration": 6, "lease_renew_deadline": 4, "lease_retry": 0.5}
DEFAULT = {"lease_duration": 15, "lease_renew_deadline": 10, "lease_retry": 2}
MARGIN = 5.0
VERSIONS = ("v1", "v2")
WRITES = 22
"""About what VERSIONS cost: later writes are not met, and said to be so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """What a failover came to."""

    how: str
    nth: int
    seconds: float
    accepted: int
    """Writes of the old leader that the API server took after another had the Lease."""
    code: int | None
    jobs: int
    """Optimization Jobs that were made."""


class Story:
    """One object, one leader, one standby, in a namespace of their own."""

    def __init__(self, stage, namespace, lease):
        self.stage, self.namespace, self.lease = stage, namespace, lease
        self.proxies, self.lives = [], []
        self.name = f"moved-{random.randrange(16**6):06x}"

    async def start(self, identity, plan=None):
        proxy = await asyncio.to_thread(self.stage.prepared.host.open, self.stage.prepared.account, plan or Plan())
        settings = {"namespace": self.namespace, "watch_namespaces": self.namespace, "identity": identity}
        life = await asyncio.to_thread(lambda: ProcessLife(proxy.kubeconfig, **settings, **self.lease))
        self.proxies.append(proxy)
        self.lives.append(life)
        return proxy, life

    async def close(self):
        await asyncio.gather(*(asyncio.to_thread(life.end) for life in self.lives))
        for proxy in self.proxies:
            await asyncio.to_thread(proxy.close)
        await self.stage.admin.delete(ref_of(make_object(self.name, self.namespace)))

    async def until(self, what, probe, *, seconds=120.0):
        deadline = time.monotonic() + seconds
        while not probe():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(0.02)

    async def submit(self, version):
        await self.stage.admin.apply(make_object(self.name, self.namespace, make(version)))

    async def ready(self):
        body = await self.stage.admin.get(ref_of(make_object(self.name, self.namespace)))
        return is_ready(body)

    async def write_until(self, proxy):
        """Ask for one version after the other until the proxy's plan has acted; whether it has."""
        for version in VERSIONS:
            await self.submit(version)
            deadline = time.monotonic() + 120
            while not proxy.counted.acted:
                if await self.ready():
                    break
                assert time.monotonic() < deadline, f"{version} is not Ready"
                await asyncio.sleep(0.02)
            if proxy.counted.acted:
                return True
        return False

    async def acquired(self, life):
        await self.until("the standby takes over", lambda: life.process.said("lease acquired"))
        return time.monotonic()

    async def take_over(self, how, nth):
        """None when there is no nth write."""
        plan = Plan((Fault(act=Act.DELAY, nth=nth, seconds=0.3),))
        proxy, leader = await self.start("a", plan)
        await self.acquired(leader)
        _, standby = await self.start("b")
        if not await self.write_until(proxy):
            return None
        leader.process.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        began = time.monotonic()
        taken = await self.acquired(standby)
        if how == "stopped":
            # At the very moment at which the other begins to write.
            leader.process.process.send_signal(signal.SIGCONT)
        code = await asyncio.to_thread(leader.process.process.wait, 60)
        await self.submit(VERSIONS[-1])
        deadline = time.monotonic() + 120
        while not await self.ready():
            assert time.monotonic() < deadline, "not Ready under the new leader"
            await asyncio.sleep(0.1)
        return Takeover(
            how=how,
            nth=nth,
            seconds=taken - began,
            accepted=sum(e.at > taken and 200 <= e.code < 300 and e.about.verb != "GET" for e in proxy.trace.exchanges),
            code=code,
            jobs=sum(e.created and e.about.kind == "Job" for p in self.proxies for e in p.trace.exchanges),
        )


async def fail_over(stage, how, nth, lease):
    namespace = await stage.slots.get()
    # Others who were killed in this namespace may have held theirs for a quarter of an hour.
    await stage.admin.delete(
        ObjectRef(api_version="coordination.k8s.io/v1", kind="Lease", namespace=namespace, name="pilotfish")
    )
    story = Story(stage, namespace, lease)
    try:
        return await story.take_over(how, nth)
    finally:
        await story.close()
        stage.slots.put_nowait(namespace)


def check(told):
    assert told.accepted == 0, told
    assert told.code == (-signal.SIGKILL if told.how == "killed" else signal.SIGALRM), told


async def test_another_takes_over_and_the_old_one_writes_nothing(stage):
    rng = random.Random(SEED)
    both = await asyncio.gather(
        *(fail_over(stage, how, rng.randint(2, 12), SHORT) for how in ("killed", "stopped")),
    )
    for told in both:
        assert told is not None, f"PILOTFISH_SEED={SEED}"
        sys.stderr.write(f"\nP10 {told}\n")
        check(told)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_at_every_write(stage, how):
    """PILOTFISH_WRITES names some: 3,9."""
    named = os.environ.get("PILOTFISH_WRITES")
    asked = [int(nth) for nth in named.split(",")] if named else range(1, WRITES + 1)
    waiting = list(reversed(asked))
    found = []

    async def work():
        while waiting:
            found.append(await fail_over(stage, how, waiting.pop(), DEFAULT))

    await asyncio.gather(*(work() for _ in range(3)))
    met = [told for told in found if told is not None]
    worst = max(told.seconds for told in met)
    accepted = sum(told.accepted for told in met)
    sys.stderr.write(
        f"\nP10 {how} at {len(met)} of {len(asked)} writes: taken over in {min(t.seconds for t in met):.1f} to "
        f"{worst:.1f} s, {accepted} writes of the old leader accepted\n"
    )
    for told in met:
        check(told)
        assert told.seconds <= DEFAULT["lease_duration"] + MARGIN, told
