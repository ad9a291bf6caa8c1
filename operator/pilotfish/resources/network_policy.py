"""The NetworkPolicy of a ModelDeployment's Triton pods: who may connect, to which port.

It closes the ways in alone; what pods send is no business of it. The node's own kubelet is let in by Kubernetes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pilotfish import names
from pilotfish.api.access import AccessKind
from pilotfish.api.serving import Protocol, ServingSpec
from pilotfish.names import Component
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.policy import Neighbours

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that the API server gives every namespace; nobody can set it to another value."""
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""Label that gateways give their pods in the Gateway's namespace (GEP-1762)."""

_LABEL_LIMIT = 63
_PORT_OF: Mapping[Protocol, int] = {Protocol.HTTP: PORTS.http, Protocol.GRPC: PORTS.grpc}


def make_network_policy(owner: Owner, *, serving: ServingSpec, neighbours: Neighbours) -> dict[str, Any] | None:
    """The whole NetworkPolicy; None where access is open."""
    if serving.access.mode is AccessKind.OPEN:
        return None
    offered = [_PORT_OF[protocol] for protocol in Protocol if protocol in serving.protocols]
    readers = [*([neighbours.operator] if neighbours.operator else []), *neighbours.metrics]
    ways = (
        (_clients(serving, neighbours), offered),
        (_own_pods(owner), [PORTS.http, PORTS.grpc]),
        (readers, [PORTS.metrics]),
    )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": make_metadata(owner, name=names.network_policy(owner.name), component=Component.TRITON),
        "spec": {
            "podSelector": {"matchLabels": names.pod_selector(owner.name)},
            "policyTypes": ["Ingress"],
            # A rule without peers would let everybody in.
            "ingress": [_rule(peers, ports) for peers, ports in ways if peers],
        },
    }


def _clients(serving: ServingSpec, neighbours: Neighbours) -> list[Mapping[str, Any]]:
    gateway = serving.gateway
    through = [*_beside(gateway.name), *neighbours.gateways] if gateway else []
    if serving.access.mode is AccessKind.GATEWAY:
        return through
    others = [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}} for name in serving.access.from_namespaces]
    return [{"podSelector": {}}, *others, *through]


def _beside(gateway: str) -> list[dict[str, Any]]:
    """The gateway's pods in its own namespace; a name that no label can hold has none."""
    return [{"podSelector": {"matchLabels": {GATEWAY_NAME: gateway}}}] if len(gateway) <= _LABEL_LIMIT else []


def _own_pods(owner: Owner) -> list[dict[str, Any]]:
    """The verification, and the shadow that passes requests on."""
    verify = {names.NAME_LABEL: names.stem(owner.name), names.COMPONENT_LABEL: Component.VERIFY.value}
    shadow = {
        "matchLabels": names.pod_selector(owner.name),
        "matchExpressions": [{"key": names.SHADOW_LABEL, "operator": "Exists"}],
    }
    return [{"podSelector": {"matchLabels": verify}}, {"podSelector": shadow}]


def _rule(peers: Iterable[Mapping[str, Any]], ports: Iterable[int]) -> dict[str, Any]:
    return {
        "from": [dict(peer) for peer in peers],
        "ports": [{"port": port, "protocol": "TCP"} for port in ports],
    }
