"""A gateway that does not follow: since when the weights wait for it, and when that is too long.

What counts is that the present weights are not confirmed. A gateway that confirms them in time ends the wait, and the
next step waits anew. Where routes cannot be made at all, nothing can be sent back by them either: that wait has no end.
"""

from dataclasses import replace
from datetime import datetime

from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.core.failures import parse_time
from pilotfish.core.rollout.layout import Arrival
from pilotfish.core.rollout.turn import Rollout, Turn, abort


def heed_gateway(turn: Turn, arrived: Arrival, where: str) -> Turn | Rollout:
    """The turn that remembers since when the gateway has not confirmed; the way back once that is too long.

    While the traffic Service moves nothing is known of it, and the wait stays as it was. Paused, nothing is given up.
    """
    since = turn.state.unconfirmed_since
    if arrived.there:
        return _since(turn, None)
    if arrived.reason is not Reason.WAITING_FOR_ROUTES:
        return turn
    waiting = _since(turn, since or timestamp(turn.scope.now))
    due = silent_until(waiting)
    if due is None or turn.scope.now < due or turn.scope.spec.paused:
        return waiting
    deadline = turn.scope.spec.rollout.progress_deadline
    message = f"Aborted at {where}: its weights were not confirmed for {deadline}: {arrived.message}"
    return abort(_since(turn, None), Reason.ROUTES_NOT_CONFIRMED, message)


def silent_until(turn: Turn) -> datetime | None:
    """When the gateway will have been silent for too long; None while it follows."""
    since = turn.state.unconfirmed_since
    return None if since is None else parse_time(since) + parse_duration(turn.scope.spec.rollout.progress_deadline)


def _since(turn: Turn, since: str | None) -> Turn:
    return replace(turn, state=turn.state.model_copy(update={"unconfirmed_since": since}))
