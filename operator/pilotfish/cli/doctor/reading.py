"""One look at a cluster for the checks: many small questions at once. A "no" is noted, not raised. Judges nothing."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pilotfish.api.base import API_VERSION, GROUP, KIND, PLURAL
from pilotfish.cli.doctor.facts import Bodies, Facts, One, Place, Right, Unread
from pilotfish.cli.doctor.surroundings import gateways_of, setting_of
from pilotfish.core.objects import Body, name_of
from pilotfish.names import FIELD_MANAGER, MANAGED_BY
from pilotfish.ports import ClusterError, Forbidden, NotFound

if TYPE_CHECKING:
    from pilotfish.adapters.kube import KubeCluster

T = TypeVar("T")
OPERATOR_LABELS = {"app.kubernetes.io/part-of": "pilotfish", "app.kubernetes.io/component": "operator"}
"""As the chart labels its Deployment."""
OPERATOR_NAMESPACE = "pilotfish-system"
_FINISHED = {"Succeeded", "Failed"}
_RIGHTS = (
    ("get", GROUP, PLURAL, "every command", True),
    ("list", GROUP, PLURAL, "doctor", False),
    ("create", GROUP, PLURAL, "kubectl apply", False),
    ("patch", GROUP, PLURAL, "promote, abort, retry, undo and pause", False),
    ("list", "apps", "controllerrevisions", "get, history and provenance", False),
    ("list", "", "pods", "get and predict", False),
    ("create", "", "pods/portforward", "predict and bench", False),
    ("create", "", "pods", "report", False),
)
"""Verb, group, resource, who wants it, and whether nothing works without."""


async def read_facts(
    cluster: "KubeCluster", *, version: str, user_namespace: str, namespace: str | None, operator_namespace: str | None
) -> Facts:
    """Everything that the checks want. namespace: of the ModelDeployments; None means all, or what may be read.

    Never raises a ClusterError: what could not be read is Unread. A server out of reach is asked nothing more.
    """
    server = await _try(_version(cluster))
    facts = Facts(
        version=version, now=cluster.now(), user_namespace=user_namespace, namespace=namespace, server=server or {}
    )
    if isinstance(server, Unread):
        return facts
    scope, models = await _models(cluster, namespace, user_namespace)
    groups, crd, operators, rights = await asyncio.gather(
        _groups(cluster),
        _try(cluster.ask(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}")),
        _operators(cluster, operator_namespace),
        _rights(cluster, user_namespace),
    )
    classes, claims, nodes, runtimes = await asyncio.gather(
        _items(cluster, "/apis/storage.k8s.io/v1/storageclasses"),
        _list(cluster, "v1", "PersistentVolumeClaim", scope, {MANAGED_BY: FIELD_MANAGER}),
        _list(cluster, "v1", "Node", None, {}),
        _items(cluster, "/apis/node.k8s.io/v1/runtimeclasses"),
    )
    leases, gateways, taken = await asyncio.gather(
        _leases(cluster, operators), _gateways(cluster, models), _taken(cluster, nodes)
    )
    return replace(
        facts,
        now=cluster.now(),
        namespace=scope,
        groups=groups,
        crd=crd,
        models=models,
        operators=operators,
        leases=leases,
        rights=rights,
        storage_classes=classes,
        claims=claims,
        nodes=nodes,
        taken=taken,
        runtime_classes=runtimes,
        gateways=gateways,
    )


async def _try(question: Awaitable[T]) -> T | Unread | None:
    """The answer, None where nothing stands there, or why there is none."""
    try:
        return await question
    except NotFound:
        return None
    except ClusterError as error:
        return Unread(str(error))


async def _version(cluster: "KubeCluster") -> Body:
    """Without a version where that may not be asked: the server is there all the same."""
    try:
        return await cluster.ask("/version")
    except Forbidden:
        return {}


async def _list(
    cluster: "KubeCluster", api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
) -> Bodies:
    found = await _try(cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels))
    return () if found is None else found


async def _items(cluster: "KubeCluster", path: str) -> Bodies:
    found = await _try(cluster.ask(path))
    return found if isinstance(found, Unread) else tuple((found or {}).get("items") or ())


async def _models(cluster: "KubeCluster", namespace: str | None, fallback: str) -> tuple[str | None, Bodies]:
    """Those of one namespace, or of all; who may not see all sees the fallback's."""
    found = await _list(cluster, API_VERSION, KIND, namespace, {})
    if namespace is None and isinstance(found, Unread):
        return fallback, await _list(cluster, API_VERSION, KIND, fallback, {})
    return namespace, found


