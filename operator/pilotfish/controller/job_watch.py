"""Asks the pods of optimization Jobs how far they are, at a modest pace. Kept in memory only.

Never raises what a pod says or fails to say: who cannot be asked is shown without progress.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pilotfish.controller.keys import Key
from pilotfish.core.job_progress import EARLY, EARLY_GAP, GAP, LASTS, Asked, find_asked
from pilotfish.core.observed import Heard, Observed
from pilotfish.ports import Clock, ProgressReader, Unmeasured
from pilotfish.telemetry.logs import logger

log = logger("pilotfish.job_watch")


@dataclass(slots=True)
class _Memory:
    """Of one object's Job."""

    asked: Asked
    tried: datetime | None = None
    heard: Heard | None = None
    heard_at: datetime | None = None
    tries: int = 0

    @property
    def gap(self) -> timedelta:
        """Until the next question."""
        return EARLY_GAP if self.heard is None and self.tries <= EARLY else GAP


class JobWatch:
    """What the Jobs said last."""

    def __init__(self, *, clock: Clock, reader: ProgressReader) -> None:
        self._clock = clock
        self._reader = reader
        self._memories: dict[Key, _Memory] = {}

    async def look(self, key: Key, observed: Observed) -> Observed:
        """The same with the progress of its Job, when one runs and tells it."""
        asked = find_asked(observed)
        if asked is None:
            self.forget(key)
            return observed
        memory = self._memories.get(key)
        if memory is None or memory.asked != asked:
            memory = self._memories[key] = _Memory(asked=asked)
        now = self._clock.now()
        if memory.tried is None or not memory.tried <= now < memory.tried + memory.gap:
            memory.tried, memory.tries = now, memory.tries + 1
            await self._ask(memory, now)
        if memory.heard_at is None or not memory.heard_at <= now < memory.heard_at + LASTS:
            return observed
        return replace(observed, progress=memory.heard)

    def gap(self, key: Key) -> timedelta | None:
        """When to look again, while a Job of this object runs; None while none does."""
        memory = self._memories.get(key)
        return None if memory is None else memory.gap

    def forget(self, key: Key) -> None:
        """The object is gone, or nothing of it runs."""
        self._memories.pop(key, None)

    async def _ask(self, memory: _Memory, now: datetime) -> None:
        try:
            note = await self._reader.progress(address=memory.asked.address)
        except Unmeasured as error:
            log.debug("a Job told no progress", pod=memory.asked.pod, error=str(error))
            return
        memory.heard, memory.heard_at = Heard(job=memory.asked.job, note=note), now
