"""Ordered checks of pods that are not ready: the first finding counts.

The order goes from outside in: place, image, volumes, installing, serving.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pilotfish.api.reasons import Reason
from pilotfish.api.report import USER_ERROR_EXIT_CODE, one_line
from pilotfish.core.failures import (
    ARTIFACT_LOST,
    Finding,
    log_error,
    memory_limit,
    parse_time,
    ran_out_of_memory,
    read_termination_message,
)
from pilotfish.core.objects import Body, condition_is_true, condition_of
from pilotfish.resources.deployment import INSTALL_CONTAINER, TRITON_CONTAINER

CRASHES_UNTIL_FAILED = 3
"""A container that ended this often with an error will not come up by itself."""
WAIT_FOR_VOLUMES = timedelta(seconds=60)
_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG_FAILURES = frozenset({"CreateContainerConfigError", "CreateContainerError"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod, what it belongs to in words (`Deployment "digits-x"`), and the present moment."""

    pod: Body
    of: str
    now: datetime

    def containers(self) -> Iterator[Mapping[str, Any]]:
        """Statuses of all containers, init containers first."""
        status = self.pod.get("status", {})
        yield from status.get("initContainerStatuses") or ()
        yield from status.get("containerStatuses") or ()

    def describe(self) -> str:
        """The command that shows more."""
        labels = self.pod["metadata"].get("labels", {})
        chosen = ",".join(
            f"pilotfish.dev/{k}={labels[f'pilotfish.dev/{k}']}"
            for k in ("name", "revision", "component", "shadow")
            if f"pilotfish.dev/{k}" in labels
        )
        return f"kubectl describe pods -l {chosen}"


def find_in_pods(pods: Iterable[Body], *, of: str, now: datetime) -> Finding | None:
    """The first check that finds something in any of the pods; checks come in the order of POD_CHECKS."""
    views = [PodView(pod=pod, of=of, now=now) for pod in pods if pod.get("status", {}).get("phase") != "Succeeded"]
    findings = (check(view) for check in POD_CHECKS for view in views)
    return next((finding for finding in findings if finding is not None), None)


def check_eviction(view: PodView) -> Finding | None:
    """The node took the pod away."""
    status = view.pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    if status.get("reason") != "Evicted" and not condition_is_true(view.pod, "DisruptionTarget"):
        return None
    return Finding(
        reason=Reason.POD_EVICTED, message=f"A pod of {view.of} was evicted from its node; another one takes its place"
    )


def check_scheduling(view: PodView) -> Finding | None:
    """The scheduler finds no place."""
    scheduled = condition_of(view.pod, "PodScheduled")
    if scheduled is None or scheduled.get("status") != "False":
        return None
    detail = one_line(str(scheduled.get("message", "")).split(". ", 1)[0].rstrip("."), limit=300)
    gpus = _gpus(view.pod)
    short = [resource for resource in gpus if f"Insufficient {resource}" in detail]
    if short:
        resource = short[0]
        return Finding(
            reason=Reason.INSUFFICIENT_GPU,
            message=f"A pod of {view.of} asks for {gpus[resource]} {resource} and no node has that free ({detail}); "
            "free a GPU, add a node, or lower spec.serving.gpus.count",
        )
    if "is being deleted" in detail:
        return Finding(
            reason=Reason.VOLUME_UNBOUND,
            message=f"A pod of {view.of} waits for its volume ({detail}); the claim is made anew once no pod uses it: "
            "delete those that do",
        )
    if "persistentvolumeclaim" in detail.lower() or "volume" in detail.lower():
        return Finding(
            reason=Reason.VOLUME_UNBOUND,
            message=f"A pod of {view.of} waits for its volume ({detail}); check spec.storage and the StorageClass",
        )
    return Finding(
        reason=Reason.UNSCHEDULABLE,
        message=f"No node takes a pod of {view.of} ({detail}); free room, add a node, or ask for less",
    )


def check_image(view: PodView) -> Finding | None:
    """An image that cannot be pulled."""
    for status, waiting in _waiting(view):
        if waiting.get("reason") in _PULL_FAILURES:
            return Finding(
                reason=Reason.IMAGE_PULL_FAILED,
                message=f'Image "{status.get("image")}" of {view.of} cannot be pulled; check its name and the pull '
                f"secrets, see {view.describe()}",
            )
    return None


def check_container_config(view: PodView) -> Finding | None:
    """A container that the kubelet cannot set up."""
    for status, waiting in _waiting(view):
        if waiting.get("reason") in _CONFIG_FAILURES:
            detail = one_line(str(waiting.get("message", "")), limit=200)
            reason = Reason.CREDENTIALS_MISSING if "secret" in detail.lower() else Reason.CONTAINER_CONFIG_INVALID
            return Finding(
                reason=reason, message=f'Container "{status.get("name")}" of {view.of} cannot be set up: {detail}'
            )
    return None


