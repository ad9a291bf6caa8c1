"""The life of an installed operator with the chart's own rights, on an API server of its own: all that it asked for, all
that it left behind. Tests of threats look at it from their sides.

Nodes are played. Everything that the operator says to the API server goes through a proxy that writes it down; nothing
else of it is touched.
"""

import asyncio
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.kubectl import Kubectl

from pilotfish import names
from pilotfish.adapters.kube import KubeCluster
from pilotfish.adapters.observe import list_kind
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.objects import ObjectRef, condition_of, name_of, ref_of
from pilotfish.core.observed import ROUTE_KINDS, watched_kinds
from pilotfish.ports import ClusterError
from support.apiserver import running_api_server
from support.faults.proxy import proxies
from support.faults.requests import Trace
from support.helm import CHART, render
from support.kube import install_crd, kube_cluster, make_kubectl, make_object
from support.kubelet import playing_kubelet
from support.operator_process import OperatorProcess, install_rights, running_operator
from support.polling import until
from support.routes import install_routes

MDEP = ObjectRef(api_version="pilotfish.dev/v1alpha1", kind="ModelDeployment", namespace="", name="")
CLUSTER_WIDE = ("--set", "gatewayAPI.enabled=true")
NAMESPACED = ("--values", str(CHART / "ci" / "namespaced-values.yaml"), *CLUSTER_WIDE)
SECONDS = 180.0
SERVED, STUCK = "digits", "stuck"


@dataclass(slots=True)
class Lived:
    """What there is to look at afterwards."""

    kubectl: Kubectl
    account: Path
    """A kubeconfig that speaks as the operator's service account."""
    values: tuple[str, ...]
    namespaced: bool
    namespace: str
    canary: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    """Stands in a Secret, and in the file of Prometheus' token."""
    bait: str = ""
    """An address that ModelDeployments name. Whoever connects to it is counted in `bites`."""
    bites: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    log: str = ""
    metrics: str = ""
    listening: tuple[int, ...] = ()
    """Ports at which the process took connections."""
    port: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)
    """HTTP status by what was asked of that port."""
    left: list[Mapping[str, Any]] = field(default_factory=list)
    """Every version of every object that was stored in the namespace while it ran, events too."""
    strangers: list[str] = field(default_factory=list)
    """Kinds of somebody else's objects that stood in the way, were told of and left alone."""
    token: str = ""
    """The operator's own."""


@contextmanager
def lived(folder: Path, *values: str, namespaced: bool = False) -> Iterator[Lived]:
    """A life under the chart's rights with these values; with `namespaced` the operator serves one namespace.

    The policies of admission are in force, whatever the values say of them.
    """
    with running_api_server() as kubeconfig:
        kubectl = make_kubectl(kubeconfig)
        install_crd(kubectl)
        install_routes(kubectl)
        kubectl.run("create", "namespace", "team-a")
        account = install_rights(kubectl, folder, *values)
        on = ("--set", "admission.operator.enabled=true,admission.trust.enabled=true")
        kubectl.apply(*(b for b in render(*values, *on) if b["kind"].startswith("ValidatingAdmission")))
        life = Lived(kubectl=kubectl, account=account, values=values, namespaced=namespaced, namespace="team-a")
        life.token = (account.read_text().split("token: ")[1]).split()[0]
        with _bait(life):
            asyncio.run(_live(life, folder))
        yield life


@contextmanager
def _bait(life: Lived) -> Iterator[None]:
    """A listener that nobody has a reason to call."""
    server = socket.create_server(("127.0.0.1", 0))
    life.bait = f"127.0.0.1:{server.getsockname()[1]}"

    def count() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            life.bites.append(str(address))
            connection.close()

    threading.Thread(target=count, daemon=True).start()
    try:
        yield
    finally:
        server.close()


def make_wanted(life: Lived, version: str, **serving: Any) -> dict[str, Any]:
    """A spec that names the bait and a Secret wherever it can, and asks for every kind of child."""
    gateway = {"name": "public", "hostnames": ["a.example.org"], "grpc": {"hostnames": ["grpc.example.org"]}}
    autoscaling = {"minReplicas": 2, "maxReplicas": 2}
    told = {"replicas": 2, "autoscaling": autoscaling, "gpus": {"count": 1}, "gateway": gateway, **serving}
    return {
        "model": {
            "uri": f"http://{life.bait}/{version}/model.onnx",
            "credentials": {"secretName": "store-credentials"},
            "samples": {"uri": f"http://{life.bait}/samples.npz", "secretName": "store-credentials"},
        },
        "serving": {key: value for key, value in told.items() if value is not None},
        "revisionHistoryLimit": 0,
    }


