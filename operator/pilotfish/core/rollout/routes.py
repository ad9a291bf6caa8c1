"""Traffic by the weights of Gateway API routes: what to apply, what may go, and whether the gateway follows.

A weight counts once every gateway has accepted the generation of the route that carries it; until then the old one may
still be in force. Nothing here decides which weights are right.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.serving import Gateway, Protocol
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import Body, is_deleting, label_of, name_of
from pilotfish.core.observed import ROUTE_KINDS
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.routes import (
    HTTP_ROUTE,
    KIND_OF,
    is_predict_rule,
    make_grpc_route,
    make_http_route,
    make_route_service,
)

_MESSAGE_LIMIT = 300
# In this order: a route that was not accepted has nothing to resolve.
_CONDITIONS = ("Accepted", "ResolvedRefs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesState:
    """Whether the gateway follows the weights. `weights` are those that all routes carry, None when they differ."""

    ready: bool
    reason: Reason | None = None
    message: str = ""
    weights: Mapping[str, int] | None = None


def uses_routes(scope: Scope) -> bool:
    """Whether the spec names a gateway, so that routes and not replicas split the traffic."""
    return scope.spec.serving.gateway is not None


def keep_routes(scope: Scope, weights: Mapping[str, int]) -> tuple[Apply, ...]:
    """The Services of these revisions, then the routes with exactly these weights; nothing that is as it should be.

    Without a gateway, without a revision, or where routes cannot be made, nothing at all.
    """
    gateway = scope.spec.serving.gateway
    if gateway is None or not weights or _unavailable(scope) is not None:
        return ()
    protocols = scope.spec.serving.protocols
    services = [
        apply_if_needed(scope.observed, make_route_service(scope.owner, revision=revision, protocols=protocols))
        for revision in sorted(weights)
    ]
    routes = [
        apply_if_needed(scope.observed, body, exact=True) for body in _wanted_routes(scope, gateway, weights).values()
    ]
    return tuple(apply for apply in (*services, *routes) if apply is not None)


def unwanted_routes(scope: Scope, kept: frozenset[str]) -> tuple[Body, ...]:
    """Routes that the spec does not ask for, and Services of revisions that are not in `kept`.

    A Service goes only when no route names it any more and every gateway has accepted that: one pass after its route.
    """
    if uses_routes(scope) and _unavailable(scope) is not None:
        return ()  # Routes that cannot be seen may still name any of them.
    wanted = _wanted_kinds(scope)
    routes = tuple(_stored_routes(scope))
    over = tuple(route for route in routes if route["kind"] not in wanted)
    used = frozenset().union(*(_stored_weights(scope, route) for route in routes))
    settled = all(_unsettled(scope, route) is None for route in routes)
    services = tuple(
        service
        for service in scope.observed.of_kind("Service")
        if _is_of_revision(scope, service)
        and label_of(service, names.REVISION_LABEL) not in (used | kept if uses_routes(scope) else used)
    )
    return (*over, *(services if settled else ()))


def routes_state(scope: Scope, weights: Mapping[str, int]) -> RoutesState:
    """Whether all routes carry exactly these weights and every parent has accepted and resolved that generation.

    Without a gateway, and while there is no revision to route to, there is nothing to wait for.
    """
    gateway = scope.spec.serving.gateway
    if gateway is None or not weights:
        return RoutesState(ready=True)
    unavailable = _unavailable(scope)
    if unavailable is not None:
        return RoutesState(ready=False, reason=Reason.GATEWAY_UNAVAILABLE, message=unavailable)
    stored = assigned_weights(scope)
    for kind, body in _wanted_routes(scope, gateway, weights).items():
        route = scope.observed.child(kind, name_of(body))
        if route is None or is_deleting(route):
            return _waiting(f'{kind} "{name_of(body)}" does not exist yet', stored)
        if apply_if_needed(scope.observed, body, exact=True) is not None:
            return _waiting(f'{kind} "{name_of(body)}" does not carry the new weights yet', stored)
        problem = _unsettled(scope, route)
        if problem is not None:
            return _waiting(problem, stored)
    return RoutesState(ready=True, weights=stored)


def assigned_weights(scope: Scope) -> Mapping[str, int] | None:
    """Weight by revision that all wanted routes carry as stored; None when one is missing or they differ."""
    stored = {route["kind"]: _stored_weights(scope, route) for route in _stored_routes(scope)}
    found = [stored.get(kind) for kind in sorted(_wanted_kinds(scope))]
    return found[0] if found and all(weights == found[0] for weights in found) else None


def routed_revisions(scope: Scope) -> frozenset[str]:
    """Revisions that may still get requests from a gateway: their pods stay.

    Any route gives them a weight above 0, or carries other weights than the gateway has accepted so far (the former
    ones are then in force and unknown): every revision with a Service for routes.
    """
    routes = tuple(_stored_routes(scope))
    if any(_unsettled(scope, route) is not None for route in routes):
        services = (s for s in scope.observed.of_kind("Service") if _is_of_revision(scope, s))
        return frozenset(revision for s in services if (revision := label_of(s, names.REVISION_LABEL)) is not None)
    return weighted_revisions(scope)


def weighted_revisions(scope: Scope) -> frozenset[str]:
    """Revisions that any route, as stored, gives a weight above 0, whether or not a gateway follows."""
    stored = (_stored_weights(scope, route) for route in _stored_routes(scope))
    return frozenset(revision for weights in stored for revision, weight in weights.items() if weight > 0)


def route_names(scope: Scope) -> frozenset[tuple[str, str]]:
    """(kind, name) that the wanted routes need: somebody else's object there is in the way."""
    return frozenset((kind, _name_of(scope, kind)) for kind in _wanted_kinds(scope))


