"""One pass: read, measure, plan, execute in the plan's order, and say how it ended. The only place that writes.

What is read is what the cache knows: no request. The cache may be behind, so a plan made from it may create, which the
API server refuses where something stands, and may store a status, which it refuses for another version of the object.
A plan that takes something away or overwrites it, or that says of a revision for good how it ended, is thrown away and
made again from what the API server answers now. So is one whose key had trouble in its last pass: nobody knows what of
that one was carried out.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from structlog.contextvars import bound_contextvars

from pilotfish.adapters.cache import Cache
from pilotfish.adapters.observe import Reading, read
from pilotfish.controller.job_watch import JobWatch
from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.measure import Measurements
from pilotfish.core import Apply, Observed, Plan, Policy
from pilotfish.core.invalid import plan_for_refusal
from pilotfish.core.objects import ref_of
from pilotfish.ports import ABSENT, Body, Clock, Cluster, ClusterError, Conflict, Forbidden, Invalid, NotFound
from pilotfish.telemetry import metrics
from pilotfish.telemetry.logs import logger
from pilotfish.telemetry.outcomes import count_outcomes
from pilotfish.telemetry.state import SHOWN, ObjectState

log = logger("pilotfish.reconcile")

MAX_LOOKS = 3
LOOKS_AGAIN = timedelta(hours=1)
"""An object of which nothing changes is planned again after so long: only what changes, or is due, is worth a pass."""
Planner = Callable[[Observed, Policy, datetime], Plan]


class Refused(Exception):
    """The API server does not take a child as it is; a later pass may have more luck."""

    def __init__(self, child: str, error: ClusterError) -> None:
        super().__init__(child)
        self.child = child
        self.error = error


class InTheWay(Exception):
    """Something stands where the pass would create; the cache did not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    """A pass that found nothing to do: with the same stamp the next one will not either, until `due`."""

    stamp: int
    since: datetime
    due: datetime | None


