"""Asks the pods of optimization Jobs how far they are, at a modest pace. Kept in memory only.

Never raises what a pod says or fails to say: who cannot be asked is shown without progress.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pilotfish.controller.keys import Key
from pilotfish.core.job_progress import GAP, LASTS, Asked, find_asked
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
        if memory.tried is None or not memory.tried <= now < memory.tried + GAP:
            memory.tried = now
            await self._ask(memory, now)
        if memory.heard_at is None or not memory.heard_at <= now < memory.heard_at + LASTS:
            return observed
        return replace(observed, progress=memory.heard)

    def watches(self, key: Key) -> bool:
        """Whether a Job of this object runs, so that it should be looked at again before long."""
        return key in self._memories

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
