"""Where requests go: the Service points at the stable revision, and a budget keeps disruptions off its pods."""

from pilotfish import names
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import Body
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.budget import make_pod_disruption_budget
from pilotfish.resources.services import make_service


def keep_traffic(scope: Scope, stable: str) -> tuple[Apply, ...]:
    """The traffic Service and the budget for the stable revision; nothing when they are as they should be."""
    bodies = [make_service(scope.owner, revision=stable, protocols=scope.spec.serving.protocols)]
    if wants_budget(scope):
        least = scope.spec.serving.min_available
        bodies.append(make_pod_disruption_budget(scope.owner, revision=stable, min_available=least))
    return tuple(apply for body in bodies if (apply := apply_if_needed(scope.observed, body)) is not None)


def unwanted_budget(scope: Scope) -> tuple[Body, ...]:
    """A budget that the spec no longer asks for."""
    found = scope.observed.child("PodDisruptionBudget", names.traffic_service(scope.owner.name))
    return () if found is None or wants_budget(scope) else (found,)


def wants_budget(scope: Scope) -> bool:
    """A budget that lets no pod go would only block every drain of a node."""
    return 0 < scope.spec.serving.min_available < scope.spec.serving.replicas
