"""The operator's neighbours, played small: Job and Deployment controllers, scheduler, kubelet. Each step does one thing.

They know of Kubernetes what the operator looks at: conditions, counters, container states, termination messages. Nothing
here sleeps or is random; the world decides who steps when.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import JobInput, RefreshInput
from pilotfish.api.report import TerminationMessage
from pilotfish.api.termination import encode_termination_message
from support.builders import OWNER, make_result, make_verification
from support.fake_cluster import FakeCluster
from support.pod_states import bind, crash, end, leave_pending, serve, set_condition, tell_and_go_on
from support.traffic import ERRING, SLUGGISH

LABELS = {names.NAME_LABEL: OWNER.name}
ANY_BYTES = "sha256:" + "b" * 64
GOOD = "good"
FLAKY = "flaky"  # the first attempt of the Job dies, the second goes well
OUT_OF_MEMORY = "out of memory"
SILENT = "silent"  # the Job ends well and says nothing
UNLOADABLE = "unloadable"  # the Job goes well, Triton cannot load what it made
DAMAGED = "damaged"  # the Job goes well, the artifact in the store is not what it was
SLOW = "slow"  # Triton never gets ready
WRONG = "wrong"  # the loaded server answers otherwise than the original
UNASKED = "unasked"  # the loaded server does not answer the verification
_NEVER_READY = frozenset({UNLOADABLE, DAMAGED, SLOW})


@dataclass(slots=True)
class Surroundings:
    """What a test decides about the world. Any other word in `models` is the reason of a failing Job."""

    gpus: int = 8
    models: dict[str, str] = field(default_factory=dict)
    bytes_at: dict[str, str] = field(default_factory=dict)
    """Digest of what lies at a uri; a word of `models` under a digest comes before one under a uri."""
    missing_images: set[str] = field(default_factory=set)
    missing_secrets: set[str] = field(default_factory=set)
    certificate: str = "c" * 16
    """Digest of every certificate that is looked at."""
    quota_exceeded: bool = False
    load: timedelta = timedelta()
    """From the start of a pod until it can be ready."""
    grace: timedelta = timedelta()
    """How long a pod that leaves holds its place."""


@dataclass(slots=True)
class Neighbours:
    """All of them over one cluster."""

    cluster: FakeCluster
    around: Surroundings
    now: Callable[[], datetime]

    def steps(self) -> tuple[Callable[[], None], ...]:
        """One step of each, in the order of their work."""
        return (self.control_jobs, self.control_deployments, self.schedule, self.run_pods)

    def due(self) -> datetime | None:
        """When time alone lets one of them act."""
        moments = []
        for pod in self.cluster.find("Pod", {names.COMPONENT_LABEL: "triton"}):
            if is_leaving(pod):
                moments.append(datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]))
            elif _phase(pod) == "Running" and not _is_true(pod, "Ready") and self.behaviour_of(pod) not in _NEVER_READY:
                moments.append(_started(pod) + self.around.load)
        return min((moment for moment in moments if moment > self.now()), default=None)

    # Job controller

    def control_jobs(self) -> None:
        for job in self.cluster.find("Job", LABELS):
            if not _is_true(job, "Complete") and not _is_true(job, "Failed"):
                self._control_job(job)

    def _control_job(self, job: dict[str, Any]) -> None:
        pods = [p for p in self.cluster.find("Pod") if _owned_by(p, job)]
        failed = [p for p in pods if _phase(p) == "Failed" and not _is_true(p, "DisruptionTarget")]
        active = [p for p in pods if _phase(p) in {"Pending", "Running"}]
        if any(_phase(p) == "Succeeded" for p in pods):
            self._end_job(job, "Complete", "CompletionsReached")
        elif any(10 in _exit_codes(p) for p in failed):
            self._end_job(job, "Failed", "PodFailurePolicy")
        elif len(failed) > job["spec"]["backoffLimit"]:
            self._end_job(job, "Failed", "BackoffLimitExceeded")
        elif self.now() - _born(job) > timedelta(seconds=job["spec"]["activeDeadlineSeconds"]):
            for pod in active:
                self.cluster.remove_now("Pod", pod["metadata"]["name"])
            self._end_job(job, "Failed", "DeadlineExceeded")
        elif not active and not self.around.quota_exceeded:
            self._create_pod(f"{job['metadata']['name']}-{len(pods)}", job, job["spec"]["template"])

    def _end_job(self, job: dict[str, Any], kind: str, reason: str) -> None:
        def finish(body: dict[str, Any]) -> None:
            body["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason}]}

        self.cluster.change_now("Job", job["metadata"]["name"], finish)

    # Deployment controller

    def control_deployments(self) -> None:
        for deployment in self.cluster.find("Deployment", LABELS):
            current = self._replica_set(deployment)
            self._replace_failed(current)
            self._scale(deployment, current)
            self._count(deployment, current)

    def _replica_set(self, deployment: dict[str, Any]) -> dict[str, Any]:
        template = deployment["spec"]["template"]
        name = f"{deployment['metadata']['name']}-{names.short_hash(template)}"
        found = self.cluster.look("ReplicaSet", name)
        if found is not None:
            return found
        meta = {
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": [_owner(deployment)],
        }
        return self.cluster.create_now({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": {}})

    def _replace_failed(self, current: dict[str, Any]) -> None:
        for pod in self._pods(current):
            if _phase(pod) == "Failed":
                self.cluster.remove_now("Pod", pod["metadata"]["name"])

    def _scale(self, deployment: dict[str, Any], current: dict[str, Any]) -> None:
        wanted = deployment["spec"].get("replicas", 1)
        own = [pod for pod in self._pods(current) if not is_leaving(pod)]
        taken = {pod["metadata"]["name"] for pod in self._pods(current)}
        free = (n for n in itertools.count() if f"{current['metadata']['name']}-{n}" not in taken)
        for number in itertools.islice(free, max(0, wanted - len(own))):
            if not self.around.quota_exceeded:
                name = f"{current['metadata']['name']}-{number}"
                self._create_pod(name, current, deployment["spec"]["template"])
        # Like a ReplicaSet: those that are not ready go first.
        leave = sorted(own, key=lambda pod: (not is_ready(pod), pod["metadata"]["name"]), reverse=True)
        for pod in leave[: max(0, len(own) - wanted)]:
            self._let_go(pod)
        ready = [pod for pod in self._pods(current) if is_ready(pod)]
        if len(ready) >= wanted:
            for old in self._older(deployment, current):
                self.cluster.remove_now("ReplicaSet", old["metadata"]["name"])

    def _pods(self, owner: dict[str, Any]) -> list[dict[str, Any]]:
        return [pod for pod in self.cluster.find("Pod") if _owned_by(pod, owner)]

    def _let_go(self, pod: dict[str, Any]) -> None:
        """It gets no more requests and is gone once its grace period is over."""
        name, until = pod["metadata"]["name"], self.now() + self.around.grace
        if not self.around.grace or "nodeName" not in pod["spec"]:
            self.cluster.remove_now("Pod", name)
            return
        self.cluster.change_now("Pod", name, lambda b: b["metadata"].update(deletionTimestamp=until.isoformat()))

    def _older(self, deployment: dict[str, Any], current: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for other in self.cluster.find("ReplicaSet"):
            if _owned_by(other, deployment) and other["metadata"]["name"] != current["metadata"]["name"]:
                yield other

    def _count(self, deployment: dict[str, Any], current: dict[str, Any]) -> None:
        sets = [current, *self._older(deployment, current)]
        pods = [p for s in sets for p in self._pods(s) if not is_leaving(p)]
        updated = [p for p in pods if _owned_by(p, current)]
        ready = [p for p in pods if _is_true(p, "Ready")]
        old = deployment.get("status", {})
        counts = {"replicas": len(pods), "updatedReplicas": len(updated), "readyReplicas": len(ready)}
        moved = any(old.get(key, 0) != value for key, value in counts.items())
        progressing = next((c for c in old.get("conditions", ()) if c["type"] == "Progressing"), None)
        since = progressing["lastUpdateTime"] if progressing and not moved else self.now().isoformat()
        deadline = timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))
        complete = len(ready) >= deployment["spec"].get("replicas", 1)
        late = not complete and self.now() - datetime.fromisoformat(since) > deadline
        reason = "ProgressDeadlineExceeded" if late else "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"
        conditions = [
            {"type": "Progressing", "status": str(not late), "reason": reason, "lastUpdateTime": since},
        ]
        if self.around.quota_exceeded and not complete:
            told = 'pods "x" is forbidden: exceeded quota: gpus, requested: 1, used: 1, limited: 1'
            conditions.append({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": told})

        def count(body: dict[str, Any]) -> None:
            seen = body["metadata"]["generation"]
            body["status"] = {"observedGeneration": seen, **counts, "conditions": conditions}

        self.cluster.change_now("Deployment", deployment["metadata"]["name"], count)

    # Scheduler

    def schedule(self) -> None:
        for pod in self.cluster.find("Pod"):
            if "nodeName" in pod["spec"] or _phase(pod) != "Pending":
                continue
            fits = _gpus(pod) <= self.free_gpus()
            self.cluster.change_now(
                "Pod", pod["metadata"]["name"], partial(bind if fits else leave_pending, now=self.now())
            )

    def free_gpus(self) -> int:
        """GPUs that no bound pod holds."""
        bound = (p for p in self.cluster.find("Pod") if "nodeName" in p["spec"])
        return self.around.gpus - sum(_gpus(p) for p in bound if _phase(p) in {"Pending", "Running"})

    # Kubelet

    def run_pods(self) -> None:
        """The first pod that has something to do does it: pods of one revision get ready one after the other."""
        for pod in self.cluster.find("Pod"):
            if is_leaving(pod):
                if datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) <= self.now():
                    self.cluster.remove_now("Pod", pod["metadata"]["name"])
                    return
            elif "nodeName" in pod["spec"] and _phase(pod) in {"Pending", "Running"}:
                before = self.cluster.changes
                self.cluster.change_now("Pod", pod["metadata"]["name"], self._advance_pod)
                if self.cluster.changes != before:
                    return

    def _advance_pod(self, pod: dict[str, Any]) -> None:
        status = pod["status"]
        status.setdefault("startTime", self.now().isoformat())
        secrets = {v["secret"]["secretName"] for v in pod["spec"]["volumes"] if "secret" in v}
        lacks = bool(secrets & self.around.missing_secrets)
        set_condition(pod, "PodReadyToStartContainers", self.now(), value=not lacks)
        images = [c["image"] for c in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])]
        missing = sorted(set(images) & self.around.missing_images)
        if lacks:
            return
        if missing and status["phase"] == "Pending":
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
            first = "initContainers" if "initContainers" in pod["spec"] else "containers"
            status[first.replace("ainers", "ainerStatuses")] = [
                {"name": pod["spec"][first][0]["name"], "image": missing[0], "ready": False, "state": state}
            ]
            return
        if status["phase"] == "Pending":
            status["phase"] = "Running"
            status["initContainerStatuses"] = []
        elif pod["metadata"]["labels"][names.COMPONENT_LABEL] == "optimize":
            self._end_optimizer(pod)
        elif pod["metadata"]["labels"][names.COMPONENT_LABEL] == "refresh":
            self._end_refresher(pod)
        elif pod["metadata"]["labels"][names.COMPONENT_LABEL] == "verify":
            self._end_verifier(pod)
        elif pod["metadata"]["labels"][names.COMPONENT_LABEL] == "certificate":
            tell_and_go_on(pod, "certificate", self.now(), message=self.around.certificate)
        else:
            self._serve(pod)

    def _end_optimizer(self, pod: dict[str, Any]) -> None:
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        told = JobInput.model_validate_json(str(env["PILOTFISH_JOB"]))
        found = told.model.digest or self.around.bytes_at.get(told.model.uri, ANY_BYTES)
        behaviour = self.around.models.get(found) or self.behaviour(told.model.uri)
        first = pod["metadata"]["name"].endswith("-0")
        last = pod["spec"]["containers"][0]["name"]  # with a bucket, the one that brings the artifact there
        if behaviour == OUT_OF_MEMORY:
            end(pod, "optimize", code=137, message="", reason="OOMKilled")
        elif behaviour == FLAKY and first:
            end(pod, "optimize", code=1, message="")
        elif behaviour == SILENT:
            end(pod, last, code=0, message="")
        elif behaviour in {GOOD, FLAKY, UNLOADABLE, DAMAGED, SLOW, WRONG, UNASKED, ERRING, SLUGGISH}:
            made = make_result(told.recipe_key)
            made = made.model_copy(update={"source": made.source.model_copy(update={"digest": found})})
            end(pod, last, code=0, message=encode_termination_message(made))
        else:
            failed = {"outcome": "Failed", "reason": behaviour, "message": f"{told.model.uri} cannot be used"}
            message = TerminationMessage.model_validate(failed)
            end(pod, "fetch", code=10, message=encode_termination_message(message))

    def _end_refresher(self, pod: dict[str, Any]) -> None:
        env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        uri = RefreshInput.model_validate_json(str(env["PILOTFISH_REFRESH"])).uri
        found = self.around.bytes_at.get(uri, ANY_BYTES)
        if not found.startswith("sha256:"):
            failed = {"outcome": "Failed", "reason": found, "message": f"{uri} cannot be looked at"}
            message = TerminationMessage.model_validate(failed)
            end(pod, "refresh", code=10, message=encode_termination_message(message))
            return
        told = {"outcome": "Succeeded", "reason": "Succeeded", "message": "looked", "look": {"changed": True}}
        message = TerminationMessage.model_validate({**told, "source": {"digest": found, "bytes": 4321}})
        end(pod, "refresh", code=0, message=encode_termination_message(message))

    def _end_verifier(self, pod: dict[str, Any]) -> None:
        behaviour = self.behaviour(self._uri_of(pod))
        if behaviour == UNASKED:
            failed = {"outcome": "Failed", "reason": "VerificationError", "message": "0 of 1 pods say they are ready"}
            end(pod, "verify", code=1, message=encode_termination_message(TerminationMessage.model_validate(failed)))
            return
        wrong = behaviour == WRONG
        message = encode_termination_message(make_verification(passed=not wrong))
        end(pod, "verify", code=10 if wrong else 0, message=message)

    def _serve(self, pod: dict[str, Any]) -> None:
        if names.SHADOW_LABEL in pod["metadata"]["labels"]:
            serve(pod, self.now())
            return
        behaviour = self.behaviour(self._uri_of(pod))
        if behaviour == UNLOADABLE:
            log = "I1122 10:00:00.123456 1 x.cc:1] starting\nE1122 10:00:00.123456 1 model_lifecycle.cc:1] no such op"
            crash(pod, "containerStatuses", "triton", self.now(), code=1, message=log)
        elif behaviour == DAMAGED:
            failed = {"outcome": "Failed", "reason": "ArtifactDigestMismatch", "message": "the artifact was changed"}
            message = encode_termination_message(TerminationMessage.model_validate(failed))
            crash(pod, "initContainerStatuses", "install", self.now(), code=10, message=message)
        elif behaviour != SLOW and self.now() - _started(pod) >= self.around.load:
            serve(pod, self.now())

    def kill(self, pod: dict[str, Any]) -> None:
        """The server of a pod ends; the kubelet starts it again."""

        def die(body: dict[str, Any]) -> None:
            crash(body, "containerStatuses", "triton", self.now(), code=139, message="")

        self.cluster.change_now("Pod", pod["metadata"]["name"], die)

    def _uri_of(self, pod: dict[str, Any]) -> str:
        revision = pod["metadata"]["labels"][names.REVISION_LABEL]
        record = next(r for r in self.cluster.find("ControllerRevision", {names.REVISION_LABEL: revision}))
        return str(record["data"]["intent"]["model"]["uri"])

    def behaviour_of(self, pod: dict[str, Any]) -> str:
        """What becomes of the model that a Triton pod serves."""
        return self.behaviour(self._uri_of(pod))

    def behaviour(self, uri: str) -> str:
        """What becomes of the model behind a uri."""
        return self.around.models.get(uri, GOOD)

    def _create_pod(self, name: str, owner: dict[str, Any], template: dict[str, Any]) -> None:
        meta = {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [_owner(owner)],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": dict(template["spec"])}
        self.cluster.create_now({**pod, "status": {"phase": "Pending"}})


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether the pod gets requests from Services that select it."""
    return _is_true(pod, "Ready") and not is_leaving(pod)


def is_leaving(pod: dict[str, Any]) -> bool:
    """Whether the pod is on its way out."""
    return "deletionTimestamp" in pod["metadata"]


def _owner(body: dict[str, Any]) -> dict[str, Any]:
    meta = body["metadata"]
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def _owned_by(body: dict[str, Any], owner: dict[str, Any]) -> bool:
    return any(o["uid"] == owner["metadata"]["uid"] for o in body["metadata"].get("ownerReferences", ()))


def _phase(pod: dict[str, Any]) -> str:
    return str(pod["status"]["phase"])


def _is_true(body: dict[str, Any], kind: str) -> bool:
    conditions = body.get("status", {}).get("conditions", ())
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _born(body: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(body["metadata"]["creationTimestamp"])


def _started(pod: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["status"]["startTime"])


def _exit_codes(pod: dict[str, Any]) -> set[int]:
    statuses = (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ()))
    return {s["state"]["terminated"]["exitCode"] for s in statuses if "terminated" in s["state"]}


def _gpus(pod: dict[str, Any]) -> int:
    limits = (c["resources"]["limits"] for c in pod["spec"]["containers"])
    return sum(int(amount) for limit in limits for name, amount in limit.items() if name == "nvidia.com/gpu")