def safe_weights(weights: Mapping[str, int], ready_endpoints: Mapping[str, int], *, stable: str) -> dict[str, int]:
    """The weights with nothing for a revision without a ready endpoint; the sum stays (100 where it was 0).

    What is taken away goes to stable, or while stable has no endpoint to the others that already have a weight. A
    revision of weight 0 gets nothing however ready it is: it was not verified. When nobody is left, all is stable's.
    """
    total = sum(weights.values()) or 100
    ready = {revision for revision in weights if ready_endpoints.get(revision, 0) > 0}
    heirs = [stable] if stable in ready else [revision for revision in sorted(ready) if weights[revision] > 0]
    if not heirs:
        return {**dict.fromkeys(weights, 0), stable: total}
    safe = {revision: weight if revision in ready else 0 for revision, weight in weights.items()}
    safe[max(heirs, key=safe.__getitem__)] += total - sum(safe.values())
    return safe


def _unavailable(scope: Scope) -> str | None:
    """Why no route can be made at all, and what to do."""
    if not scope.policy.gateway_api:
        return (
            "The operator does not use the Gateway API; set gatewayAPI.enabled=true in the chart's values, or remove "
            "spec.serving.gateway"
        )
    missing = sorted(scope.observed.unserved & _wanted_kinds(scope))
    if missing:
        return (
            f"The cluster does not know {' and '.join(missing)}; install the Gateway API (standard channel, v1.1 or "
            "newer), or remove spec.serving.gateway"
        )
    return None


def _wanted_kinds(scope: Scope) -> frozenset[str]:
    protocols = scope.spec.serving.protocols if uses_routes(scope) else ()
    return frozenset(KIND_OF[protocol] for protocol in protocols)


def _wanted_routes(scope: Scope, gateway: Gateway, weights: Mapping[str, int]) -> dict[str, Body]:
    """Kind to the whole route, in a fixed order."""
    predict = frozenset(revision for revision in weights if _offers_predict(scope, revision))
    makers = ((Protocol.HTTP, partial(make_http_route, predict=predict)), (Protocol.GRPC, make_grpc_route))
    return {
        KIND_OF[protocol]: make(scope.owner, gateway=gateway, weights=weights)
        for protocol, make in makers
        if protocol in scope.spec.serving.protocols
    }


def _offers_predict(scope: Scope, revision: str) -> bool:
    """Whether its pods hold the model of plain JSON: by its record, without one as the spec says now."""
    record = scope.records.get(revision)
    if record is None:
        return scope.spec.serving.predict is not None
    return (record.intent.get("serving") or {}).get("predict") is not None