async def _live(life: Lived, folder: Path) -> None:
    life.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "store-credentials", "namespace": life.namespace},
            "stringData": {"AWS_SECRET_ACCESS_KEY": life.canary, "HF_TOKEN": life.canary},
        }
    )
    token_file = folder / "prometheus-token"
    token_file.write_text(life.canary)
    settings = {
        "watch_namespaces": life.namespace if life.namespaced else "",
        "gateway_api": True,
        "prometheus_url": f"http://{life.bait}",
        "prometheus_token_file": token_file,
        "resync": 3600,
        # On a machine that is busy with other tests, nobody else wants this Lease.
        "lease_duration": 120,
        "lease_renew_deadline": 90,
        "lease_retry": 2,
    }
    with proxies() as host:
        proxy = host.open(life.account, trace=life.trace)
        async with kube_cluster(life.kubectl.kubeconfig) as admin:
            with running_operator(proxy.kubeconfig, **settings) as operator:
                try:
                    await _story(life, admin)
                except AssertionError as error:
                    raise AssertionError(f"{error}; the operator said: {operator.log.read_text()[-4000:]}") from error
                life.metrics = operator.get("/metrics")
                await asyncio.to_thread(_look_from_outside, life, operator)
                assert operator.stop() == 0, operator.log.read_text()[-2000:]
                life.log = operator.log.read_text()
            life.left += [e.stored for e in life.trace.exchanges if e.stored]
            life.left += await _stored(admin, life.namespace)


async def _story(life: Lived, admin: KubeCluster) -> None:
    gateway = asyncio.create_task(_accept(admin, life.namespace))
    served = asyncio.create_task(_served(life, admin))
    stuck = asyncio.create_task(_stuck(life, admin))
    try:
        await asyncio.gather(served, stuck)
    finally:
        gateway.cancel()
    life.left += await _stored(admin, life.namespace)
    await _gone(life, admin)


async def _served(life: Lived, admin: KubeCluster) -> None:
    """An object that serves, changes, goes back, gives up what it had."""
    async with playing_kubelet(_Only(admin, SERVED), life.namespace):
        first = make_wanted(life, "v1")
        life.kubectl.apply(
            *make_strangers(life.namespace, names.revision_hash(ModelDeploymentSpec.model_validate(first)))
        )
        for version in ("v1", "v2", "v1"):
            await _ready(life, admin, make_wanted(life, version))
        # Nothing is left of what only this asked for.
        bare = make_wanted(life, "v1", gateway=None, autoscaling=None, minAvailable=0, access={"mode": "Open"})
        await _ready(life, admin, bare)
        kinds = {"HTTPRoute", "GRPCRoute", "NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"}

        async def are_gone() -> bool:
            mine = [b for b in await _children(admin, life.namespace) if name_of(b).startswith(SERVED)]
            return not kinds & {body["kind"] for body in mine}

        await until(f"no {kinds} any more", are_gone, seconds=SECONDS)


async def _ready(life: Lived, admin: KubeCluster, spec: Mapping[str, Any]) -> None:
    body = await admin.apply(make_object(SERVED, life.namespace, spec))
    generation = body["metadata"]["generation"]

    async def is_ready() -> bool:
        stored = await admin.get(ref_of(make_object(SERVED, life.namespace)))
        ready = None if stored is None else condition_of(stored, "Ready")
        life.left.append(stored or {})
        if ready and ready["reason"] == "NotOwned":
            await _let_pass(life, admin, str(ready["message"]))
        return bool(ready and ready["status"] == "True" and ready["observedGeneration"] == generation)

    await until(f"{SERVED} is Ready", is_ready, seconds=SECONDS)


