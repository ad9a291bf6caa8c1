"""One step of the pods and the traffic towards a stage's numbers, and what ends the wait for them."""

from dataclasses import replace
from datetime import datetime

from pilotfish.api.base import parse_duration
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.layout import Layout, Share, promised, scale_of, stored_share
from pilotfish.core.rollout.pods import unready_since
from pilotfish.core.rollout.room import first_pods, room_due, room_overdue
from pilotfish.core.rollout.routes import routed_revisions
from pilotfish.core.rollout.scale import make_target, most_weight, next_scale, promised_ready
from pilotfish.core.rollout.turn import SOON, Rollout, Turn, abort, sooner
from pilotfish.core.serving import advance_serving


def move(
    turn: Turn, *, stable: int, candidate: int, share: Share, weight: int = 0, takes_over: bool = False
) -> tuple[Layout, Progress]:
    """One step of the pods towards their numbers, and how far the candidate's are; READY means all of `candidate`.

    `takes_over`: where pods of the stable revision go meanwhile, their part of a gateway's requests moves with them.
    """
    scope = turn.scope
    if scope.stable is None:
        return Layout(replicas={scope.revision: candidate}), advance_serving(scope, turn.artifact, replicas=candidate)
    # Behind a gateway the traffic Service has stable pods all the while, except where these make room.
    behind_service = scope.spec.serving.gateway is None or (takes_over and turn.mode is Capacity.SWAP)
    target = make_target(
        turn.mode,
        stable=stable,
        candidate=candidate,
        replicas=turn.replicas,
        surge=candidate,
        stable_needed=_needed_by_stable(turn) if behind_service else 0,
    )
    now = scale_of(turn.stable, turn.candidate)
    kept, raised = next_scale(now, target)
    weight = min(weight, most_weight(turn.candidate.ready, turn.replicas))
    if takes_over and turn.mode is not Capacity.SURGE:
        weight = max(weight, _weight_of_ready(turn, kept))
        kept = _kept_for_gateway(turn, kept)
    serving = advance_serving(scope, turn.artifact, replicas=raised)
    if serving.stage is Stage.READY and raised != candidate:
        serving = replace(
            serving, stage=Stage.STARTING, reason=Reason.STARTING, wake=sooner(serving.wake, scope.now + SOON)
        )
    if share is Share.BOTH and not (behind_service and _may_share(turn)):
        share = Share.STABLE
    layout = Layout(
        replicas={scope.stable: kept, scope.revision: raised},
        share=share,
        other=scope.revision,
        weight=weight,
    )
    return layout, replace(serving, wake=sooner(serving.wake, room_due(scope), _deadline(turn)))


def stay(turn: Turn, *, share: Share) -> tuple[Layout, Progress]:
    """Everything as it stands."""
    scope = turn.scope
    begun = turn.candidate.exists and scope.stable is not None
    replicas = turn.candidate.asked if begun else first_pods(scope, turn.mode, turn.steps)
    serving = advance_serving(scope, turn.artifact, replicas=replicas)
    kept = {} if scope.stable is None else {scope.stable: turn.stable.asked if turn.stable.exists else turn.replicas}
    if scope.stable is not None and turn.mode is Capacity.SURGE:
        kept = {scope.stable: turn.replicas}
    return Layout(replicas={**kept, scope.revision: replicas}, share=share, other=scope.revision), serving


def while_nobody_else_serves(turn: Turn, layout: Layout) -> Layout:
    """The layout with the traffic where it is, for a candidate that starts again before its way back was over."""
    scope = turn.scope
    if (
        scope.stable is None
        or layout.returns
        or layout.share is not Share.STABLE
        or turn.stable.ready >= promised(scope)
    ):
        return layout
    stored = stored_share(scope, scope.revision)
    serves = stored in {Share.BOTH, Share.OTHER} and turn.candidate.ready > 0
    return replace(layout, share=stored, other=scope.revision) if serves and stored else layout


def _needed_by_stable(turn: Turn) -> int:
    """Ready stable pods that must stay until the traffic Service, as it was read, points at the candidate too."""
    scope = turn.scope
    alone = stored_share(scope, scope.revision) is Share.STABLE
    return promised_ready(turn.mode, turn.replicas) if alone else 0


def _weight_of_ready(turn: Turn, kept: int) -> int:
    """The candidate's part of the pods that will be ready once the stable revision has `kept` of them, in percent."""
    ready = turn.candidate.ready
    return 100 * ready // (ready + min(kept, turn.stable.ready)) if ready else 0


def _kept_for_gateway(turn: Turn, kept: int) -> int:
    """The last stable pod goes once no gateway sends anybody to it."""
    last = kept == 0 < turn.candidate.ready and turn.scope.stable in routed_revisions(turn.scope)
    return turn.stable.asked if last else kept


def _may_share(turn: Turn) -> bool:
    """Both may be behind one Service only when every pod behind it is of one of them and somebody is ready."""
    scope = turn.scope
    strangers = scope.serving_revisions() - {scope.stable, scope.revision}
    return not strangers and turn.candidate.ready > 0


def _deadline(turn: Turn) -> datetime | None:
    """When a pod that is not ready will have been so for too long."""
    since = unready_since(turn.scope, turn.scope.revision)
    due = None if since is None else since + parse_duration(turn.scope.spec.rollout.progress_deadline)
    return due if due is not None and due > turn.scope.now else None


def lost_pods(turn: Turn, progress: Progress, where: str) -> Rollout | None:
    """A candidate that has requests and does not get its pods ready in time goes back."""
    scope = turn.scope
    if progress.stage is Stage.FAILED:
        return abort(turn, progress.reason, f"Aborted at {where}: {progress.message}")
    overdue = room_overdue(scope, turn.mode)
    if overdue is not None:
        return abort(turn, overdue.reason, f"Aborted at {where}: {overdue.message}")
    since = unready_since(scope, scope.revision)
    deadline = scope.spec.rollout.progress_deadline
    if since is None or scope.now < since + parse_duration(deadline):
        return None
    return abort(
        turn,
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        f"Aborted at {where}: a pod of revision {scope.revision} was not ready for {deadline}",
    )
