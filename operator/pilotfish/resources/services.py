"""The two Services: one that clients use and that points at the stable revision, one headless per revision."""

from typing import Any

from pilotfish import names
from pilotfish.api.serving import Protocol
from pilotfish.names import Component
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.meta import Owner, make_metadata

_HTTP = {"name": "http", "port": PORTS.http, "targetPort": "http", "protocol": "TCP"}
_GRPC = {"name": "grpc", "port": PORTS.grpc, "targetPort": "grpc", "protocol": "TCP"}
_METRICS = {"name": "metrics", "port": PORTS.metrics, "targetPort": "metrics", "protocol": "TCP"}


def make_service(owner: Owner, *, stable: str, pointed: str | None, protocols: tuple[Protocol, ...]) -> dict[str, Any]:
    """The traffic Service. Its label says which revision is stable, its selector where requests go.

    `pointed` None: to all revisions that have pods.
    """
    offered = [port for protocol, port in ((Protocol.HTTP, _HTTP), (Protocol.GRPC, _GRPC)) if protocol in protocols]
    metadata = make_metadata(owner, name=names.traffic_service(owner.name), component=Component.TRITON, revision=stable)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "ClusterIP",
            "selector": names.pod_selector(owner.name, pointed),
            "ports": [dict(port) for port in offered],
        },
    }


def make_headless_service(owner: Owner, *, revision: str) -> dict[str, Any]:
    """Every pod of one revision by address, ready or not: for checks and analysis, not for clients."""
    name = names.revision_name(owner.name, revision)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": make_metadata(owner, name=name, component=Component.TRITON, revision=revision),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.pod_selector(owner.name, revision),
            "ports": [dict(port) for port in (_HTTP, _GRPC, _METRICS)],
        },
    }