def check_volumes(view: PodView) -> Finding | None:
    """A pod that has a node but not its volumes; the kubelet tells the cause in events alone."""
    since = waits_for_volumes_since(view.pod)
    if since is None or view.now - since < WAIT_FOR_VOLUMES:
        return None
    volumes = view.pod["spec"].get("volumes", ())
    secrets = sorted(v["secret"]["secretName"] for v in volumes if "secret" in v)
    claims = sorted(v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v)
    if secrets:
        wanted = " and ".join(f'Secret "{name}"' for name in secrets)
        return Finding(
            reason=Reason.CREDENTIALS_MISSING,
            message=f"A pod of {view.of} waits for its volumes; check that {wanted} exists in its namespace, "
            f"see {view.describe()}",
        )
    wanted = " and ".join(f'claim "{name}"' for name in claims) or "its volumes"
    return Finding(
        reason=Reason.VOLUME_UNBOUND,
        message=f"A pod of {view.of} waits for its volumes; check {wanted}, see {view.describe()}",
    )


def waits_for_volumes_since(pod: Body) -> datetime | None:
    """When a pod that has a node but no sandbox yet was accepted by its kubelet."""
    status = pod.get("status", {})
    ready = condition_of(pod, "PodReadyToStartContainers")
    if status.get("phase") != "Pending" or ready is None or ready.get("status") != "False":
        return None
    started = status.get("startTime")
    return None if started is None else parse_time(started)


def check_install(view: PodView) -> Finding | None:
    """The artifact could not be installed or is not the one that was made."""
    status, ended = _crash(view, INSTALL_CONTAINER)
    if ended is None:
        return None
    fatal = ended.get("exitCode") == USER_ERROR_EXIT_CODE or _crashes(status) >= CRASHES_UNTIL_FAILED
    told = read_termination_message(ended)
    if told is not None:
        reason = Reason(told.reason.value)
        again = f"; delete {view.of.replace('Deployment', 'ControllerRevision')} to make it again"
        message = f"{view.of}: {told.message}{again if reason in ARTIFACT_LOST else ''}"
        return Finding(reason=reason, message=message, fatal=fatal)
    return Finding(
        reason=Reason.INSTALL_FAILED,
        message=f"{view.of}: the artifact could not be installed (exit code {ended.get('exitCode')}); "
        f"see kubectl logs {_target(view)} -c {INSTALL_CONTAINER}",
        fatal=fatal,
    )


def check_serving_memory(view: PodView) -> Finding | None:
    """Triton was killed for its memory."""
    status, ended = _crash(view, TRITON_CONTAINER)
    if ended is None or not ran_out_of_memory(ended):
        return None
    limit = memory_limit(view.pod, TRITON_CONTAINER)
    return Finding(
        reason=Reason.SERVING_OUT_OF_MEMORY,
        message=f"Triton in {view.of} needs more than its {limit} of memory; raise spec.serving.resources.memory",
        fatal=_crashes(status) >= CRASHES_UNTIL_FAILED,
    )


def check_serving_crash(view: PodView) -> Finding | None:
    """Triton ended by itself: with exit-on-error that is a model it cannot load."""
    status, ended = _crash(view, TRITON_CONTAINER)
    if ended is None:
        return None
    told = log_error(str(ended.get("message") or ""))
    detail = f": {told}" if told else f" (exit code {ended.get('exitCode')})"
    fatal = _crashes(status) >= CRASHES_UNTIL_FAILED
    # A failed revision's pods are gone by the time anybody reads its sentence.
    more = "" if fatal else f"; see kubectl logs {_target(view)} -c {TRITON_CONTAINER} --previous"
    message = f"Triton in {view.of} cannot load the model{detail}{more}"
    return Finding(reason=Reason.MODEL_LOAD_FAILED, message=message, fatal=fatal)


POD_CHECKS: tuple[Callable[[PodView], Finding | None], ...] = (
    check_scheduling,
    check_image,
    check_container_config,
    check_volumes,
    check_install,
    check_serving_memory,
    check_serving_crash,
    check_eviction,
)


def _waiting(view: PodView) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for status in view.containers():
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            yield status, waiting


def _crash(view: PodView, container: str) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The container's status and how it ended last, if with an error and if it has not come up again since."""
    status = next((s for s in view.containers() if s.get("name") == container), None)
    if status is None or status.get("ready"):
        return status or {}, None
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
    if not ended or ended.get("exitCode", 0) == 0:
        return status, None
    return status, ended


def _crashes(status: Mapping[str, Any]) -> int:
    ended_now = 1 if status.get("state", {}).get("terminated") else 0
    return int(status.get("restartCount", 0)) + ended_now


def _target(view: PodView) -> str:
    return view.of.replace(' "', "/").rstrip('"').lower()


def _gpus(pod: Body) -> dict[str, str]:
    """Extended resources that the pod asks for: name (with a slash) to amount."""
    asked: dict[str, str] = {}
    for container in pod["spec"]["containers"]:
        limits = container.get("resources", {}).get("limits", {})
        asked.update({name: str(amount) for name, amount in limits.items() if "/" in name})
    return asked