def make_strangers(namespace: str, revision: str) -> list[dict[str, Any]]:
    """Somebody else's objects under names that the operator will want: it must look, say so, and wait."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return [
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "annotations": {"example.org/mine": "yes"}},
            **content,
        }
        for version, kind, name, content in (
            ("v1", "PersistentVolumeClaim", names.store_claim(SERVED), {"spec": claim}),
            ("v1", "ConfigMap", names.revision_name(SERVED, revision), {"data": {"a": "b"}}),
            ("v1", "Service", names.traffic_service(SERVED), {"spec": {"ports": [{"port": 1}]}}),
            ("networking.k8s.io/v1", "NetworkPolicy", names.network_policy(SERVED), {"spec": {"podSelector": {}}}),
        )
    ]


async def _let_pass(life: Lived, admin: KubeCluster, message: str) -> None:
    """Take away the stranger that the operator complains about, once it was seen to be as it was."""
    for body in make_strangers(life.namespace, message.rpartition(f"{SERVED}-")[2][:8]):
        stored = await admin.get(ref_of(body))
        if stored is None or f'{body["kind"]} "{name_of(body)}"' not in message:
            continue
        if not stored["metadata"].get("ownerReferences"):
            assert "labels" not in stored["metadata"], "the operator wrote to a stranger"
            life.strangers.append(body["kind"])
            await admin.delete(ref_of(stored))


async def _accept(admin: KubeCluster, namespace: str) -> None:
    """Play the gateway for ever: every route is taken over as it stands."""
    while True:
        for body in [
            body
            for version, kind in ROUTE_KINDS
            for body in await admin.list(api_version=version, kind=kind, namespace=namespace, labels={})
        ]:
            generation = body["metadata"]["generation"]
            said = [
                {
                    "type": kind,
                    "status": "True",
                    "reason": kind,
                    "message": "",
                    "observedGeneration": generation,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parents = [
                {"parentRef": parent, "controllerName": "example.org/played", "conditions": said}
                for parent in body["spec"]["parentRefs"]
            ]
            old = [
                c.get("observedGeneration") for p in body.get("status", {}).get("parents", ()) for c in p["conditions"]
            ]
            if old != [generation] * len(said) * len(parents):
                try:
                    await admin.write_status({**body, "status": {"parents": parents}})
                except ClusterError:
                    continue
        await asyncio.sleep(0.1)


async def _stuck(life: Lived, admin: KubeCluster) -> None:
    """An object whose Job cannot start, whose claim is asked for in another size, and a stranger in its way."""
    small = make_object(STUCK, life.namespace, {"model": {"uri": f"http://{life.bait}/m.onnx"}})
    await admin.apply(small)
    claim = ObjectRef(api_version="v1", kind="PersistentVolumeClaim", namespace=life.namespace, name=f"{STUCK}-store")

    async def claim_uid() -> str:
        found = await admin.get(claim)
        return "" if found is None else str(found["metadata"]["uid"])

    before = await until("a claim", claim_uid, seconds=SECONDS)

    async def a_pod() -> Mapping[str, Any] | None:
        pods = await admin.list(api_version="v1", kind="Pod", namespace=life.namespace, labels={})
        return next((pod for pod in pods if name_of(pod).startswith(STUCK)), None)

    pod = await until("a pod", a_pod, seconds=SECONDS)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    status = {"name": "fetch", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    await admin.write_status({**pod, "status": {**pod["status"], "initContainerStatuses": [status]}})
    await admin.apply({**small, "spec": {**small["spec"], "storage": {"size": "20Gi"}}})

    async def is_anew() -> bool:
        found = await claim_uid()
        return found not in {"", before}

    await until("another claim", is_anew, seconds=SECONDS)


async def _gone(life: Lived, admin: KubeCluster) -> None:
    """Both are deleted while the operator runs; nothing holds them."""
    for name in (SERVED, STUCK):
        ref = ref_of(make_object(name, life.namespace))
        await admin.delete(ref)

        async def is_gone(ref: ObjectRef = ref) -> bool:
            return await admin.get(ref) is None

        await until(f"{name} is gone", is_gone, seconds=SECONDS)


class _Only:
    """The cluster as a kubelet sees it that runs the pods of one object alone."""

    def __init__(self, cluster: KubeCluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    async def list(self, **which: Any) -> tuple[Mapping[str, Any], ...]:
        return tuple(b for b in await self._cluster.list(**which) if name_of(b).startswith(self._name))

    async def write_status(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._cluster.write_status(body)


async def _children(admin: KubeCluster, namespace: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for kind in watched_kinds(gateway_api=True):
        found += await list_kind(admin, kind, namespace=namespace, labels={}) or ()
    return found


async def _stored(admin: KubeCluster, namespace: str) -> list[Mapping[str, Any]]:
    """What anybody who may read the namespace sees, Secrets left out."""
    events = await admin.list(api_version="events.k8s.io/v1", kind="Event", namespace=namespace, labels={})
    objects = await admin.list(api_version=MDEP.api_version, kind=MDEP.kind, namespace=namespace, labels={})
    return [*events, *objects, *await _children(admin, namespace)]


def _look_from_outside(life: Lived, operator: OperatorProcess) -> None:
    """Which ports the process listens at, and what they answer to whoever asks."""
    life.port = int(str(next(line["port"] for line in operator.lines() if line["msg"] == "started")))
    life.listening = _listening(operator.process.pid)
    asked = ("GET /healthz", "GET /readyz", "GET /metrics", "GET /", "GET /debug/pprof", "GET /metrics/../etc/passwd")
    more = ("GET /%2e%2e/%2e%2e/etc/passwd", "POST /healthz", "PUT /metrics", "DELETE /metrics", "TRACE /")
    life.answers = {question: _ask(life.port, question) for question in (*asked, *more)}


def _ask(port: int, question: str) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"{question} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(64).split()[1])


def _listening(pid: int) -> tuple[int, ...]:
    """TCP ports at which a process of this machine listens."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = entry.readlink().name if entry.is_symlink() else ""
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.append(int(words[1].rpartition(":")[2], 16))
    return tuple(sorted(set(found)))
