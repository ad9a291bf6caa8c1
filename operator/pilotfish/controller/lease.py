"""Which replica may write: one Lease, held by renewing it, judged by the holder's silence on our own clock.

The clocks of two machines are never compared. Must not write anything but the Lease.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pilotfish.ports import Body, Clock, ClusterError, Conflict, LeaseStore, ObjectRef
from pilotfish.telemetry import metrics
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.lease")

_API_VERSION = "coordination.k8s.io/v1"


class LeaseLost(Exception):
    """The Lease could not be renewed in time, or another replica holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """Seconds. A holder is dead after `duration` of silence; it gives up by itself after `renew_deadline`."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    @property
    def patience(self) -> float:
        """How long one try may take: an answer that is lost must leave time for another."""
        return self.renew_deadline / 2

    @property
    def last_moment(self) -> float:
        """After the last renewal began: too late to write for us, too early for anybody else."""
        return (self.renew_deadline + self.duration) / 2


EndAt = Callable[[float | None], None]
"""Told the loop time at which this process must end, whatever it is doing then; None: it may live."""


def _never(_moment: float | None) -> None:
    """Nobody ends this process."""


class Lease:
    """One replica's view of the Lease."""

    def __init__(
        self,
        *,
        store: LeaseStore,
        clock: Clock,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes,
        end_at: EndAt = _never,
    ) -> None:
        self._store = store
        self._clock = clock
        self._ref = ObjectRef(api_version=_API_VERSION, kind="Lease", namespace=namespace, name=name)
        self._identity = identity
        self._times = times
        self._end_at = end_at
        self._seen: Any = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None
        self._contact_at = _now()

    @property
    def may_write_until(self) -> float | None:
        """Loop time until which this replica may write; None when it does not hold the Lease."""
        if self._renewed_at is None:
            return None
        until = self._renewed_at + self._times.renew_deadline
        return until if _now() < until else None

    def silence(self) -> float:
        """Seconds since the API server last answered about the Lease."""
        return _now() - self._contact_at

    async def acquire(self) -> None:
        """Return once this replica holds the Lease."""
        while not await self._attempt():  # noqa: ASYNC110 - another replica's silence raises no event
            await asyncio.sleep(self._times.retry)
        log.info("lease acquired", identity=self._identity)

    async def hold(self) -> None:
        """Renew for ever. Raises LeaseLost at the moment from which this replica must not write any more."""
        metrics.LEADER.set(1)
        try:
            await self._renew()
        except LeaseLost:
            # Every write has been cut off by now, so there is time to go in peace.
            self._end_at(None)
            raise
        finally:
            metrics.LEADER.set(0)

    async def _renew(self) -> None:
        tried = _now()
        while True:
            await asyncio.sleep(max(0.0, tried + self._times.retry - _now()))
            tried = _now()
            if self.may_write_until is not None:
                await self._attempt()
            if self._renewed_at is None:
                raise LeaseLost(f"lease {self._ref.name!r} is held by another replica")
            if self.may_write_until is None:
                raise LeaseLost(f"lease {self._ref.name!r} was not renewed in {self._times.renew_deadline:g} s")

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait for our silence."""
        held = self.may_write_until is not None
        self._renewed_at = None
        self._end_at(None)
        if not held:
            return
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(self._times.patience):
                stored = await self._store.get(self._ref)
                if stored is not None and _holder(stored) == self._identity:
                    await self._store.put(self._body(stored, holder="", duration=1.0))
                    log.info("lease released", identity=self._identity)

    async def _attempt(self) -> bool:
        """Take or renew the Lease if that is allowed. True when held."""
        started = _now()
        ends = started + self._times.patience
        try:
            async with asyncio.timeout_at(min(ends, self.may_write_until or ends)):
                return await self._ask(started)
        except Conflict:
            return False
        except TimeoutError:
            log.warning("lease not renewed", error=f"no answer in {_now() - started:.1f} s")
        except ClusterError as error:
            log.warning("lease not renewed", error=str(error))
        return False

    async def _ask(self, started: float) -> bool:
        stored = await self._store.get(self._ref)
        self._contact_at = _now()
        if stored is not None and not self._free(stored):
            self._renewed_at = None
            return False
        await self._store.put(self._body(stored, holder=self._identity, duration=self._times.duration))
        self._renewed_at = started
        self._end_at(started + self._times.last_moment)
        return True

    def _free(self, stored: Body) -> bool:
        """Ours, given back, or its holder has been silent for its whole duration as seen from here."""
        if _holder(stored) in ("", self._identity):
            return True
        spec = stored["spec"]
        mark = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if mark != self._seen:
            self._seen, self._seen_at = mark, _now()
        return _now() - self._seen_at >= float(spec.get("leaseDurationSeconds") or self._times.duration)

    def _body(self, stored: Body | None, *, holder: str, duration: float) -> dict[str, Any]:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration)),
            "renewTime": now,
            "acquireTime": now,
            "leaseTransitions": 0,
        }
        metadata: dict[str, Any] = {"namespace": self._ref.namespace, "name": self._ref.name}
        if stored is not None:
            old = stored.get("spec") or {}
            same = old.get("holderIdentity") == self._identity
            spec["acquireTime"] = old.get("acquireTime", now) if same else now
            spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + (0 if same else 1)
            metadata["resourceVersion"] = stored["metadata"]["resourceVersion"]
        return {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}


def _holder(stored: Body) -> str:
    return str((stored.get("spec") or {}).get("holderIdentity") or "")


def _now() -> float:
    return asyncio.get_running_loop().time()
