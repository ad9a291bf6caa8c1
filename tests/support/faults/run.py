"""One workload under one plan, from the first spec to rest: the operator is started again whenever it ends."""

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.kubectl import Kubectl

from pilotfish.adapters.kube import KubeCluster
from pilotfish.adapters.observe import list_kind, read
from pilotfish.core import plan as make_plan
from pilotfish.core.objects import ObjectRef, ref_of
from pilotfish.core.observed import ROUTE_KINDS
from pilotfish.names import FIELD_MANAGER, MANAGED_BY
from pilotfish.ports import ClusterError
from support.faults.oracles import difference, ending, made_and_deleted, surplus, unexpected
from support.faults.plan import NONE, Counted, Plan
from support.faults.proxy import FaultProxy, ProxyHost
from support.faults.replica import Pace, Replica
from support.faults.requests import Trace
from support.faults.workloads import Surroundings, Workload
from support.helm import NAMESPACE, render
from support.kube import make_object
from support.kubelet import Kubelet
from support.operator_process import install_rights
from support.routes import accepting_parent

SPEED = 5.0
SECONDS = 240.0
"""Until a run must have come to rest."""
RIGHTS = ("--set", "gatewayAPI.enabled=true")


@dataclass(slots=True)
class Outcome:
    """What a run left behind."""

    ending: dict[str, Any]
    counts: dict[str, Counter[str]]
    trace: Trace
    lines: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    exits: list[BaseException | None] = field(default_factory=list)
    """How lives ended that no plan ended."""
    acted: bool = True
    seconds: float = 0.0


@dataclass(slots=True)
class Stage:
    """A real API server with its neighbours, and namespaces that runs take turns in."""

    prepared: "Prepared"
    admin: KubeCluster
    slots: asyncio.Queue[str]

    async def references(self, *workloads: Workload) -> Mapping[str, Outcome]:
        """Runs without faults, each once per API server."""
        known = self.prepared.references
        missing = [workload for workload in workloads if workload.name not in known]
        for workload, outcome in zip(missing, await asyncio.gather(*map(self.run, missing)), strict=True):
            alarms = problems(outcome, outcome, NONE)
            assert not alarms, f"{workload.name}, without any fault: {alarms}"
            known[workload.name] = outcome
        return known

    async def run(
        self, workload: Workload, plan: Plan = NONE, *, reference: Outcome | None = None, **settings: Any
    ) -> Outcome:
        """Raises AssertionError when it does not come to rest, or not where the reference did."""
        async with self._running(workload, plan, settings) as run:
            return await run.go(reference)

    @asynccontextmanager
    async def living(self, workload: Workload, plan: Plan = NONE, **settings: Any) -> AsyncIterator["Run"]:
        """The operator after the workload has come to rest, for as long as the block takes."""
        async with self._running(workload, plan, settings) as run:
            await run.go(None)
            yield run

    @asynccontextmanager
    async def _running(self, workload: Workload, plan: Plan, settings: Mapping[str, Any]) -> AsyncIterator["Run"]:
        namespace = await self.slots.get()
        name = f"{self.prepared.mark}{next(self.prepared.numbers)}x"
        run = Run(self, workload, plan, namespace=namespace, name=name, settings=settings)
        try:
            yield run
        finally:
            await run.clear()
            self.slots.put_nowait(namespace)


