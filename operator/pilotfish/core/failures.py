"""What is wrong, as a reason and a sentence, and how to read it from Deployments and ended containers.

Sentences hold no counters, times or pod names, so that they stay the same while the cause stays the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish.api.reasons import Reason
from pilotfish.api.report import Summary, TerminationMessage, one_line
from pilotfish.api.termination import decode_termination_message
from pilotfish.core.objects import Body, condition_of

OUT_OF_MEMORY_EXIT_CODE = 137
RECOVERS = frozenset(
    {
        Reason.IMAGE_PULL_FAILED,
        Reason.INSUFFICIENT_GPU,
        Reason.UNSCHEDULABLE,
        Reason.VOLUME_UNBOUND,
        Reason.QUOTA_EXCEEDED,
        Reason.PODS_NOT_CREATED,
        Reason.CREDENTIALS_MISSING,
        Reason.CONTAINER_CONFIG_INVALID,
        Reason.POD_EVICTED,
    }
)
"""Causes that lie around the pod: when they go away, the same pod comes up."""


ARTIFACT_LOST = frozenset({Reason.ARTIFACT_MISSING, Reason.ARTIFACT_DIGEST_MISMATCH})
"""The store no longer holds what was proven: only making it again helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong. `fatal`: it will not get better unless the user changes something."""

    reason: Reason
    message: str
    fatal: bool = False
    summary: Summary | None = None
    """What the optimizer found out before it failed."""

    @property
    def recovers(self) -> bool:
        """Whether waiting can help."""
        return self.reason in RECOVERS


def find_in_deployment(deployment: Body) -> Finding | None:
    """Pods that could not even be created."""
    failure = condition_of(deployment, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return None
    detail = one_line(str(failure.get("message", "")), limit=300)
    name = deployment["metadata"]["name"]
    if "exceeded quota" in detail:
        return Finding(
            reason=Reason.QUOTA_EXCEEDED,
            message=f'Deployment "{name}" may not create pods ({_after_colon(detail)}); raise the quota or '
            "ask for less",
        )
    return Finding(reason=Reason.PODS_NOT_CREATED, message=f'Deployment "{name}" cannot create pods: {detail}')


def missed_deadline(deployment: Body) -> bool:
    """Whether Kubernetes gave up waiting for the Deployment's pods."""
    progressing = condition_of(deployment, "Progressing")
    return progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded"


def read_termination_message(ended: Mapping[str, Any]) -> TerminationMessage | None:
    """What the container left, if it is one of our messages."""
    try:
        return decode_termination_message(str(ended.get("message") or ""))
    except ValueError:
        return None


def ran_out_of_memory(ended: Mapping[str, Any]) -> bool:
    """Whether the kernel killed the container for its memory."""
    return ended.get("reason") == "OOMKilled" or ended.get("exitCode") == OUT_OF_MEMORY_EXIT_CODE


def memory_limit(pod: Body, container: str) -> str:
    """The container's memory limit as written."""
    containers = (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    limits = [c.get("resources", {}).get("limits", {}) for c in containers if c["name"] == container]
    return str(limits[0].get("memory", "limit")) if limits else "limit"


def log_error(tail: str) -> str | None:
    """The first error line in the end of a Triton log, without its time, process and source position."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [line.partition("] ")[2] or line for line in lines if line[:1] == "E" and line[1:5].isdigit()]
    errors += [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return one_line(errors[0].strip('" '), limit=300) if errors else None


def parse_time(text: str) -> datetime:
    """A Kubernetes timestamp as aware UTC."""
    return datetime.fromisoformat(text)


def _after_colon(text: str) -> str:
    return text.rsplit("forbidden: ", 1)[-1]
