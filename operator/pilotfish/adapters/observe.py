"""Read one ModelDeployment and everything that carries its label: live lists, all at once, no cache to be stale."""

import asyncio
from dataclasses import dataclass

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.core.observed import CHILD_KINDS, POD_KIND, Observed, observe
from pilotfish.names import NAME_LABEL, stem
from pilotfish.ports import Body, Cluster, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the API server answered."""

    body: Body
    objects: tuple[Body, ...]

    def observed(self) -> Observed:
        """Sorted into children, pods and strangers."""
        return observe(self.body, self.objects)

    def with_objects(self, found: tuple[Body, ...]) -> "Reading":
        """The same with objects that were found without our label."""
        return Reading(body=self.body, objects=(*self.objects, *found))


async def read(cluster: Cluster, *, namespace: str, name: str) -> Reading | None:
    """The object and what carries its label; None when it does not exist."""
    ref = ObjectRef(api_version=API_VERSION, kind=KIND, namespace=namespace, name=name)
    labels = {NAME_LABEL: stem(name)}
    lists = asyncio.gather(
        *(
            cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)
            for api_version, kind in (*CHILD_KINDS, POD_KIND)
        )
    )
    body, found = await asyncio.gather(cluster.get(ref), lists)
    if body is None:
        return None
    return Reading(body=body, objects=tuple(child for children in found for child in children))
