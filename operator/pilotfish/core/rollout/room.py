"""How many pods of each revision a stage asks for, and the plan for their places."""

from datetime import datetime

from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Capacity, Strategy
from pilotfish.api.rollout_status import CapacityStatus, RolloutStatus
from pilotfish.core.failures import Finding, parse_time
from pilotfish.core.objects import Body, condition_of
from pilotfish.core.rollout.capacity import CapacityAsk, plan_capacity, schedule_overdue, unscheduled_since
from pilotfish.core.rollout.layout import mode_of
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.rollout.split import split, split_by
from pilotfish.core.rollout.steps import ResolvedStep
from pilotfish.core.scope import Scope
from pilotfish.core.serving import find_trouble
from pilotfish.resources.pods import compute_for
from pilotfish.resources.units import parse_quantity

_AROUND_LOADING = 10.0
"""Seconds: an old server ends (3 s), its place is found free (1 s), the new one is verified (6 s); as measured."""
_NO_PLACE = frozenset({Reason.INSUFFICIENT_GPU, Reason.UNSCHEDULABLE, Reason.QUOTA_EXCEEDED})


def keep_plan(scope: Scope, state: RolloutStatus) -> tuple[RolloutStatus, Finding | None]:
    """The state with its plan for room, and what keeps every allowed plan from being carried out."""
    if scope.stable is None:
        return state, None
    stable = count_pods(scope, scope.stable)
    begun = mode_of(state) if state.capacity is not None else None
    if begun is Capacity.SURGE or stable.asked >= scope.spec.serving.replicas:
        begun = None
    plan = plan_capacity(_ask(scope, state), scope.observed.room, begun=begun)
    known = state.capacity
    # What was promised before stable pods were stopped stays told: measured anew, it would speak of what is stopped.
    fresh = plan.status
    if known is not None and begun is not None and known.plan == fresh.plan:
        fresh = _keep_promises(known, fresh)
    if known is not None and (known.plan, known.message) == (fresh.plan, fresh.message):
        return state, plan.blocked
    return state.model_copy(update={"capacity": fresh}), plan.blocked


def _keep_promises(known: CapacityStatus, fresh: CapacityStatus) -> CapacityStatus:
    """What was promised before stable pods were stopped: measured anew, times would speak of what is stopped.

    Another number of GPUs is another promise; only times that no pod tells any more stay what they were.
    """
    if known.gpus_needed in {None, fresh.gpus_needed}:
        return known
    times = {
        "expected_downtime": fresh.expected_downtime or known.expected_downtime,
        "rollback_eta": fresh.rollback_eta or known.rollback_eta,
    }
    return fresh.model_copy(update=times)


def first_pods(scope: Scope, mode: Capacity, steps: tuple[ResolvedStep, ...]) -> int:
    """Candidate pods that are verified before any has requests."""
    replicas = scope.spec.serving.replicas
    if scope.stable is None or mode is Capacity.RECREATE or replicas == 0:
        return replicas
    if mode is Capacity.SWAP:
        return 1
    return step_pods(scope, mode, steps[0].weight)[1] if steps else replicas


def step_pods(scope: Scope, mode: Capacity, weight: int) -> tuple[int, int]:
    """Pods of (stable, candidate) at a step."""
    replicas = scope.spec.serving.replicas
    if scope.spec.serving.gateway is None:
        return split_by(mode, replicas, weight)
    if mode is Capacity.SURGE:
        return replicas, -(-replicas * weight // 100)
    return split(replicas, weight, surge=0)


def room_overdue(scope: Scope, mode: Capacity) -> Finding | None:
    """A candidate's pod that finds no place although stable pods gave theirs up for it."""
    pods = scope.observed.pods_of_revision(scope.revision)
    if mode is Capacity.SURGE or not schedule_overdue(pods, scope.now, scope.policy.schedule_deadline):
        return None
    found = find_trouble(scope, scope.revision)
    if found is not None and found.reason in _NO_PLACE:
        return found
    return Finding(reason=Reason.UNSCHEDULABLE, message="the new revision's pods find no place in time")


def room_due(scope: Scope) -> datetime | None:
    """When a pod without a place will have waited too long."""
    since = unscheduled_since(scope.observed.pods_of_revision(scope.revision))
    due = None if since is None else since + scope.policy.schedule_deadline
    return due if due is not None and due > scope.now else None


def count_placed(scope: Scope) -> int:
    """Pods of the candidate that have a node."""
    return sum(1 for pod in scope.observed.pods_of_revision(scope.revision) if pod.get("spec", {}).get("nodeName"))


def _has_waited(scope: Scope, state: RolloutStatus) -> bool:
    """Whether the candidate tried to find a place beside the stable pods and found none in time.

    Its pods go then, and with them what the scheduler said: that the plan has changed since is what is left of it.
    """
    tried = count_pods(scope, scope.revision).exists
    if tried and state.capacity is not None and mode_of(state) is not Capacity.SURGE:
        return True
    pods = scope.observed.pods_of_revision(scope.revision)
    return schedule_overdue(pods, scope.now, scope.policy.schedule_deadline)


def _ask(scope: Scope, state: RolloutStatus) -> CapacityAsk:
    spec, serving = scope.spec.rollout, scope.spec.serving
    compute = compute_for(serving.resources, scope.policy.serving_compute)
    stable = scope.stable or ""
    return CapacityAsk(
        strategy=spec.strategy,
        capacity=Capacity.RECREATE if spec.strategy is Strategy.REPLACE else spec.capacity,
        replicas=serving.replicas,
        min_available=min(serving.min_available, serving.replicas),
        surge_pods=serving.replicas,
        gpus=serving.gpus.count,
        resource=serving.gpus.resource,
        cpu=float(parse_quantity(compute.cpu) or 0),
        memory=float(parse_quantity(compute.memory) or 0),
        stable_ready=count_pods(scope, stable).ready,
        waiting=_has_waited(scope, state),
        load_seconds=load_seconds(scope.observed.pods_of_revision(stable)),
        around_seconds=_AROUND_LOADING,
        placed=count_placed(scope),
        created=len(scope.observed.pods_of_revision(scope.revision)),
    )


def load_seconds(pods: tuple[Body, ...]) -> float | None:
    """The longest time from a pod's place on a node until it was ready; None when no pod tells."""
    times = []
    for pod in pods:
        ready = condition_of(pod, "Ready")
        if ready is None or ready.get("status") != "True" or not ready.get("lastTransitionTime"):
            continue
        # How long it waited for its place says nothing about loading.
        placed = (condition_of(pod, "PodScheduled") or {}).get("lastTransitionTime")
        began = placed or pod["metadata"].get("creationTimestamp")
        if began:
            times.append((parse_time(ready["lastTransitionTime"]) - parse_time(began)).total_seconds())
    return max((max(0.0, seconds) for seconds in times), default=None)
