"""An autoscaler where the spec asks for one. It writes spec.serving.replicas, the operator obeys and never does."""

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import Body
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.hpa import make_hpa

KIND = "HorizontalPodAutoscaler"


def keep_autoscaler(scope: Scope) -> tuple[Apply, ...]:
    """The autoscaler of what serves; nothing when it is as it should be."""
    autoscaling = scope.spec.serving.autoscaling
    if autoscaling is None:
        return ()
    apply = apply_if_needed(scope.observed, make_hpa(scope.owner, autoscaling))
    return () if apply is None else (apply,)


def unwanted_autoscaler(scope: Scope) -> tuple[Body, ...]:
    """An autoscaler that the spec no longer asks for."""
    found = scope.observed.child(KIND, names.autoscaler(scope.owner.name))
    return () if found is None or scope.spec.serving.autoscaling is not None else (found,)


def autoscaler_names(spec: ModelDeploymentSpec, name: str) -> frozenset[tuple[str, str]]:
    """(kind, name) that is needed by the ModelDeployment `name`."""
    return frozenset() if spec.serving.autoscaling is None else frozenset({(KIND, names.autoscaler(name))})
