"""Where there are no nodes, somebody must play the kubelet: pods of Jobs end, pods of Deployments get ready.

The controllers are real: they make the pods and count what is written here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from pilotfish.api.job_input import JOB_ENV, REFRESH_ENV, VERIFY_ENV
from pilotfish.api.report import TerminationMessage
from pilotfish.api.termination import encode_termination_message
from pilotfish.names import COMPONENT_LABEL, MANAGED_BY, REVISION_LABEL
from pilotfish.ports import ClusterError
from pilotfish.resources.certificate import WATCH_CONTAINER
from support.builders import make_result, make_verification

Result = Callable[[Mapping[str, Any]], TerminationMessage]
POLL = 0.1


def succeed(job: Mapping[str, Any]) -> TerminationMessage:
    """Every optimization goes well."""
    return make_result(job["recipeKey"])


def agree(order: Mapping[str, Any]) -> TerminationMessage:
    """Every loaded server answers like the original."""
    return make_verification()


def find_nothing_new(order: Mapping[str, Any]) -> TerminationMessage:
    """Every look finds the bytes of `succeed`."""
    return make_look(str(make_result().source.digest))  # type: ignore[union-attr]


def make_look(digest: str) -> TerminationMessage:
    """What a look that found these bytes leaves behind."""
    told = {"outcome": "Succeeded", "reason": "Succeeded", "message": "looked", "look": {"changed": True}}
    return TerminationMessage.model_validate({**told, "source": {"digest": digest, "bytes": 4321}})


class Kubelet:
    """Plays the pods of one namespace; None: of all."""

    def __init__(
        self,
        cluster: Any,
        namespace: str | None,
        *,
        result: Result = succeed,
        verify: Result = agree,
        look: Result = find_nothing_new,
        serve: bool = True,
        answer: bool = False,
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.result = result
        self.verify = verify
        self.look = look
        self.serve = serve
        # Nobody is at the address of a played pod: only a test that plays the pods' counters lets the operator ask them.
        self.answer = answer
        self.certificate = "c" * 16
        self.jobs_run: list[str] = []
        self.verified: list[str] = []

    async def play(self) -> None:
        """One look at all pods."""
        labels = {MANAGED_BY: "pilotfish"}
        pods = await self.cluster.list(api_version="v1", kind="Pod", namespace=self.namespace, labels=labels)
        for pod in pods:
            if pod.get("status", {}).get("phase") != "Pending":
                continue
            component = pod["metadata"]["labels"][COMPONENT_LABEL]
            plays = {"optimize": self._optimized, "verify": self._verified, "refresh": self._looked}.get(component)
            status = plays(pod) if plays is not None else self._ready(pod) if self.serve else None
            if status is not None:
                await self._write(pod, status)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.play()
            await asyncio.sleep(POLL)

    async def _write(self, pod: Mapping[str, Any], status: dict[str, Any]) -> None:
        try:
            await self.cluster.write_status({**pod, "status": {**pod["status"], **status}})
        except ClusterError:
            return  # it changed meanwhile: the next look sees it as it is

    def _optimized(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        job = _told(pod, JOB_ENV)
        self.jobs_run.append(job["revision"])
        fetched = _container("fetch", {"terminated": {"exitCode": 0, "finishedAt": _now()}})
        return {**_ended(pod, self.result(job)), "initContainerStatuses": [fetched]}

    def _verified(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        self.verified.append(pod["metadata"]["labels"][REVISION_LABEL])
        return _ended(pod, self.verify(_told(pod, VERIFY_ENV)))

    def _looked(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        return _ended(pod, self.look(_told(pod, REFRESH_ENV)))

    def _ready(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": _now()}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        names = [container["name"] for container in pod["spec"]["containers"]]
        ended = {"exitCode": 0, "finishedAt": _now(), "message": self.certificate}
        told = {"lastState": {"terminated": ended}} if names == [WATCH_CONTAINER] else {}
        running = {"running": {"startedAt": _now()}}
        return {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}],
            "startTime": _now(),
            "conditions": conditions,
            "containerStatuses": [
                {**_container(name, running), "ready": True, "started": self.answer, **told} for name in names
            ],
        }


@asynccontextmanager
async def playing_kubelet(cluster: Any, namespace: str | None, **how: Any) -> AsyncIterator[Kubelet]:
    """A kubelet that plays beside the test."""
    kubelet = Kubelet(cluster, namespace, **how)
    task = asyncio.create_task(kubelet.run())
    try:
        yield kubelet
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _told(pod: Mapping[str, Any], variable: str) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    told: dict[str, Any] = json.loads(next(e["value"] for e in container["env"] if e["name"] == variable))
    return told


def _ended(pod: Mapping[str, Any], told: TerminationMessage) -> dict[str, Any]:
    """What the only container left: a failure of the user's making ends with 10, one of verifying with 1."""
    codes = {"Succeeded": 0, "ArtifactReused": 0, "VerificationError": 1}
    code = codes.get(told.reason.value, 10)
    ended = {"exitCode": code, "finishedAt": _now(), "message": encode_termination_message(told)}
    (container,) = pod["spec"]["containers"]
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [_container(container["name"], {"terminated": ended})],
    }


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "image": "i",
        "imageID": "i",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def _now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
