"""A revision that goes back: how long its pods stay, so that nothing that is on its way to them is lost."""

from datetime import datetime

from pilotfish.api.base import parse_duration
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.core.failures import parse_time
from pilotfish.core.progress import Stage
from pilotfish.core.rollout.layout import Layout, Share, arrival, has_had_requests, stored_share
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.rollout.routes import routed_revisions, weighted_revisions
from pilotfish.core.rollout.turn import SELDOM, SOON, Rollout
from pilotfish.core.scope import Scope


def find_leaving(scope: Scope, rollout: Rollout) -> str | None:
    """The revision whose pods are to go: a candidate that failed, or one that was left behind."""
    if rollout.progress.stage is Stage.FAILED and scope.revision != scope.stable:
        return scope.revision
    return rollout.layout.other if rollout.layout.returns else None


def stays_until(scope: Scope, state: RolloutStatus, layout: Layout, leaving: str) -> datetime | None:
    """When to look again because the leaving revision's pods must still stay; None when they may go now.

    They stay while requests may reach them, and then as long as a drain takes, if somebody else serves meanwhile. A
    gateway that does not answer is waited for only so long, as the pods hold what others need; but where its silence is
    why they leave, nobody has decided that whom it still sends there may be lost.
    """
    if leaving not in scope.serving_revisions() or scope.stable is None:
        return None
    had_requests = has_had_requests(scope, state, leaving)
    if had_requests and not (layout.share is Share.STABLE and stored_share(scope, leaving) in {Share.STABLE, None}):
        return scope.now + SOON
    routed = leaving in routed_revisions(scope) or (had_requests and not arrival(scope, layout).there)
    if routed and not _waited_enough(scope, state, leaving):
        return scope.now + SOON
    if routed and _left_by_silence(scope, state, leaving):
        return scope.now + SELDOM
    if not had_requests or count_pods(scope, scope.stable).ready == 0 or count_pods(scope, leaving).ready == 0:
        return None
    since = _since(scope, state, leaving)
    due = scope.now if since is None else since + scope.policy.drain
    return due if due > scope.now else None


def _waited_enough(scope: Scope, state: RolloutStatus, leaving: str) -> bool:
    """Whether no route has asked for the revision for a drain and a progress deadline, whatever a gateway says."""
    since = _since(scope, state, leaving)
    if since is None or leaving in weighted_revisions(scope):
        return False
    return scope.now >= since + scope.policy.drain + parse_duration(scope.spec.rollout.progress_deadline)


def _left_by_silence(scope: Scope, state: RolloutStatus, leaving: str) -> bool:
    """Whether a silent gateway alone sent it back, and the spec still asks for it."""
    aborted = state.aborted
    silent = aborted is not None and aborted.revision == leaving and aborted.reason == Reason.ROUTES_NOT_CONFIRMED
    return silent and scope.revision == leaving


def _since(scope: Scope, state: RolloutStatus, leaving: str) -> datetime | None:
    """When it was given up or left behind."""
    if state.aborted is not None and state.aborted.revision == leaving:
        return parse_time(state.aborted.at)
    entry = next((entry for entry in scope.status.history if entry.revision == leaving), None)
    return None if entry is None else parse_time(entry.at)
