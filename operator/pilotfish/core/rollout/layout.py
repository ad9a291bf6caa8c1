"""Where the pods of both revisions and the traffic should be at the end of a pass, and whether traffic is there yet.

Capacity goes up before weight, weight goes down before capacity. Going back needs the stable revision's health alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.core.rollout.capacity import schedule_overdue
from pilotfish.core.rollout.pods import Pods, count_pods
from pilotfish.core.rollout.routes import assigned_weights, routed_revisions, routes_state
from pilotfish.core.rollout.scale import Scale, make_target, most_weight, next_scale, promised_ready
from pilotfish.core.rollout.state import TAKES_REQUESTS
from pilotfish.core.scope import Scope


class Share(StrEnum):
    """Who the traffic Service points at."""

    STABLE = "Stable"
    BOTH = "Both"
    OTHER = "Other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`replicas` by revision, for the Deployments that stay; `other` is the candidate, or one that leaves.

    `weight`: percent of the requests that a gateway gives to `other`.
    """

    replicas: Mapping[str, int] = field(default_factory=dict)
    share: Share = Share.STABLE
    other: str | None = None
    weight: int = 0
    returns: bool = False
    """`other` leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Whether the traffic is where the layout wants it; if not, what it waits for."""

    there: bool
    reason: Reason = Reason.WAITING_FOR_ROUTES
    message: str = ""


def at_rest(scope: Scope) -> Layout:
    """Everything on the stable revision."""
    return Layout(replicas={scope.stable: scope.spec.serving.replicas} if scope.stable else {})


def as_found(scope: Scope) -> Layout:
    """Pods and traffic as they stand: what a pass keeps that may not move anything."""
    other = scope.rollout.revision
    if scope.stable is None or other in {None, scope.stable} or scope.rollout.stage not in TAKES_REQUESTS:
        return at_rest(scope)
    counted = {revision: count_pods(scope, revision) for revision in (scope.stable, other) if revision}
    weights = assigned_weights(scope) or {}
    return Layout(
        replicas={revision: pods.asked for revision, pods in counted.items() if pods.exists},
        share=stored_share(scope, other or "") or Share.STABLE,
        other=other,
        weight=weights.get(other or "", 0),
    )


def promised(scope: Scope) -> int:
    """Ready pods of the stable revision that are enough for all of the traffic: what the user promised as the least."""
    serving = scope.spec.serving
    return min(serving.replicas, max(1, serving.min_available))


def route_weights(scope: Scope, layout: Layout) -> dict[str, int]:
    """Weights of the revisions that a gateway sends requests to, in percent; one that left without a trace has none."""
    if scope.stable is None:
        return {}
    gone = layout.returns and layout.other not in scope.serving_revisions()
    if layout.other is None or layout.other == scope.stable or gone:
        return {scope.stable: 100}
    return {scope.stable: 100 - layout.weight, layout.other: layout.weight}


def stored_share(scope: Scope, other: str) -> Share | None:
    """Where the traffic Service points now; None when it stands for nobody that is known."""
    service = scope.observed.child("Service", names.traffic_service(scope.owner.name))
    if service is None:
        return None
    pointed = service.get("spec", {}).get("selector", {}).get(names.REVISION_LABEL)
    return {None: Share.BOTH, scope.stable: Share.STABLE, other: Share.OTHER}.get(pointed)


def arrival(scope: Scope, layout: Layout) -> Arrival:
    """Whether Service and routes, as they were read, are as the layout wants them."""
    if scope.stable is not None and layout.other is not None and stored_share(scope, layout.other) is not layout.share:
        return Arrival(there=False, reason=Reason.CANARYING, message="the traffic Service is being changed")
    if scope.spec.serving.gateway is None:
        return Arrival(there=True)
    routes = routes_state(scope, route_weights(scope, layout))
    return Arrival(there=routes.ready, reason=routes.reason or Reason.WAITING_FOR_ROUTES, message=routes.message)


def has_had_requests(scope: Scope, state: RolloutStatus, leaving: str) -> bool:
    """Whether requests may be on their way to a revision: by its stage, or by where the traffic Service points."""
    pointed = stored_share(scope, leaving) in {Share.BOTH, Share.OTHER}
    return pointed or (state.revision == leaving and state.stage in TAKES_REQUESTS)


def go_back(scope: Scope, state: RolloutStatus, leaving: str) -> Layout:
    """Everything back to the stable revision, from wherever the rollout was.

    The traffic goes as soon as the stable revision has the pods that were promised. Where its pods were given up for
    the other's, or do not come up, both serve until then, and the other's go one by one.
    """
    wanted = scope.spec.serving.replicas
    if scope.stable is None:
        return Layout(returns=True)
    stable, other = count_pods(scope, scope.stable), count_pods(scope, leaving)
    asks = has_had_requests(scope, state, leaving)
    safe = stable.ready >= promised(scope) or not asks or other.ready == 0
    surge = mode_of(state) is Capacity.SURGE
    if safe:
        # The pass that takes pods from under the traffic Service may be the last one for a while: first it turns away.
        pointed = stored_share(scope, leaving) in {Share.BOTH, Share.OTHER}
        asked = asks and (surge or pointed or leaving in routed_revisions(scope))
        kept = other.asked if asked else 0
        back = wanted if surge else max(stable.asked, wanted - kept)
        return Layout(replicas={scope.stable: back if kept else wanted, leaving: kept}, other=leaving, returns=True)
    mode = mode_of(state)
    alone = stored_share(scope, leaving) is Share.OTHER
    needed = promised_ready(mode, wanted) if alone else 0
    pods = scope.observed.pods_of_revision(scope.stable)
    # One that loads, or that is ready and not counted yet, will take over: no reason to give up who serves.
    coming = sum(1 for pod in pods if pod.get("spec", {}).get("nodeName")) > stable.ready
    target = make_target(
        mode,
        stable=wanted,
        candidate=0,
        replicas=wanted,
        surge=other.asked if surge else 0,
        candidate_needed=needed,
        overdue=not coming and schedule_overdue(pods, scope.now, scope.policy.schedule_deadline),
    )
    back, rest = next_scale(scale_of(stable, other), target)
    share = Share.BOTH if stable.ready else (stored_share(scope, leaving) or Share.BOTH)
    weight = 100 - most_weight(stable.ready, promised(scope))
    return Layout(replicas={scope.stable: back, leaving: rest}, share=share, other=leaving, weight=weight, returns=True)


def scale_of(stable: Pods, candidate: Pods) -> Scale:
    """Both revisions' counts as scale.py takes them."""
    return Scale(
        stable_asked=stable.asked,
        stable_ready=stable.ready,
        stable_total=stable.total,
        candidate_asked=candidate.asked,
        candidate_ready=candidate.ready,
        candidate_total=candidate.total,
        stable_leaving=stable.leaving,
        candidate_leaving=candidate.leaving,
    )


def mode_of(state: RolloutStatus) -> Capacity:
    """How this rollout gets its room, once that is decided."""
    plan = state.capacity.plan if state.capacity else None
    return next((mode for mode in Capacity if mode.value == plan), Capacity.SURGE)