def _name_of(scope: Scope, kind: str) -> str:
    return (names.http_route if kind == HTTP_ROUTE else names.grpc_route)(scope.owner.name)


def _stored_routes(scope: Scope) -> Iterator[Body]:
    found = (scope.observed.child(kind, _name_of(scope, kind)) for _, kind in ROUTE_KINDS)
    return (route for route in found if route is not None)


def _stored_weights(scope: Scope, route: Body) -> dict[str, int]:
    """Weight by revision; a backend that is not ours counts under its own name, one without weight has 1.

    Our rules all carry the same weights, and that of plain JSON those of the revisions that offer it. Where it is not
    so, somebody else wrote them, and they are added up.
    """
    rules = route.get("spec", {}).get("rules") or ()
    wholes = [_rule_weights(scope, rule) for rule in rules if not is_predict_rule(rule)]
    parts = [_rule_weights(scope, rule) for rule in rules if is_predict_rule(rule)]
    if wholes and all(rule == wholes[0] for rule in wholes) and _are_parts(parts, of=wholes[0]):
        return wholes[0]
    found: dict[str, int] = {}
    for revision, weight in (item for rule in (*wholes, *parts) for item in rule.items()):
        found[revision] = found.get(revision, 0) + weight
    return found


def _are_parts(rules: Iterable[Mapping[str, int]], *, of: Mapping[str, int]) -> bool:
    return all(rule.items() <= of.items() for rule in rules)


def _rule_weights(scope: Scope, rule: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for backend in rule.get("backendRefs") or ():
        revision = _revision_of(scope, str(backend["name"]))
        found[revision] = found.get(revision, 0) + int(backend.get("weight", 1))
    return found


def _revision_of(scope: Scope, service: str) -> str:
    """The revision that the name of a Service stands for, also of one that is gone; else the name itself."""
    prefix, _, suffix = names.route_service(scope.owner.name, "@").partition("@")
    inner = service.removeprefix(prefix).removesuffix(suffix)
    return inner if service == f"{prefix}{inner}{suffix}" else service


def _is_of_revision(scope: Scope, service: Body) -> bool:
    revision = label_of(service, names.REVISION_LABEL)
    return revision is not None and name_of(service) == names.route_service(scope.owner.name, revision)


def _unsettled(scope: Scope, route: Body) -> str | None:
    """What a gateway still says against this generation of the route; None when all agree."""
    title = f'{route["kind"]} "{name_of(route)}"'
    gateways = sorted({str(ref["name"]) for ref in route.get("spec", {}).get("parentRefs") or ()})
    parents = [p for p in _parents(route) if p.get("parentRef", {}).get("name") in gateways]
    answered = {str(parent["parentRef"]["name"]) for parent in parents}
    silent = next((name for name in gateways if name not in answered), None)
    if silent is not None:
        return f'Gateway "{silent}" has not answered {title}; check that it exists in namespace {scope.owner.namespace}'
    problems = (_problem(title, int(route["metadata"].get("generation", 0)), parent) for parent in parents)
    return next((problem for problem in problems if problem is not None), None)


def _parents(route: Body) -> tuple[Mapping[str, Any], ...]:
    return tuple(route.get("status", {}).get("parents") or ())


def _problem(title: str, generation: int, parent: Mapping[str, Any]) -> str | None:
    gateway = f'Gateway "{parent["parentRef"]["name"]}"'
    conditions = {condition["type"]: condition for condition in parent.get("conditions") or ()}
    for kind in _CONDITIONS:
        condition = conditions.get(kind)
        if condition is None or int(condition.get("observedGeneration", 0)) != generation:
            return f"{gateway} has not taken over the present {title} yet"
        if condition.get("status") != "True":
            said = " ".join(str(condition.get("message") or "no message").split())[:_MESSAGE_LIMIT]
            return f"{gateway} says {kind}={condition.get('status')} for {title} ({condition.get('reason')}): {said}"
    return None


def _waiting(message: str, stored: Mapping[str, int] | None) -> RoutesState:
    return RoutesState(ready=False, reason=Reason.WAITING_FOR_ROUTES, message=message, weights=stored)
