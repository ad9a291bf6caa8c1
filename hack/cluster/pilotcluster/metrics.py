"""A real metrics-server on the node, for `kubectl top` and autoscalers. Only where somebody asks for it.

Its process is known by the state folder on its command line, so one that died does not make the cluster a broken one.
"""

from typing import Any

from pilotcluster import api, processes, programs, tools
from pilotcluster.api import ApiError
from pilotcluster.console import ClusterError, step, wait_for
from pilotcluster.paths import Layout
from pilotcluster.record import Record

NAME = "metrics-server"
NAMESPACE = "kube-system"
VERSION = "v1beta1"
GROUP = "metrics.k8s.io"
READY_SECONDS = 120.0


def start(layout: Layout, current: Record, *, holder: int, address: str) -> None:
    """Run it unless it runs already, and wait for its first figures. Raises ClusterError."""
    server = api.connect(layout, current.server)
    program = tools.metrics_server_program()
    with step("metrics-server"):
        if not processes.running(layout.folder, {NAME}):
            command = programs.metrics_server(layout, program)
            processes.start(NAME, programs.inside(holder, layout, command), log=layout.logs / f"{NAME}.log")
        server.apply(make_objects(address))
        wait_for(
            "the first figures of the node",
            lambda: has_figures(layout, server),
            seconds=READY_SECONDS,
            hint=f"see {NAME}.log in {layout.logs}",
        )


def has_figures(layout: Layout, server: api.Api) -> bool:
    """Whether the API server hands out what it has read of a node. Raises ClusterError when it has ended."""
    if not processes.running(layout.folder, {NAME}):
        raise ClusterError(f"{NAME} ended: see {NAME}.log in {layout.logs}")
    try:
        found = server.call("GET", f"/apis/{GROUP}/{VERSION}/nodes") or {}
    except ApiError:
        return False
    return bool(found.get("items"))


def make_objects(address: str) -> list[dict[str, Any]]:
    """How the API server finds it: a Service without pods, its address on the node, and the API that it serves."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": programs.METRICS_PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": programs.METRICS_PORT}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": metadata,
                # It makes its certificate itself, and never leaves the node.
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]
