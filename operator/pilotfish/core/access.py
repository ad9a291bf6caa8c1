"""Who may connect to the pods: a NetworkPolicy that stands before they do, or none where the spec says Open."""

from pilotfish import names
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import Body
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.network_policy import make_network_policy

KIND = "NetworkPolicy"


def keep_access(scope: Scope) -> tuple[Apply, ...]:
    """The policy of all Triton pods, whatever their revision; nothing when it is as it should be."""
    wanted = _wanted(scope)
    apply = None if wanted is None else apply_if_needed(scope.observed, wanted, whole=True)
    return () if apply is None else (apply,)


def unwanted_access(scope: Scope) -> tuple[Body, ...]:
    """A policy that the spec no longer asks for."""
    found = scope.observed.child(KIND, names.network_policy(scope.owner.name))
    return () if found is None or _wanted(scope) is not None else (found,)


def access_names(scope: Scope) -> frozenset[tuple[str, str]]:
    """(kind, name) that is needed: somebody else's policy there would decide who gets in."""
    return frozenset() if _wanted(scope) is None else frozenset({(KIND, names.network_policy(scope.owner.name))})


def _wanted(scope: Scope) -> Body | None:
    return make_network_policy(scope.owner, serving=scope.spec.serving, neighbours=scope.policy.neighbours)
