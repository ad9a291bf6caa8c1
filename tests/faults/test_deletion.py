"""P11: deleted in any state, made again at once under the same name: nothing of the old one stays, the new one is its own.

In the small world the garbage collector is slow: what the old object owned goes piece by piece, in any order, while the
new one already wants its place.
"""

import asyncio
import os
import random
import sys
import time
from datetime import timedelta

import pytest

from pilotfish.adapters.observe import list_kind
from pilotfish.core.objects import controller_uid, name_of, ref_of
from pilotfish.core.observed import CHILD_KINDS
from pilotfish.names import MANAGED_BY
from pilotfish.ports import Conflict, Invalid, NotFound
from support import world as small_world
from support.builders import OWNER, UID, make_model_deployment
from support.fake_cluster import FakeCluster
from support.faults.kept import Kept, ThreadLife
from support.faults.workloads import is_ready, make
from support.kube import make_object
from support.neighbours import UNLOADABLE
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.world import World

SEED = int(os.environ.get("PILOTFISH_SEED", "0"))
AGAIN = "99999999-2222-3333-4444-555555555555"
STEPS = [{"weight": 50, "hold": "1m"}]
STORIES = {
    "a first deployment": ("v1",),
    "an update": ("v1", "v2"),
    "an update that cannot be loaded": ("v1", "bad"),
    "a canary that errs": ("v1", "erring"),
    "there and back": ("v1", "v2", "v1"),
    "a Job that fails": ("missing",),
}


class SlowGarbage(FakeCluster):
    """What an object owns stays when it goes, until somebody collects it."""

    __slots__ = ()

    def _remove(self, key):
        self._objects.pop(key, None)
        self.changes += 1
        for entry in [entry for entry in self._applied if entry[0] == key]:
            del self._applied[entry]

    def apply_now(self, body, **more):
        found = self.look(body["kind"], name_of(body), body["metadata"].get("namespace", ""))
        if found is not None and controller_uid(found) not in {None, controller_uid(body)}:
            raise Invalid("Only one reference can have Controller set to true")
        return super().apply_now(body, **more)

    def create_now(self, body):
        """Other controllers choose another name where one is taken."""
        key = (body["kind"], body["metadata"]["namespace"], name_of(body))
        if key in self._objects and self._is_orphan(self._objects[key]):
            self._remove(key)
        return super().create_now(body)

    def orphans(self):
        return [body for body in self.everything() if self._is_orphan(body)]

    def collect(self, rng):
        """One of them."""
        body = rng.choice(self.orphans())
        self._remove((body["kind"], body["metadata"]["namespace"], name_of(body)))

    def _is_orphan(self, body):
        owners = {owner["uid"] for owner in body["metadata"].get("ownerReferences", ())}
        return bool(owners) and not owners & {found["metadata"].get("uid") for found in self.everything()}


@pytest.fixture(autouse=True)
def _slow_garbage(monkeypatch):
    monkeypatch.setattr(small_world, "FakeCluster", SlowGarbage)


def make_world():
    world = World()
    world.around.models |= {uri("bad"): UNLOADABLE, uri("erring"): ERRING, uri("missing"): "SourceNotFound"}
    world.traffic.rate = 20.0
    return world


def wanted(version):
    return {**make_wanted(version), "rollout": {"strategy": "Canary", "steps": STEPS}}


def play(world, story, steps=None):
    """So many changes of the story, or all; returns how many there were."""
    done = 0
    for version in STORIES[story]:
        world.submit(wanted(version))
        while True:
            moved = 0
            for actor in world.actors():
                if done == steps:
                    return done
                changed = world.step(actor)
                moved += changed
                done += changed
            if not moved and not world.wait():
                break
    return done


def delete(world):
    """Pods that outlive the record of their revision have no part to play any more."""
    world.cluster.remove_now("ModelDeployment", OWNER.name)
    world.traffic.behaviour = lambda _pod: ""


def create_again(world, version="v1"):
    body = make_model_deployment(wanted(version))
    world.cluster.create_now({**body, "metadata": {**body["metadata"], "uid": AGAIN}})
    world.restart()


def live(world, rng, *, rounds=4000):
    """Everybody acts in any order, the garbage collector too, until all rest."""
    for _ in range(rounds):
        actors = [rng.choice(world.actors()) for _ in range(6)]
        moved = [_act(world, actor) for actor in actors]
        if world.cluster.orphans() and rng.random() < 0.3:
            world.cluster.collect(rng)
            continue
        if any(moved) or world.cluster.orphans():
            continue
        moved = [_act(world, actor) for actor in world.actors()]
        if not any(moved) and not world.wait():
            return
    raise AssertionError("nothing comes to rest:\n" + "\n".join(world.story[-20:]))


def _act(world, actor):
    """Conflicts and refusals end a pass, and the next one looks again. Nobody plays a pod whose record was collected."""
    try:
        return world.step(actor)
    except (Conflict, Invalid, NotFound, StopIteration):
        return True


def check_new(world, where):
    left = [f"{b['kind']}/{name_of(b)}" for b in world.cluster.everything() if controller_uid(b) == UID]
    assert not left, f"{where}: of the old one are left {left}"
    assert world.body["metadata"]["uid"] == AGAIN
    assert world.said("Ready") == ("True", "Serving"), (where, world.said("Ready"), world.story[-20:])
    assert world.next_plan().is_empty, where