async def _groups(cluster: "KubeCluster") -> frozenset[str] | Unread:
    found = await _try(cluster.ask("/apis"))
    if isinstance(found, Unread):
        return found
    return frozenset(str(group["name"]) for group in (found or {}).get("groups") or ())


async def _operators(cluster: "KubeCluster", namespace: str | None) -> Bodies:
    """Where not all namespaces may be read, the usual one is."""
    found = await _list(cluster, "apps/v1", "Deployment", namespace, OPERATOR_LABELS)
    if namespace is None and isinstance(found, Unread):
        return await _list(cluster, "apps/v1", "Deployment", OPERATOR_NAMESPACE, OPERATOR_LABELS)
    return found


async def _leases(cluster: "KubeCluster", operators: Bodies) -> dict[Place, One]:
    if isinstance(operators, Unread):
        return {}
    places = [Place(o["metadata"]["namespace"], setting_of(o, "LEASE_NAME") or name_of(o)) for o in operators]
    leases = await asyncio.gather(*(_get(cluster, "coordination.k8s.io/v1", "leases", place) for place in places))
    return dict(zip(places, leases, strict=True))


async def _gateways(cluster: "KubeCluster", models: Bodies) -> dict[Place, One]:
    places = () if isinstance(models, Unread) else gateways_of(models)
    found = await asyncio.gather(*(_get(cluster, "gateway.networking.k8s.io/v1", "gateways", p) for p in places))
    return dict(zip(places, found, strict=True))


async def _get(cluster: "KubeCluster", api_version: str, plural: str, place: Place) -> One:
    return await _try(cluster.ask(f"/apis/{api_version}/namespaces/{place.namespace}/{plural}/{place.name}"))


async def _rights(cluster: "KubeCluster", namespace: str) -> tuple[Right, ...] | Unread:
    reviews = await asyncio.gather(
        *(_try(_review(cluster, namespace, verb, group, resource)) for verb, group, resource, *_ in _RIGHTS)
    )
    if refused := next((review for review in reviews if isinstance(review, Unread)), None):
        return refused
    return tuple(
        Right(verb=verb, resource=resource, wanted_for=wanted_for, is_needed=is_needed, allowed=bool(allowed))
        for (verb, _, resource, wanted_for, is_needed), allowed in zip(_RIGHTS, reviews, strict=True)
    )


async def _review(cluster: "KubeCluster", namespace: str, verb: str, group: str, resource: str) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await cluster.ask("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    return bool((answer.get("status") or {}).get("allowed"))


async def _taken(cluster: "KubeCluster", nodes: Bodies) -> dict[str, int] | Unread:
    """Extended resources that pods with a place ask for; the pods are only listed where some node offers one."""
    from pilotfish.adapters.room import requests_of  # noqa: PLC0415 - loads the cluster's client

    if isinstance(nodes, Unread) or not any(_has_devices(node) for node in nodes):
        return {}
    pods = await _list(cluster, "v1", "Pod", None, {})
    if isinstance(pods, Unread):
        return pods
    taken: Counter[str] = Counter()
    for pod in pods:
        if pod["spec"].get("nodeName") and (pod.get("status") or {}).get("phase") not in _FINISHED:
            taken.update({name: int(amount) for name, amount in requests_of(pod).items() if "/" in name})
    return dict(taken)


def _has_devices(node: Body) -> bool:
    allocatable: Mapping[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    return any("/" in name for name in allocatable)
