"""One pass: read, measure, plan, execute in the plan's order, and say how it ended. The only place that writes."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from structlog.contextvars import bound_contextvars

from pilotfish.adapters.observe import Reading, read
from pilotfish.controller.job_watch import JobWatch
from pilotfish.controller.keys import Key
from pilotfish.controller.loop import Outcome, Result
from pilotfish.controller.measure import Measurements
from pilotfish.core import Apply, Observed, Plan, Policy
from pilotfish.core.invalid import plan_for_refusal
from pilotfish.core.job_progress import GAP
from pilotfish.core.objects import condition_is_true, ref_of
from pilotfish.ports import Body, Clock, Cluster, ClusterError, Conflict, Forbidden, Invalid, NotFound
from pilotfish.telemetry import metrics
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.reconcile")

MAX_LOOKS = 3
Planner = Callable[[Observed, Policy, datetime], Plan]


class Refused(Exception):
    """The API server does not take a child as it is; a later pass may have more luck."""

    def __init__(self, child: str, error: ClusterError) -> None:
        super().__init__(child)
        self.child = child
        self.error = error


class Reconciler:
    """Passes for any key; remembers of each object only what the metrics show.

    measurements: what a rollout is judged by; without them nothing is measured.
    jobs: how far Jobs are; without them no progress is shown.
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
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._policy = policy
        self._plan = plan
        self._measurements = measurements
        self._jobs = jobs
        self._states: dict[Key, metrics.ObjectState] = {}

    def states(self) -> tuple[metrics.ObjectState, ...]:
        """What the last passes said, sorted by key."""
        return tuple(state for _, state in sorted(self._states.items()))

    async def __call__(self, key: Key) -> Outcome:
        """One pass. Never raises what the cluster answers: the outcome says what becomes of the key."""
        with bound_contextvars(namespace=key.namespace, name=key.name, reconcile_id=uuid4().hex[:12]):
            try:
                return await self._pass(key)
            except ClusterError as error:
                return _failed(error)

    async def _pass(self, key: Key) -> Outcome:
        reading = await read(
            self._cluster, namespace=key.namespace, name=key.name, gateway_api=self._policy.gateway_api
        )
        if reading is None:
            self._states.pop(key, None)
            if self._measurements is not None:
                self._measurements.forget(key)
            if self._jobs is not None:
                self._jobs.forget(key)
            return Outcome(result=Result.SUCCESS)
        metadata = reading.body["metadata"]
        with bound_contextvars(uid=metadata["uid"], generation=metadata["generation"]):
            plan = await self._decide(key, reading)
            try:
                await self._write_children(plan)
            except Refused as refused:
                return await self._tell_refusal(reading, refused)
            await self._tell(plan)
            for note in plan.notes:
                log.log(logging.DEBUG if plan.is_empty else logging.INFO, note)
            self._states[key] = _state(key, plan.status or reading.body)
        again = plan.requeue_after
        if self._jobs is not None and self._jobs.watches(key):
            again = GAP if again is None else min(again, GAP)
        if again is None:
            return Outcome(result=Result.SUCCESS)
        return Outcome(result=Result.REQUEUE_AFTER, after=again.total_seconds())

    async def _decide(self, key: Key, reading: Reading) -> Plan:
        """The plan; planned again when something already stands where it would create."""
        measured = reading.observed()
        if self._measurements is not None:
            measured = await self._measurements.look(key, measured)
        if self._jobs is not None:
            measured = await self._jobs.look(key, measured)
        for _ in range(MAX_LOOKS):
            observed = replace(
                reading.observed(), health=measured.health, room=measured.room, progress=measured.progress
            )
            plan = self._plan(observed, self._policy, self._clock.now())
            found = await self._in_the_way(plan.applies)
            if not found:
                return plan
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
                await self._cluster.apply(_with_precondition(apply))
            except (Forbidden, Invalid) as error:
                raise Refused(title, error) from error
            log.info("applied", object=title)
        for ref in plan.deletes:
            await self._cluster.delete(ref)
            log.info("deleted", object=f'{ref.kind} "{ref.name}"')

    async def _tell(self, plan: Plan) -> None:
        """The one status, and the events only once it is stored."""
        if plan.status is not None:
            await self._cluster.write_status(plan.status)
        for event in plan.events:
            await self._cluster.emit(event)

    async def _tell_refusal(self, reading: Reading, refused: Refused) -> Outcome:
        """A child that the API server does not take must not leave the user without a word."""
        plan = plan_for_refusal(
            reading.observed(), child=refused.child, sentence=str(refused.error), now=self._clock.now()
        )
        await self._tell(plan)
        return _failed(refused.error)


def _with_precondition(apply: Apply) -> Body:
    if apply.uid is None:
        return apply.body
    metadata: dict[str, Any] = {**apply.body["metadata"], "uid": apply.uid}
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


def _state(key: Key, body: Body) -> metrics.ObjectState:
    status = body.get("status") or {}
    return metrics.ObjectState(
        namespace=key.namespace,
        name=key.name,
        phase=str(status.get("phase") or ""),
        variant=str(status.get("variant") or ""),
        ready=condition_is_true(body, "Ready"),
        available=condition_is_true(body, "Available"),
    )