class Reconciler:
    """Passes for any key; remembers of each object only what the metrics show, and that there was nothing to do.

    measurements: what a rollout is judged by; without them nothing is measured.
    jobs: how far Jobs are; without them no progress is shown.
    cache: what is known without asking; without it every pass asks.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        clock: Clock,
        policy: Policy,
        plan: Planner,
        measurements: Measurements | None = None,
        jobs: JobWatch | None = None,
        cache: Cache | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._policy = policy
        self._plan = plan
        self._measurements = measurements
        self._jobs = jobs
        self._cache = cache or Cache(scopes=())
        self._asks: set[Key] = set()
        self._misses: dict[Key, int] = {}
        self._rests: dict[Key, _Rest] = {}
        self._states: dict[Key, ObjectState] = {}

    def states(self) -> tuple[ObjectState, ...]:
        """What the last passes said, sorted by key."""
        return tuple(state for _, state in sorted(self._states.items()))

    async def __call__(self, key: Key) -> Outcome:
        """One pass. Never raises what the cluster answers: the outcome says what becomes of the key."""
        with bound_contextvars(namespace=key.namespace, name=key.name, reconcile_id=uuid4().hex[:12]):
            asks = key in self._asks
            self._asks.add(key)  # until this pass has ended well
            try:
                return await self._pass(key, asks=asks)
            except ClusterError as error:
                return _failed(error)

    async def _pass(self, key: Key, *, asks: bool) -> Outcome:
        """Without a question where that is enough."""
        reading = None if asks else self._cache.read(namespace=key.namespace, name=key.name)
        if reading is not None:
            stamp = self._cache.stamp(namespace=key.namespace, name=key.name)
            resting = self._still_rests(key, stamp)
            if resting is not None:
                self._asks.discard(key)
                return resting
            with _bound(reading):
                plan = await self._decide(key, reading)
                if not (_takes(plan) or _judges(plan, reading)):
                    with suppress(InTheWay):
                        return await self._execute(key, reading, plan, stamp=stamp)
        return await self._pass_that_asks(key)

    async def _pass_that_asks(self, key: Key) -> Outcome:
        uid = self._cache.uid(namespace=key.namespace, name=key.name)
        before = self._cache.stamp(namespace=key.namespace, name=key.name)
        reading = await read(
            self._cluster, namespace=key.namespace, name=key.name, gateway_api=self._policy.gateway_api
        )
        if reading is None:
            return self._miss(key, uid)
        self._misses.pop(key, None)
        changed = self._cache.stamp(namespace=key.namespace, name=key.name) != before
        for body in (reading.body, *reading.objects):
            if self._cache.knows_newer(body):
                if changed:
                    raise Conflict("something changed while the pass asked about it")
                raise ClusterError("the API server answers with an older state than it told before")
            self._cache.learned(body)
        stamp = self._cache.stamp(namespace=key.namespace, name=key.name)
        with _bound(reading):
            seen, plan = await self._decide_with_a_look(key, reading)
            try:
                outcome = await self._execute(key, reading, plan, stamp=stamp)
            except InTheWay as error:
                raise Conflict("something appeared under the name of a child during the pass") from error
        if seen is not reading:
            # What no watch tells of stands in the way: only asking shows when it is gone.
            self._asks.add(key)
            self._rests.pop(key, None)
        return outcome

    def _miss(self, key: Key, uid: str | None) -> Outcome:
        """The API server has no such object. While the cache has one, with this uid, that is asked more than once."""
        self._misses[key] = self._misses.get(key, 0) + 1
        if uid is not None and self._misses[key] < MAX_LOOKS:
            raise Conflict("the object is gone, and no watch has told so yet")
        self._cache.absent(namespace=key.namespace, name=key.name, uid=uid)
        self._forget(key)
        return Outcome(result=Result.SUCCESS)

    async def _execute(self, key: Key, reading: Reading, plan: Plan, *, stamp: int) -> Outcome:
        """Write what the plan wants. Raises InTheWay and what the cluster raises."""
        try:
            await self._write_children(plan)
        except Refused as refused:
            return await self._tell_refusal(key, reading, refused)
        await self._tell(key, reading, plan)
        for note in plan.notes:
            log.log(logging.DEBUG if plan.is_empty else logging.INFO, note)
        self._asks.discard(key)
        again = plan.requeue_after
        gap = None if self._jobs is None else self._jobs.gap(key)
        if gap is not None:
            again = gap if again is None else min(again, gap)
        self._rest(key, plan, stamp=stamp, again=again)
        if again is None:
            return Outcome(result=Result.SUCCESS)
        return Outcome(result=Result.REQUEUE_AFTER, after=again.total_seconds())

    def _rest(self, key: Key, plan: Plan, *, stamp: int, again: timedelta | None) -> None:
        if not plan.is_empty:
            self._rests.pop(key, None)
            return
        now = self._clock.now()
        self._rests[key] = _Rest(stamp=stamp, since=now, due=None if again is None else now + again)

    def _still_rests(self, key: Key, stamp: int) -> Outcome | None:
        """What becomes of a key of which nothing has changed; None when a pass is worth it."""
        rest, now = self._rests.get(key), self._clock.now()
        if rest is None or rest.stamp != stamp or not rest.since <= now < rest.since + LOOKS_AGAIN:
            return None
        if rest.due is None:
            return Outcome(result=Result.SUCCESS)
        if now >= rest.due:
            return None
        return Outcome(result=Result.REQUEUE_AFTER, after=(rest.due - now).total_seconds())

    def _forget(self, key: Key) -> None:
        """The object is gone."""
        self._states.pop(key, None)
        self._rests.pop(key, None)
        self._misses.pop(key, None)
        self._asks.discard(key)
        if self._measurements is not None:
            self._measurements.forget(key)
        if self._jobs is not None:
            self._jobs.forget(key)

    async def _decide(self, key: Key, reading: Reading) -> Plan:
        measured = reading.observed()
        if self._measurements is not None:
            measured = await self._measurements.look(key, measured)
        if self._jobs is not None:
            measured = await self._jobs.look(key, measured)
        return self._plan(measured, self._policy, self._clock.now())

    async def _decide_with_a_look(self, key: Key, reading: Reading) -> tuple[Reading, Plan]:
        """The plan, and what it was made of; planned again when something already stands where it would create."""
        for _ in range(MAX_LOOKS):
            plan = await self._decide(key, reading)
            found = await self._in_the_way(plan.applies)
            if not found:
                return reading, plan
            reading = reading.with_objects(found)
        raise Conflict("objects appear under the names of children while the pass looks at them")

    async def _in_the_way(self, applies: tuple[Apply, ...]) -> tuple[Body, ...]:
        refs = (ref_of(apply.body) for apply in applies if apply.uid is None)
        found = await asyncio.gather(*(self._cluster.get(ref) for ref in refs))
        return tuple(body for body in found if body is not None)

    async def _write_children(self, plan: Plan) -> None:
        for apply in plan.applies:
            title = f'{apply.body["kind"]} "{apply.body["metadata"]["name"]}"'
            try:
                self._cache.learned(await self._cluster.apply(_with_precondition(apply)))
            except (Forbidden, Invalid) as error:
                raise Refused(title, error) from error
            except Conflict as error:
                if apply.uid is None:
                    raise InTheWay(title) from error
                raise
            log.info("applied", object=title)
        for ref in plan.deletes:
            await self._cluster.delete(ref)
            self._cache.going(ref)
            log.info("deleted", object=f'{ref.kind} "{ref.name}"')

    async def _tell(self, key: Key, reading: Reading, plan: Plan) -> None:
        """The one status, and the metrics and events only once it is stored."""
        before = after = reading.body.get("status") or {}
        if plan.status is not None:
            self._cache.learned(await self._cluster.write_status(plan.status))
            after = plan.status["status"]
            count_outcomes(before, after, reading.observed().children)
        self._states[key] = ObjectState(
            namespace=key.namespace,
            name=key.name,
            uid=reading.body["metadata"]["uid"],
            spec=reading.body.get("spec") or {},
            status=after,
            objects=tuple(body for body in reading.objects if body["kind"] in SHOWN),
        )
        for event in plan.events:
            await self._cluster.emit(event)

    async def _tell_refusal(self, key: Key, reading: Reading, refused: Refused) -> Outcome:
        """A child that the API server does not take must not leave the user without a word."""
        plan = plan_for_refusal(
            reading.observed(), child=refused.child, sentence=str(refused.error), now=self._clock.now()
        )
        await self._tell(key, reading, plan)
        return _failed(refused.error)


def _bound(reading: Reading) -> AbstractContextManager[object]:
    """Lines of the log name the object's uid and generation."""
    metadata = reading.body["metadata"]
    return bound_contextvars(uid=metadata["uid"], generation=metadata["generation"])