class Run:
    """One workload, the lives of its operator, and what goes between them and the API server."""

    def __init__(
        self, stage: Stage, workload: Workload, plan: Plan, *, namespace: str, name: str, settings: Mapping[str, Any]
    ) -> None:
        self.stage, self.workload = stage, workload
        self.namespace, self.name = namespace, name
        self.names = {name: "digits", namespace: "team"}
        self.counted, self.trace = Counted(plan), Trace()
        self.pace = Pace(settings.get("pace", SPEED))
        self.lives: list[Replica] = []
        self.proxies: list[FaultProxy] = []
        self.exits: list[BaseException | None] = []
        self.died = asyncio.Event()
        self.settings = {
            "watch_namespaces": namespace,
            "namespace": namespace,
            "gateway_api": workload.gateway,
            **{key: value for key, value in settings.items() if key != "pace"},
        }
        self.keeper: asyncio.Task[None] | None = None

    async def go(self, reference: Outcome | None) -> Outcome:
        started = time.monotonic()
        await self._begin_life()
        self.keeper = asyncio.create_task(self._keep_alive())
        try:
            async with asyncio.timeout(SECONDS):
                for step in self.workload.steps:
                    await self.submit(step.spec)
                    await self._until(step.there)
                found = await self._rest(reference)
        except TimeoutError:
            raise AssertionError(f"not at rest after {SECONDS:g} s: {await self._state(reference)}") from None
        return Outcome(
            ending=found,
            counts=made_and_deleted(self.trace, names=self.names, uncounted=self.workload.uncounted),
            trace=self.trace,
            lines=[line for life in self.lives for line in life.lines],
            violations=[violation for proxy in self.proxies for violation in proxy.violations],
            exits=self.exits,
            acted=self.counted.has_acted,
            seconds=time.monotonic() - started,
        )

    async def until(self, probe: Callable[[], Any], *, seconds: float = 60) -> None:
        """Poll until it is true; it may be a coroutine function. Raises AssertionError."""
        deadline = time.monotonic() + seconds
        while True:
            found = probe()
            if await found if asyncio.iscoroutine(found) else found:
                return
            assert time.monotonic() < deadline, await self._state(None)
            await asyncio.sleep(0.05)

    def ref(self, api_version: str, kind: str, suffix: str = "") -> ObjectRef:
        """An object of the run."""
        return ObjectRef(api_version=api_version, kind=kind, namespace=self.namespace, name=f"{self.name}{suffix}")

    @property
    def address(self) -> str:
        """Of the operator's probes."""
        (started,) = (line for line in self.lives[-1].lines if line["msg"] == "started")
        return f"http://127.0.0.1:{started['port']}"

    async def children(self) -> list[Mapping[str, Any]]:
        """What the operator made."""
        reading = await read(self.stage.admin, namespace=self.namespace, name=self.name, gateway_api=True)
        return [] if reading is None else _own(reading.objects)

    async def submit(self, spec: Mapping[str, Any]) -> None:
        """As a user does."""
        await self.stage.admin.apply(make_object(self.name, self.namespace, spec))

    async def clear(self) -> None:
        """End the operator, take the object away; what it owns goes with it, in its own time."""
        if self.keeper is not None:
            self.keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self.keeper
        for proxy in self.proxies:
            await asyncio.to_thread(proxy.close)
        for life in self.lives:
            life.kill()
        for life in self.lives:
            await life.wait()
        await self.stage.admin.delete(ref_of(make_object(self.name, self.namespace)))

    async def _begin_life(self) -> None:
        proxy = await asyncio.to_thread(
            self.stage.prepared.host.open, self.stage.prepared.account, counted=self.counted, trace=self.trace
        )
        life = Replica(proxy.kubeconfig, self.pace, **self.settings)
        loop = asyncio.get_running_loop()

        def die() -> None:
            life.dead = True
            loop.call_soon_threadsafe(self.died.set)

        proxy.crashed = die
        self.proxies.append(proxy)
        self.lives.append(life.start())

    async def _keep_alive(self) -> None:
        """As the kubelet does: who ended is started again."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self.died.wait()
            life = self.lives[-1]
            if self.died.is_set():
                self.died.clear()
                life.kill()
            elif life.running:
                continue
            else:
                self.exits.append(life.error)
            await self._begin_life()

    async def _body(self) -> Mapping[str, Any]:
        found = await self.stage.admin.get(ref_of(make_object(self.name, self.namespace)))
        assert found is not None, "the user's object is gone"
        return found

    async def _until(self, there: Any) -> None:
        while not there(await self._body()):  # noqa: ASYNC110 - what the API server has is polled
            await asyncio.sleep(0.2)

    async def _rest(self, reference: Outcome | None) -> dict[str, Any]:
        """Two looks in a row with nothing to do; with a reference, once it looks like that."""
        before: dict[str, Any] = {}
        while True:
            found = await self._ending()
            as_expected = reference is None or found == reference.ending
            if found and found == before and as_expected:
                return found
            before = found
            await asyncio.sleep(0.2)

    async def _ending(self) -> dict[str, Any]:
        """All objects in plain form; empty while a pass would have something to do."""
        gateway = self.workload.gateway
        reading = await read(self.stage.admin, namespace=self.namespace, name=self.name, gateway_api=gateway)
        assert reading is not None, "the user's object is gone"
        policy = self.lives[-1]._settings.policy()
        if not make_plan(reading.observed(), policy, self.pace.now()).is_empty:
            return {}
        return ending([reading.body, *_own(reading.objects)], names=self.names)

    async def _state(self, reference: Outcome | None) -> str:
        reading = await read(
            self.stage.admin, namespace=self.namespace, name=self.name, gateway_api=self.workload.gateway
        )
        if reading is None:
            return "the object is gone"
        found = ending([reading.body, *_own(reading.objects)], names=self.names)
        last = [f"{line['level']} {line['msg']} {line.get('error', '')}" for line in self.lives[-1].lines[-5:]]
        told = json.dumps(found["ModelDeployment/digits"].get("status", {}).get("conditions"))[:1500]
        against = difference(reference.ending, found)[:3000] if reference else ""
        lives = f"lives: {len(self.lives)}, exits: {self.exits}, faults met: {self.counted.met}"
        return f"{against}\nconditions: {told}\n{lives}\nlast lines: {last}"


def _own(objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without what the controllers make of it."""
    return [body for body in objects if body["kind"] not in {"Pod", "ReplicaSet"}]


