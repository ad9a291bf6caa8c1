"""The native backend: real Kubernetes programs on this machine, no engine needed."""

import shutil
from pathlib import Path

from pilotcluster import certificates, control_plane, node, processes, record, tools
from pilotcluster.console import ClusterError, say, step
from pilotcluster.paths import Layout
from pilotcluster.processes import Process
from pilotcluster.record import Mode, Record

ATTEMPTS = 3


def up_api_only(layout: Layout, *, owner: Process | None) -> Record:
    """Start etcd, the API server and the controllers on free loopback ports."""
    kube = tools.kubernetes_folder() / "kube"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _start_api_only(layout, kube, owner)
        except ClusterError as error:
            down(layout)
            # Another program may have taken a port between its choice and its use.
            if attempt == ATTEMPTS or "address already in use" not in str(error):
                raise
            say("  a port was taken meanwhile: trying others")
    raise AssertionError


def _start_api_only(layout: Layout, kube: Path, owner: Process | None) -> Record:
    endpoints = control_plane.loopback_endpoints()
    current = Record(name=layout.name, mode=Mode.API_ONLY, boot=processes.boot_id(), owner=owner)
    record.write(layout, current)
    with step("certificates"):
        wanted = certificates.api_certificates(addresses=(endpoints.bind, endpoints.service_api))
        certificates.issue(layout, wanted)
    return control_plane.start(
        layout, current, kube, endpoints, wrap=list, clients=("controller-manager",)
    )


def down(layout: Layout) -> None:
    """Remove everything of the cluster: its processes, what it changed on the machine, its state folder."""
    current = record.read(layout)
    recorded = current.processes if current and current.boot == processes.boot_id() else ()
    processes.kill([*recorded, *processes.strays(layout.folder)])
    node.clean(layout, current)
    shutil.rmtree(layout.folder)
