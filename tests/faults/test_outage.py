"""P9: the API server is away for a while, in five ways. Traffic stays where it is; afterwards all goes on by itself.

The operator looks through a proxy, everybody else (the user, the kubelet, clients) directly: only the operator is cut off.
"""

import asyncio
import os
import sys
import time
from dataclasses import dataclass

import pytest

from pilotfish.core.objects import condition_of, ref_of
from pilotfish.names import MANAGED_BY
from support.faults.kept import Kept, ProcessLife, ThreadLife
from support.faults.plan import FOR_EVER, NONE, Act, Fault, On, Plan
from support.faults.workloads import is_ready, make
from support.kube import make_object

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

CONVERGED = 30.0
LEASE = {"lease_duration": 15, "lease_renew_deadline": 10, "lease_retry": 2}
MODES = ("refused", "503", "403", "429", "black hole")
HELD = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}], "analysis": {"onNoData": "Pass"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Seconds after the outage, restarts. `usual`: what an object takes to be served where there is no outage."""

    mode: str
    outage: float
    noticed: float
    converged: float
    usual: float
    restarts: int

    def __str__(self) -> str:
        return (
            f"{self.mode:<10} {self.outage:>4g} s: acted on {self.noticed:4.1f} s after, served {self.converged:4.1f} s "
            f"after (usual {self.usual:.1f} s), {self.restarts} restarts"
        )


def plan_of(mode, seconds):
    """What is swallowed stays so until the network is back, and is then broken off."""
    how = {
        "503": {"act": Act.ANSWER, "code": 503},
        "403": {"act": Act.ANSWER, "code": 403},
        "429": {"act": Act.ANSWER, "code": 429, "retry_after": 1},
        "black hole": {"act": Act.BLACK_HOLE, "seconds": seconds},
    }[mode]
    faults = [Fault(on=On.ANY, kind=kind, times=FOR_EVER, **how) for kind in ("", "Lease")]
    streams = [Fault(on=On.EVENT, times=FOR_EVER, **how)] if mode == "black hole" else []
    return Plan((*faults, *streams))


class Outage:
    """One operator in a namespace of its own, and what happens to it."""

    def __init__(self, stage, namespace, life):
        self.stage, self.namespace, self.life = stage, namespace, life
        self.proxy = None

    async def body(self, name):
        return await self.stage.admin.get(ref_of(make_object(name, self.namespace)))

    async def submit(self, name, spec):
        await self.stage.admin.apply(make_object(name, self.namespace, spec))

    async def until(self, what, probe, *, seconds=300.0):
        deadline = time.monotonic() + seconds
        while not (found := await probe()):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(0.1)
        return found

    async def ready(self, name):
        async def probe():
            return is_ready(await self.body(name))

        await self.until(f"{name} is Ready", probe)

    async def held(self, name):
        async def probe():
            body = await self.body(name)
            told = condition_of(body, "Progressing") or {}
            return body["status"]["phase"] == "Canarying" and told.get("reason") == "Holding"

        await self.until(f"{name} holds at its step", probe)

    async def traffic(self):
        """Who gets the requests: Services as they stand, with their versions."""
        labels = {MANAGED_BY: "pilotfish"}
        found = await self.stage.admin.list(api_version="v1", kind="Service", namespace=self.namespace, labels=labels)
        return {s["metadata"]["name"]: (s["metadata"]["resourceVersion"], s["spec"]["selector"]) for s in found}

    async def begin(self, mode, seconds):
        if mode == "refused":
            await asyncio.to_thread(self.proxy.cut)
        else:
            self.proxy.set(plan_of(mode, seconds))

    async def end(self, mode):
        if mode == "refused":
            await asyncio.to_thread(self.proxy.mend)
        else:
            self.proxy.set(NONE)

    async def story(self, mode, seconds):
        host, account = self.stage.prepared.host, self.stage.prepared.account
        self.proxy = await asyncio.to_thread(host.open, account)
        settings = {"namespace": self.namespace, "watch_namespaces": self.namespace, "resync": 300, **LEASE}
        tag = mode.replace(" ", "-")
        steady, rolling = f"steady-{tag}", f"rolling-{tag}"
        try:
            async with Kept(lambda: self.life(self.proxy.kubeconfig, **settings)) as kept:
                await self.submit(rolling, make("v1", replicas=2))
                await self.ready(rolling)
                began = time.monotonic()
                await self.submit(steady, make("v1"))
                await self.ready(steady)
                usual = time.monotonic() - began
                await self.submit(rolling, make("v2", replicas=2, rollout=HELD))
                await self.held(rolling)
                return await self._outage(mode, seconds, kept, steady, usual)
        finally:
            await asyncio.to_thread(self.proxy.close)
            for name in (steady, rolling):
                await self.stage.admin.delete(ref_of(make_object(name, self.namespace)))

    async def _outage(self, mode, seconds, kept, steady, usual):
        before, restarts = await self.traffic(), kept.restarts
        await self.begin(mode, seconds)
        await self.submit(steady, make("v3"))
        await asyncio.sleep(seconds)
        assert await self.traffic() == before, f"{mode}: traffic moved while the API server was away"
        await self.end(mode)
        ended = time.monotonic()

        async def acted_on():
            body = await self.body(steady)
            return body["status"]["observedGeneration"] == body["metadata"]["generation"]

        await self.until(f"{steady} is acted on", acted_on)
        noticed = time.monotonic() - ended
        await self.ready(steady)
        converged = time.monotonic() - ended
        after = await self.traffic()
        others = {name: told for name, told in before.items() if not name.startswith("steady")}
        assert others == {name: after[name] for name in others}, f"{mode}: traffic of an object at a step moved"
        return Figures(
            mode=mode,
            outage=seconds,
            noticed=noticed,
            converged=converged,
            usual=usual,
            restarts=kept.restarts - restarts,
        )


def check(told):
    """Thirty seconds, and what being served takes anyway."""
    assert told.noticed <= CONVERGED, told
    assert told.converged <= CONVERGED + told.usual, told
    assert told.restarts <= 1, told


async def all_modes(stage, seconds, life, *, modes=MODES):
    """Each mode with an operator of its own, side by side."""

    async def one(mode):
        namespace = await stage.slots.get()
        try:
            return await Outage(stage, namespace, life).story(mode, seconds)
        finally:
            stage.slots.put_nowait(namespace)

    figures = await asyncio.gather(*(one(mode) for mode in modes))
    sys.stderr.write("\n" + "\n".join(f"P9 {told}" for told in figures) + "\n")
    return figures


async def test_five_seconds_without_an_api_server_cost_nothing(stage):
    for told in await all_modes(stage, 5.0, ThreadLife):
        check(told)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_minutes_without_an_api_server_cost_one_restart(stage):
    """PILOTFISH_FAULT_SLOTS=10 lets all of them run side by side; PILOTFISH_OUTAGES and _MODES name fewer."""
    lengths = [float(seconds) for seconds in os.environ.get("PILOTFISH_OUTAGES", "60,600").split(",")]
    modes = os.environ.get("PILOTFISH_MODES", ",".join(MODES)).split(",")
    for figures in await asyncio.gather(*(all_modes(stage, seconds, ThreadLife, modes=modes) for seconds in lengths)):
        for told in figures:
            check(told)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_process_outlives_a_minute_in_a_black_hole(stage):
    (told,) = await all_modes(stage, 60.0, ProcessLife, modes=("black hole",))
    check(told)