def problems(outcome: Outcome, reference: Outcome, plan: Plan) -> list[str]:
    """Sentences about what should not be, besides the end state, which `run` has compared."""
    found = surplus(reference.counts, outcome.counts)
    found += [f"status: {violation}" for violation in outcome.violations]
    found += [f"log: {line}" for line in unexpected(outcome.lines, plan)]
    found += [f"the operator ended by itself: {error!r}" for error in outcome.exits]
    return found


@dataclass(slots=True)
class Verdicts:
    """Of many runs."""

    passed: int = 0
    unmet: int = 0
    """Plans whose fault never came: the run had fewer writes than the reference."""
    failed: list[str] = field(default_factory=list)
    outcomes: list[tuple[Workload, Plan, Outcome]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.unmet} not met, {len(self.failed)} failed"

    def report(self, what: str) -> None:
        """Say it on the terminal: a soak run is about its figures."""
        sys.stderr.write(f"\n{what}: {self}\n")

    def check(self, *, most_unmet: float = 0.2) -> None:
        """Raises AssertionError with every plan that failed, as the file that replays it."""
        assert not self.failed, f"{self}\n\n" + "\n\n".join(self.failed)
        assert self.passed, "nothing was run"
        # Of a few drawn plans one may name a write that this run did not come to.
        assert self.unmet <= max(1, most_unmet * (self.passed + self.unmet)), str(self)


