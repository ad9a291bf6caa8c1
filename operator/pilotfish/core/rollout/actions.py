"""spec.rollout.action: a request that is carried out once per id. A lost or repeated look at it is harmless."""

from collections.abc import Collection
from dataclasses import dataclass

from pilotfish.api.rollout import Action, ActionVerb
from pilotfish.api.rollout_status import RolloutStatus, UndoStatus

STEP = "Step"
FULL = "Full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the user has ordered and this pass must heed. `id` and `message` go to status."""

    id: str | None = None
    message: str | None = None
    undo: UndoStatus | None = None
    promotion: str | None = None
    abort: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What an action is judged by: hashes of the spec, of what has the traffic and of what is known."""

    spec: str
    stable: str | None
    known: Collection[str]
    failed: bool
    """The wanted revision has failed."""


def read_orders(action: Action | None, stored: RolloutStatus | None, at: Situation) -> Orders:
    """The standing undo, and what a new action adds. One that means nothing now is used up and says so."""
    stored = stored or RolloutStatus()
    undo = stored.undo if stored.undo and stored.undo.from_revision == at.spec else None
    if undo is not None and undo.to_revision not in at.known:
        undo = None
    standing = Orders(id=stored.last_action_id, message=stored.action_message, undo=undo)
    if action is None or action.id == stored.last_action_id:
        return standing
    return _TAKE[action.verb](action, standing, at)


def _promote(action: Action, standing: Orders, at: Situation) -> Orders:
    full = action.verb is ActionVerb.PROMOTE_FULL
    if not _is_moving(standing, at):
        return _used_up(action, standing, "nothing is on its way, so there was nothing to promote")
    said = "goes to all of the traffic" if full else "goes on to the next step"
    return Orders(
        id=action.id,
        message=f"{action.verb.value}: the revision {said}",
        undo=standing.undo,
        promotion=FULL if full else STEP,
    )


def _abort(action: Action, standing: Orders, at: Situation) -> Orders:
    if not _is_moving(standing, at):
        return _used_up(action, standing, "nothing is on its way, so there was nothing to abort")
    message = "abort: the revision is given up" + (f", revision {at.stable} keeps serving" if at.stable else "")
    return Orders(id=action.id, message=message, undo=standing.undo, abort=True)


def _retry(action: Action, standing: Orders, at: Situation) -> Orders:
    if not at.failed:
        return _used_up(action, standing, "nothing has failed, so there was nothing to retry")
    return Orders(id=action.id, message="retry: the revision starts again", undo=standing.undo, retry=True)


def _undo(action: Action, standing: Orders, at: Situation) -> Orders:
    wanted = action.to_revision or ""
    if wanted == at.spec:  # Known or not: it can be made again.
        return Orders(id=action.id, message=f"undo: revision {wanted} is what the spec describes")
    if wanted not in at.known:
        known = ", ".join(sorted(at.known)) or "none"
        return _used_up(action, standing, f"revision {wanted} is not known any more (known: {known})")
    return Orders(
        id=action.id,
        message=f"undo: revision {wanted} is served until the spec changes",
        undo=UndoStatus(to_revision=wanted, from_revision=at.spec),
    )


def _is_moving(standing: Orders, at: Situation) -> bool:
    wanted = standing.undo.to_revision if standing.undo else at.spec
    return wanted != at.stable and not at.failed


def _used_up(action: Action, standing: Orders, why: str) -> Orders:
    return Orders(id=action.id, message=f"{action.verb.value}: {why}", undo=standing.undo)


_TAKE = {
    ActionVerb.PROMOTE: _promote,
    ActionVerb.PROMOTE_FULL: _promote,
    ActionVerb.ABORT: _abort,
    ActionVerb.RETRY: _retry,
    ActionVerb.UNDO: _undo,
}