def states(story, count=None):
    """Worlds in that many states of the story, drawn by the seed, or in all of them; each with its number."""
    every = range(play(make_world(), story))
    for number in every if count is None else sorted(random.Random(SEED).sample(every, count)):
        world = make_world()
        play(world, story, number)
        yield number, world


def delete_and_create(story, count=None):
    tried = 0
    for number, world in states(story, count):
        in_flight = world.next_plan() if number % 2 else None
        delete(world)
        create_again(world)
        if in_flight is not None:
            # A pass that had read the old one before it went.
            _act(world, lambda w=world, plan=in_flight: w.execute(plan))
        live(world, random.Random(SEED + number))
        check_new(world, f"PILOTFISH_SEED={SEED}: {story}, state {number}")
        tried += 1
    return tried


@pytest.mark.parametrize("story", STORIES)
def test_made_again_at_once_it_stands_on_its_own(story):
    assert delete_and_create(story, 4) == 4


@pytest.mark.soak
@pytest.mark.parametrize("story", STORIES)
def test_made_again_at_once_in_every_state(story, capsys):
    tried = delete_and_create(story)
    with capsys.disabled():
        sys.stdout.write(f"\nP11 {story}: {tried} states, 0 left over, 0 touched\n")


@pytest.mark.parametrize("story", STORIES)
def test_nothing_is_left_whether_the_operator_is_up_or_down(story):
    for number, world in states(story, 4):
        rng = random.Random(SEED + number)
        delete(world)
        operators = [world.reconcile] if number % 2 else []
        for _ in range(2000):
            if not world.cluster.orphans():
                break
            _act(world, rng.choice([*operators, *world.neighbours.steps()]))
            if world.cluster.orphans():
                world.cluster.collect(rng)
            world.pass_time(timedelta(seconds=1))
        left = [f"{b['kind']}/{name_of(b)}" for b in world.cluster.everything() if b["kind"] != "Event"]
        assert left == [], f"PILOTFISH_SEED={SEED}: {story}, state {number}"


PHASES = ("Optimizing", "Starting", "Verifying", "Canarying", "Ready")
GONE_SECONDS = 30.0


class Replaced:
    """One object on a real API server with its real garbage collector, deleted and made again in one phase."""

    def __init__(self, stage, namespace, phase):
        self.stage, self.namespace, self.phase = stage, namespace, phase
        self.object = make_object(f"again-{phase.lower()}", namespace, make("v1"))

    async def body(self):
        return await self.stage.admin.get(ref_of(self.object))

    async def until(self, what, probe, *, seconds=120.0):
        deadline = time.monotonic() + seconds
        while not (found := await probe()):
            assert time.monotonic() < deadline, f"{self.phase}: not within {seconds:g} s: {what}"
            await asyncio.sleep(0.02)
        return found

    async def owners(self):
        """Uids of the owners of everything that is ours, pods' own owners left out."""
        found = []
        for kind in CHILD_KINDS:
            bodies = await list_kind(self.stage.admin, kind, namespace=self.namespace, labels={MANAGED_BY: "pilotfish"})
            found += [controller_uid(body) for body in bodies if self.object["metadata"]["name"] in name_of(body)]
        return found

    async def is_served(self):
        return is_ready(await self.body())

    async def is_there(self):
        return (await self.body()).get("status", {}).get("phase") == self.phase or await self.is_served()

    async def story(self):
        """Seconds until nothing of the old one was left."""
        await self.stage.admin.apply(self.object)
        if self.phase == "Canarying":
            await self.until("the first revision is served", self.is_served)
            steps = [{"weight": 50, "hold": "Forever"}]
            spec = make("v2", replicas=2, rollout={"strategy": "Canary", "steps": steps})
            await self.stage.admin.apply({**self.object, "spec": spec})
        await self.until("the phase", self.is_there)
        old = await self.body()
        await self.stage.admin.delete(ref_of(old))
        new = await self.stage.admin.apply(self.object)
        began, uid = time.monotonic(), new["metadata"]["uid"]
        assert uid != old["metadata"]["uid"]

        async def old_is_gone():
            return old["metadata"]["uid"] not in await self.owners()

        await self.until("the old one's children are gone", old_is_gone)
        seconds = time.monotonic() - began
        await self.until("the new one is served", self.is_served)
        assert set(await self.owners()) == {uid}
        assert (await self.body())["metadata"]["uid"] == uid
        await self.stage.admin.delete(ref_of(new))
        return seconds


@pytest.mark.apiserver
async def test_on_a_real_api_server_too(stage):
    namespace = await stage.slots.get()
    proxy = await asyncio.to_thread(stage.prepared.host.open, stage.prepared.account)
    settings = {"namespace": namespace, "watch_namespaces": namespace}
    try:
        async with Kept(lambda: ThreadLife(proxy.kubeconfig, **settings)) as kept:
            seconds = await asyncio.gather(*(Replaced(stage, namespace, phase).story() for phase in PHASES))
            assert kept.restarts == 0
    finally:
        await asyncio.to_thread(proxy.close)
        stage.slots.put_nowait(namespace)
    told = ", ".join(f"{phase} {taken:.1f} s" for phase, taken in zip(PHASES, seconds, strict=True))
    sys.stderr.write(f"\nP11 the old one's children were gone after: {told}\n")
    assert max(seconds) <= GONE_SECONDS
