"""A real gateway on the node: Contour reads the routes, Envoy carries the requests. Only where somebody asks for it.

It serves one Gateway, `public`, in one namespace; asked for another namespace it moves there. Its processes are known
by the state folder on their command lines, so a gateway that died does not make the cluster a broken one.
"""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotcluster import api, processes, programs, tools
from pilotcluster.api import Api
from pilotcluster.console import ClusterError, step, wait_for
from pilotcluster.paths import Layout
from pilotcluster.record import Record

NAME = "public"
CLASS = "contour"
CONTROLLER = "projectcontour.io/gateway-controller"
PORT = 80
# Contour lets Envoy listen 8000 above the port that the Gateway names.
ENVOY_PORT = PORT + 8000
GROUP = "gateway.networking.k8s.io"
CONTOUR_GROUP = "projectcontour.io"
PROGRAMS = frozenset({"contour", "envoy"})
READY_SECONDS = 60.0


def start(layout: Layout, current: Record, *, holder: int, address: str, namespace: str) -> str:
    """Run the gateway for this namespace unless it runs already; the URL at which it answers. Raises ClusterError."""
    url = f"http://{address}:{ENVOY_PORT}"
    server = api.connect(layout, current.server)
    folder = layout.folder / "gateway"
    config, admin = folder / "contour.yaml", folder / "admin.sock"
    text = json.dumps(make_contour_config(namespace))
    running = {process.name for process in processes.running(layout.folder, PROGRAMS)} == PROGRAMS
    if running and config.read_text(encoding="utf-8") == text and _is_programmed(server, namespace):
        return url
    stop(layout)
    admin.unlink(missing_ok=True)
    contour, envoy = tools.contour_folder(), tools.envoy_program()
    folder.mkdir(exist_ok=True)
    config.write_text(text, encoding="utf-8")
    with step("Gateway API"):
        _kubectl(layout, "apply", "--server-side", "--force-conflicts", "-f", str(tools.gateway_api_folder()))
        _kubectl(layout, "apply", "--server-side", "--force-conflicts", "-f", str(contour / "crds.yaml"))
        # Contour ends when it looks for a kind that is not served yet.
        wait_for("the CRDs' service", lambda: not list_unserved(server.call), seconds=READY_SECONDS)
        wait_for("the Gateway's class", lambda: _apply(server, namespace), seconds=READY_SECONDS)
    with step(f"gateway for namespace {namespace} at {url}"):
        bootstrap = folder / "envoy.json"
        _run(
            [
                str(contour / "contour"), "bootstrap", str(bootstrap), "--xds-address=127.0.0.1",
                f"--xds-port={programs.XDS_PORT}", f"--admin-address={admin}",
            ]
        )  # fmt: skip
        commands = {
            "contour": programs.contour(
                contour / "contour", config=config, kubeconfig=layout.kubeconfig, address=address
            ),
            "envoy": programs.envoy(layout, envoy, bootstrap=bootstrap),
        }
        for name, command in commands.items():
            processes.start(name, programs.inside(holder, layout, command), log=layout.logs / f"{name}.log")
        wait_for(
            "the gateway's start",
            lambda: _is_live(admin) and _is_programmed(server, namespace),
            seconds=READY_SECONDS,
            hint=f"see contour.log and envoy.log in {layout.logs}",
        )
    return url


def stop(layout: Layout) -> None:
    """End Contour and Envoy, if they run."""
    processes.kill(processes.running(layout.folder, PROGRAMS))


def make_contour_config(namespace: str) -> dict[str, Any]:
    """Contour's settings (JSON is YAML): the one Gateway that it serves, and changes at once."""
    return {"gateway": {"gatewayRef": {"namespace": namespace, "name": NAME}}}


def make_gateway(namespace: str) -> list[dict[str, Any]]:
    """The namespace, the class, and the Gateway with one listener for routes of its own namespace."""
    version = f"{GROUP}/v1"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": version,
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER},
        },
        {
            "apiVersion": version,
            "kind": "Gateway",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {
                "gatewayClassName": CLASS,
                "listeners": [
                    {
                        "name": "http",
                        "protocol": "HTTP",
                        "port": PORT,
                        "allowedRoutes": {"namespaces": {"from": "Same"}},
                    }
                ],
            },
        },
    ]


def list_unserved(call: Callable[[str, str], Any]) -> list[str]:
    """`plural.group/version` of all that both groups define and discovery does not name yet; `call` asks the server."""
    crds = call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    missing = []
    for spec in (crd["spec"] for crd in crds if crd["spec"]["group"] in {GROUP, CONTOUR_GROUP}):
        for version in (version["name"] for version in spec["versions"] if version["served"]):
            found = call("GET", f"/apis/{spec['group']}/{version}") or {}
            if spec["names"]["plural"] not in {resource["name"] for resource in found.get("resources", [])}:
                missing.append(f"{spec['names']['plural']}.{spec['group']}/{version}")
    return missing


def _apply(server: Api, namespace: str) -> bool:
    """Whether the objects could be applied: a CRD that was just installed is served a moment later."""
    try:
        server.apply(make_gateway(namespace))
    except api.ApiError as error:
        if " 404 " in str(error):
            return False
        raise
    return True


def _is_programmed(server: Api, namespace: str) -> bool:
    """Whether Contour has said so for the Gateway as it stands."""
    found = server.call("GET", f"/apis/{GROUP}/v1/namespaces/{namespace}/gateways/{NAME}") or {}
    generation = found.get("metadata", {}).get("generation")
    return any(
        item["type"] == "Programmed" and item["status"] == "True" and item.get("observedGeneration") == generation
        for item in found.get("status", {}).get("conditions", [])
    )


def _is_live(admin: Path) -> bool:
    """Whether Envoy has its first configuration; it listens for requests from the first route on."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(admin))
            probe.sendall(b"GET /ready HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")
            return b" 200 " in probe.recv(64)
    except OSError:
        return False


def _kubectl(layout: Layout, *args: str) -> None:
    _run([str(tools.client_folder() / "kubectl"), f"--kubeconfig={layout.kubeconfig}", *args])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ClusterError(f"{Path(command[0]).name} {command[1]} failed: {reason}")
