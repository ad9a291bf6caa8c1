"""What a pass does about routes, done by itself: look, write what is missing, take away what may go."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.kubectl import Kubectl, KubectlError, wait_for

from pilotfish.adapters.kube import KubeCluster
from pilotfish.adapters.observe import read
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.objects import ref_of
from pilotfish.core.rollout.routes import RoutesState, keep_routes, routes_state, unwanted_routes
from pilotfish.core.scope import Scope, make_scope
from support.apiserver import run_cluster
from support.builders import NOW, POLICY

ROUTES = replace(POLICY, gateway_api=True)


def install_routes(kubectl: Kubectl) -> None:
    """Apply the Gateway API's CRDs and wait until the API server serves them."""
    kubectl.run("apply", "--server-side", "-f", str(Path(run_cluster("gateway-api"))))

    def are_served() -> bool:
        try:
            kubectl.run("get", "httproutes,grpcroutes", "--all-namespaces")
        except KubectlError:
            return False
        return True

    wait_for("routes are served", are_served, seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteKeeper:
    """The routes of one ModelDeployment."""

    cluster: KubeCluster
    namespace: str
    name: str

    async def look(self) -> Scope:
        """Everything as stored now."""
        reading = await read(self.cluster, namespace=self.namespace, name=self.name, gateway_api=True)
        assert reading is not None, f"{self.name} is gone"
        spec = ModelDeploymentSpec.model_validate(reading.body["spec"])
        return make_scope(reading.observed(), spec, ROUTES, NOW)

    async def keep(self, weights: Mapping[str, int]) -> None:
        """Write what is not as these weights want it."""
        for apply in keep_routes(await self.look(), weights):
            metadata = {**apply.body["metadata"], **({"uid": apply.uid} if apply.uid else {})}
            await self.cluster.apply({**apply.body, "metadata": metadata})

    async def state(self, weights: Mapping[str, int]) -> RoutesState:
        """Whether the gateway follows."""
        return routes_state(await self.look(), weights)

    async def clear(self, *kept: str) -> tuple[str, ...]:
        """Delete what may go while these revisions are kept; the names of what went."""
        gone = unwanted_routes(await self.look(), frozenset(kept))
        for body in gone:
            await self.cluster.delete(ref_of(body))
        return tuple(body["metadata"]["name"] for body in gone)


def accepting_parent(generation: int) -> dict[str, Any]:
    """An entry of status.parents by which a gateway's controller takes a route as it stands."""
    conditions = [
        {
            "type": name,
            "status": "True",
            "reason": name,
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T12:00:00Z",
        }
        for name in ("Accepted", "ResolvedRefs")
    ]
    return {"parentRef": {"name": "public"}, "controllerName": "example.org/gateway", "conditions": conditions}