def _takes(plan: Plan) -> bool:
    """Whether it takes something away or overwrites it: what a cache that is behind must not decide."""
    return bool(plan.deletes) or any(apply.uid is not None for apply in plan.applies)


def _judges(plan: Plan, reading: Reading) -> bool:
    """Whether it records how a revision ended: what failed is not tried again, so an old view must not say so."""
    if plan.status is None:
        return False
    before = reading.body.get("status") or {}
    return bool(plan.status["status"].get("history", []) != before.get("history", []))


def _with_precondition(apply: Apply) -> Body:
    condition = {"resourceVersion": ABSENT} if apply.uid is None else {"uid": apply.uid}
    metadata: dict[str, Any] = {**apply.body["metadata"], **condition}
    return {**apply.body, "metadata": metadata}


def _failed(error: ClusterError) -> Outcome:
    kind = type(error).__name__
    if isinstance(error, Conflict):
        log.debug("the object changed during the pass", error=str(error))
        return Outcome(result=Result.REQUEUE)
    metrics.RECONCILE_ERRORS.labels(error=kind).inc()
    if isinstance(error, NotFound):
        log.info("the object or its namespace is going away", error=str(error))
        return Outcome(result=Result.ERROR)
    if isinstance(error, Invalid):
        log.error("the API server refuses what the pass wrote", error=str(error))
        return Outcome(result=Result.TERMINAL)
    if isinstance(error, Forbidden):
        log.error("the operator may not do what the pass needs", error=str(error))
        return Outcome(result=Result.ERROR)
    log.warning("the pass failed and is tried again", error=f"{kind}: {error}")
    return Outcome(result=Result.ERROR, after=error.retry_after or 0.0)
