"""Read one ModelDeployment and everything that carries its label: live lists, no cache to be stale."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.core.observed import ROUTE_KINDS, Observed, observe, watched_kinds
from pilotfish.names import NAME_LABEL, stem
from pilotfish.ports import Body, Cluster, NotFound, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the API server answered."""

    body: Body
    objects: tuple[Body, ...]
    unserved: frozenset[str] = frozenset()
    """Kinds of ROUTE_KINDS that the API server does not know."""

    def observed(self) -> Observed:
        """Sorted into children, pods and strangers."""
        return observe(self.body, self.objects, unserved=self.unserved)

    def with_objects(self, found: tuple[Body, ...]) -> "Reading":
        """The same with objects that were found without our label."""
        return replace(self, objects=(*self.objects, *found))


async def read(cluster: Cluster, *, namespace: str, name: str, gateway_api: bool = False) -> Reading | None:
    """The object and what carries its label, routes too with `gateway_api`; None when it does not exist."""
    ref = ObjectRef(api_version=API_VERSION, kind=KIND, namespace=namespace, name=name)
    labels = {NAME_LABEL: stem(name)}
    kinds = watched_kinds(gateway_api=gateway_api)
    body = await cluster.get(ref)
    if body is None:
        return None
    found = await asyncio.gather(*(list_kind(cluster, kind, namespace=namespace, labels=labels) for kind in kinds))
    return Reading(
        body=body,
        objects=tuple(child for children in found for child in children or ()),
        unserved=frozenset(kind for (_, kind), children in zip(kinds, found, strict=True) if children is None),
    )


async def list_kind(
    cluster: Cluster, kind: tuple[str, str], *, namespace: str | None, labels: Mapping[str, str]
) -> tuple[Body, ...] | None:
    """All objects of an (apiVersion, kind) with these labels; None for routes where nobody installed their CRD."""
    api_version, name = kind
    try:
        return await cluster.list(api_version=api_version, kind=name, namespace=namespace, labels=labels)
    except NotFound:
        if kind in ROUTE_KINDS:
            return None
        raise