async def campaign(
    stage: Stage,
    runs: Sequence[tuple[Workload, Plan]],
    references: Mapping[str, Outcome],
    *,
    judge: Any = problems,
    **settings: Any,
) -> Verdicts:
    """All of them, as many at once as there are slots. PILOTFISH_FAULT_LOG names a file that gets a line for each."""
    verdicts = Verdicts()
    log = os.environ.get("PILOTFISH_FAULT_LOG")

    async def one(workload: Workload, plan: Plan) -> None:
        reference = references[workload.name]
        told: list[str]
        outcome: Outcome | None = None
        try:
            outcome = await stage.run(workload, plan, reference=reference, **settings)
            told = judge(outcome, reference, plan)
        except (AssertionError, ClusterError) as error:
            told = [str(error)]
        if told:
            replay = f"PILOTFISH_FAULT_WORKLOAD={workload.name!r} PILOTFISH_FAULT_PLAN={plan.to_json()!r}"
            verdicts.failed.append("\n".join([replay, *told]))
        elif outcome is not None and outcome.acted:
            verdicts.passed += 1
        else:
            verdicts.unmet += 1
        if outcome is not None:
            verdicts.outcomes.append((workload, plan, outcome))
        if log:
            line = {"workload": workload.name, "plan": plan.to_json(), "problems": told}
            with Path(log).open("a") as file:  # noqa: ASYNC230 - a line
                file.write(json.dumps(line) + "\n")

    waiting = list(reversed(runs))

    async def work() -> None:
        while waiting:
            await one(*waiting.pop())

    await asyncio.gather(*(work() for _ in range(stage.slots.maxsize)))
    return verdicts


@dataclass(slots=True)
class Prepared:
    """What stages of one API server share: the operator's account, namespaces, and what runs without faults did."""

    kubectl: Kubectl
    account: Path
    slots: tuple[str, ...]
    host: ProxyHost
    mark: str
    """Begins the names of this session's objects: a word that is in no other name."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    references: dict[str, Outcome] = field(default_factory=dict)


def prepare(kubectl: Kubectl, host: ProxyHost, *, folder: Path, slots: int) -> Prepared:
    """The CRDs must be there."""
    account = install_rights(kubectl, folder, *RIGHTS)
    mark = f"q{secrets.token_hex(3)}"
    names = _make_slots(kubectl, tuple(f"{mark}-{number}" for number in range(slots)))
    return Prepared(kubectl=kubectl, account=account, slots=names, host=host, mark=f"{mark}n")


@asynccontextmanager
async def staged(prepared: Prepared, admin: KubeCluster) -> AsyncIterator[Stage]:
    """The stage with its neighbours at work."""
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=len(prepared.slots))
    for name in prepared.slots:
        queue.put_nowait(name)
    around = Surroundings()
    kubelet = Kubelet(admin, None, result=around.optimize, verify=around.verify, look=around.look, answer=True)
    tasks = [asyncio.create_task(kubelet.run()), asyncio.create_task(_accept_routes(admin))]
    try:
        yield Stage(prepared=prepared, admin=admin, slots=queue)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _make_slots(kubectl: Kubectl, names: tuple[str, ...]) -> tuple[str, ...]:
    """Namespaces in which the operator may keep a Lease."""
    lease = [body for body in render(*RIGHTS) if body["kind"] in {"Role", "RoleBinding"}]
    lease = [body for body in lease if body["metadata"].get("namespace") == NAMESPACE]
    bodies: list[dict[str, Any]] = []
    for name in names:
        bodies.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        bodies += [{**body, "metadata": {**body["metadata"], "namespace": name}} for body in lease]
    kubectl.apply(*bodies)
    return names


async def _accept_routes(admin: KubeCluster) -> None:
    """The gateway's controller: every route is taken over as it stands."""
    while True:
        for kind in ROUTE_KINDS:
            for route in await list_kind(admin, kind, namespace=None, labels={MANAGED_BY: FIELD_MANAGER}) or ():
                generation = route["metadata"]["generation"]
                parents = route.get("status", {}).get("parents") or []
                if parents and parents[0]["conditions"][0]["observedGeneration"] == generation:
                    continue
                with suppress(ClusterError):
                    await admin.write_status({**route, "status": {"parents": [accepting_parent(generation)]}})
        await asyncio.sleep(0.3)
