"""Where requests go: the Service points at who may answer, routes carry weights, and a budget keeps disruptions off."""

from pilotfish import names
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import Body
from pilotfish.core.plan import Apply
from pilotfish.core.rollout.layout import Layout, Share, route_weights
from pilotfish.core.rollout.routes import keep_routes, unwanted_routes
from pilotfish.core.scope import Scope
from pilotfish.resources.budget import make_pod_disruption_budget
from pilotfish.resources.services import make_service


def keep_traffic(scope: Scope, layout: Layout, stable: str) -> tuple[Apply, ...]:
    """The traffic Service, the budget and the routes; nothing when they are as they should be.

    `stable` is the stable revision after this pass.
    """
    pointed = {Share.STABLE: stable, Share.BOTH: None, Share.OTHER: layout.other}[layout.share]
    service = make_service(scope.owner, stable=stable, pointed=pointed, protocols=scope.spec.serving.protocols)
    bodies = [service]
    if wants_budget(scope):
        least = scope.spec.serving.min_available
        bodies.append(make_pod_disruption_budget(scope.owner, revision=stable, min_available=least))
    applies = (apply for body in bodies if (apply := apply_if_needed(scope.observed, body)) is not None)
    weights = {stable: 100} if stable != scope.stable else route_weights(scope, layout)
    return (*applies, *keep_routes(scope, weights))


def unwanted_traffic(scope: Scope, kept: frozenset[str]) -> tuple[Body, ...]:
    """A budget or routes that the spec no longer asks for, and what routed to revisions that are gone."""
    found = scope.observed.child("PodDisruptionBudget", names.traffic_service(scope.owner.name))
    budget = () if found is None or wants_budget(scope) else (found,)
    return (*budget, *unwanted_routes(scope, kept))


def wants_budget(scope: Scope) -> bool:
    """A budget that lets no pod go would only block every drain of a node."""
    return 0 < scope.spec.serving.min_available < scope.spec.serving.replicas
