"""Which path a kind lives under. The operator knows its kinds, so it needs no discovery call and no discovery cache."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

from pilotfish.api.base import API_VERSION, KIND, PLURAL

PLURALS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (API_VERSION, KIND): PLURAL,
        ("v1", "ConfigMap"): "configmaps",
        ("v1", "Node"): "nodes",
        ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
        ("v1", "Pod"): "pods",
        ("v1", "ResourceQuota"): "resourcequotas",
        ("v1", "Service"): "services",
        ("apps/v1", "ControllerRevision"): "controllerrevisions",
        ("apps/v1", "Deployment"): "deployments",
        ("apps/v1", "ReplicaSet"): "replicasets",
        ("autoscaling/v2", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
        ("batch/v1", "Job"): "jobs",
        ("coordination.k8s.io/v1", "Lease"): "leases",
        ("events.k8s.io/v1", "Event"): "events",
        ("gateway.networking.k8s.io/v1", "GRPCRoute"): "grpcroutes",
        ("gateway.networking.k8s.io/v1", "HTTPRoute"): "httproutes",
        ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
        ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    }
)
"""(apiVersion, kind) to the plural in the path. All of them but CLUSTER_SCOPED are namespaced."""

CLUSTER_SCOPED: frozenset[tuple[str, str]] = frozenset({("v1", "Node")})


def path_of(
    *, api_version: str, kind: str, namespace: str | None, name: str | None = None, subresource: str | None = None
) -> str:
    """The path of an object, or of the collection when no name is given. KeyError for a kind not in the table."""
    plural = PLURALS[api_version, kind]
    parts = ["apis" if "/" in api_version else "api", *api_version.split("/")]
    if namespace is not None and (api_version, kind) not in CLUSTER_SCOPED:
        parts += ["namespaces", namespace]
    parts += [part for part in (plural, name, subresource) if part is not None]
    return "/" + "/".join(quote(part, safe="") for part in parts)
