"""D4: what we rely on in kopf, held against the real one. Seconds are those of the operator's own, faster clock."""

import asyncio
import time

import pytest
from aiohttp import ClientSession

from pilotfish.core.objects import controller_uid, ref_of
from support.faults.oracles import ending
from support.faults.plan import FOR_EVER, NONE, Act, Fault, On, Plan
from support.faults.workloads import WORKLOADS, is_ready, make
from support.kube import make_object
from support.operator_process import running_operator

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

NEVER = 100_000
"""A resync so late that only a watch can bring news."""
OWN = "ModelDeployment"
FAST = 20.0


def one(**fault):
    return Plan((Fault(**fault),))


async def hears_of_an_edit(run, *, replicas, seconds):
    """The user changes the object: seconds until the operator has seen it, and no more than these."""
    await run.submit(make(replicas=replicas))
    began = run.pace.seconds()

    async def is_seen():
        body = await run.stage.admin.get(run.ref(*OWNED))
        return body["status"].get("observedGeneration") == body["metadata"]["generation"]

    # A busy machine has a minute of its own.
    await run.until(is_seen, seconds=seconds / run.pace.speed + 60)
    return run.pace.seconds() - began


OWNED = ("pilotfish.dev/v1alpha1", OWN)


async def test_d4_1_a_stream_that_falls_silent_is_opened_again(stage):
    """Connected, acknowledged, dead: no stream lives longer than 70 s, then kopf opens another."""
    async with stage.living(WORKLOADS["first"], pace=FAST, resync=NEVER) as run:
        run.counted.set(one(act=Act.BLACK_HOLE, on=On.EVENT, kind=OWN))
        await hears_of_an_edit(run, replicas=1, seconds=75 + 10)
        assert run.counted.has_acted
        assert len(run.lives) == 1


@pytest.mark.parametrize(("code", "seconds"), [(403, 300), (503, 600), (429, 120)])
async def test_d4_3_4_watches_that_are_refused_for_minutes_come_back(stage, code, seconds):
    """And the process lives on: it would only come back to the same refusal."""
    async with stage.living(WORKLOADS["first"], pace=60.0, resync=NEVER) as run:
        refused = {"act": Act.ANSWER, "kind": OWN, "code": code, "times": FOR_EVER}
        cut = Fault(act=Act.RESET, on=On.EVENT, kind=OWN)
        run.counted.set(Plan((cut, Fault(on=On.WATCH, **refused), Fault(on=On.LIST, **refused))))
        await stage.admin.patch(run.ref(*OWNED), {"metadata": {"annotations": {"touched": "1"}}}, manager="somebody")
        await run.until(lambda: len(run.counted.acted) > 1)
        began = run.pace.seconds()
        await run.until(lambda: run.pace.seconds() - began >= seconds)
        run.counted.set(NONE)
        await hears_of_an_edit(run, replicas=1, seconds=45)
        assert len(run.lives) == 1


async def test_d4_3_a_watch_that_is_refused_for_ever_shows_in_the_liveness_probe(stage):
    async with stage.living(WORKLOADS["first"], pace=FAST, resync=20) as run:
        cut = Fault(act=Act.RESET, on=On.EVENT, kind="Deployment")
        refused = Fault(act=Act.ANSWER, on=On.WATCH, kind="Deployment", code=403, times=FOR_EVER)
        run.counted.set(Plan((cut, refused)))
        await stage.admin.patch(
            run.ref("apps/v1", "Deployment", "-qddrk9db"), {"metadata": {"annotations": {"t": "1"}}}, manager="somebody"
        )

        async def is_told():
            async with ClientSession() as session, session.get(f"{run.address}/healthz") as answer:
                return answer.status == 503 and "did not deliver Deployment/" in await answer.text()

        await run.until(is_told)


async def test_d4_6_a_watcher_that_cannot_go_on_ends_the_process(stage, prepared):
    """An error in the stream that is no 410: exit code 1, and whoever watches the process starts another."""
    namespace = prepared.slots[0]
    proxy = await asyncio.to_thread(prepared.host.open, prepared.account)
    settings = {"watch_namespaces": namespace, "namespace": namespace, "resync": 1}
    body = make_object("somebody", namespace)

    def run_into():
        with running_operator(proxy.kubeconfig, **settings) as operator:
            operator.wait_until_said("swept")
            proxy.set(one(act=Act.SAY, on=On.EVENT, code=500))
            prepared.kubectl.apply(body)
            began = time.monotonic()
            return operator.process.wait(timeout=60), time.monotonic() - began

    try:
        code, seconds = await asyncio.to_thread(run_into)
    finally:
        await stage.admin.delete(ref_of(body))
        await asyncio.to_thread(proxy.close)
    assert code == 1
    assert seconds <= 60, "the claim is 10; a busy machine needs longer to end a process"


async def test_d4_9_deleted_and_made_again_under_the_same_name_at_once(stage):
    async with stage.living(WORKLOADS["first"], resync=NEVER) as run:
        admin, ref = stage.admin, run.ref(*OWNED)
        first = await admin.get(ref)
        await admin.delete(ref)
        await run.submit(WORKLOADS["first"].steps[0].spec)
        second = await admin.get(ref)
        assert first["metadata"]["uid"] != second["metadata"]["uid"]
        reference = (await stage.references(WORKLOADS["first"]))["first"].ending

        async def is_whole():
            body, children = await admin.get(ref), await run.children()
            owners = {controller_uid(child) for child in children}
            ours = owners == {second["metadata"]["uid"]}
            return is_ready(body) and ours and ending([body, *children], names=run.names) == reference

        await run.until(is_whole, seconds=90)
