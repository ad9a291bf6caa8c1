"""What became of a Job: it runs, it left a result, its result is lost, or it failed and why. See testimony.py."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pilotfish.api.reasons import Reason
from pilotfish.api.report import USER_ERROR_EXIT_CODE, Outcome, TerminationMessage
from pilotfish.core.failures import (
    Finding,
    memory_limit,
    parse_time,
    ran_out_of_memory,
    read_termination_message,
)
from pilotfish.core.objects import Body, condition_is_true, condition_of, leaves, name_of, phase_of
from pilotfish.core.observed import Observed
from pilotfish.core.pod_checks import WAIT_FOR_VOLUMES, find_in_pods, waits_for_volumes_since
from pilotfish.core.testimony import witnessed
from pilotfish.resources.job import FETCH_CONTAINER, OPTIMIZE_CONTAINER, PUBLISH_CONTAINER

WAIT_FOR_PODS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """How one kind of Job tells its result, and in which words its failures are explained."""

    containers: frozenset[str]
    """Containers that tell why they failed."""
    result: str
    """The one that leaves the result."""
    is_result: Callable[[TerminationMessage], bool]
    failed: Reason
    out_of_memory: Reason
    deadline_exceeded: Reason
    more_memory: str
    """What to do when it needs more memory."""
    more_time: str
    """What to do when it needs more time."""


OPTIMIZATION = JobKind(
    containers=frozenset({FETCH_CONTAINER, OPTIMIZE_CONTAINER, PUBLISH_CONTAINER}),
    result=OPTIMIZE_CONTAINER,
    is_result=lambda told: told.artifact is not None,
    failed=Reason.OPTIMIZER_FAILED,
    out_of_memory=Reason.OPTIMIZER_OUT_OF_MEMORY,
    deadline_exceeded=Reason.OPTIMIZER_DEADLINE_EXCEEDED,
    more_memory="raise spec.optimization.resources.memory",
    more_time="raise spec.optimization.deadline or ask for fewer candidates",
)
_PUBLISHED = replace(OPTIMIZATION, result=PUBLISH_CONTAINER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The Job is on its way; `finding` says what holds it up."""

    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The Job went well but its pods, and with them its result, are gone."""


JobOutcome = Running | Lost | TerminationMessage | Finding


def kind_of(job: Body) -> JobKind:
    """How an optimization Job tells its result: with a bucket the container that brings the artifact there does."""
    main = {container["name"] for container in job["spec"]["template"]["spec"]["containers"]}
    return _PUBLISHED if PUBLISH_CONTAINER in main else OPTIMIZATION


def is_finished(job: Body) -> bool:
    """Whether the Job has ended, well or not."""
    return condition_is_true(job, "Complete") or condition_is_true(job, "Failed")


def job_outcome(
    observed: Observed, job: Body, *, kind: JobKind = OPTIMIZATION, deadline: str, now: datetime
) -> JobOutcome:
    """What became of the Job. A result counts only from a Job that Kubernetes calls complete."""
    pods = observed.pods_of_job(job)
    if condition_is_true(job, "Complete"):
        return _result(kind, job, pods)
    if condition_is_true(job, "Failed"):
        return _failure(kind, job, pods, deadline=deadline)
    finding = find_in_pods((pod for pod in pods if not leaves(pod)), of=_words(job), now=now)
    if finding is None and not pods and now - _born(job) >= WAIT_FOR_PODS:
        finding = Finding(
            reason=Reason.PODS_NOT_CREATED,
            message=f"{_words(job)} has no pod: a ResourceQuota, a LimitRange or an admission rule forbids it; "
            f"see kubectl describe job/{name_of(job)}",
        )
    return Running(finding=finding or _last_attempt(kind, job, pods))


def look_again(observed: Observed, job: Body, now: datetime) -> datetime | None:
    """When time alone may change what is found: a Job without pods, pods without their volumes."""
    pods = observed.pods_of_job(job)
    waits = (waits_for_volumes_since(pod) for pod in pods)
    due = [since + WAIT_FOR_VOLUMES for since in waits if since is not None]
    if not pods:
        due.append(_born(job) + WAIT_FOR_PODS)
    return min((moment for moment in due if moment > now), default=None)


def _result(kind: JobKind, job: Body, pods: tuple[Body, ...]) -> JobOutcome:
    """A Job is complete because a pod succeeded: where none has, pods are seen as they were before, or it is gone."""
    if not any(phase_of(pod) == "Succeeded" for pod in pods):
        return Lost() if all(leaves(pod) for pod in pods) else Running()
    for pod, name, ended in _ended(kind, pods):
        told = read_termination_message(ended) if name == kind.result else None
        if told is not None and told.outcome is Outcome.SUCCEEDED and kind.is_result(told):
            return witnessed(told, pod)
    return Finding(
        reason=Reason.WRONG_IMAGE,
        message=f"{_words(job)} ended well but left no result that this operator can read; use optimizer images of "
        "the operator's version",
        fatal=True,
    )


def _failure(kind: JobKind, job: Body, pods: tuple[Body, ...], *, deadline: str) -> JobOutcome:
    failed = condition_of(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        held_up = find_in_pods(pods, of=_words(job), now=_born(job))
        why = f" ({held_up.message})" if held_up else ""
        return Finding(
            reason=kind.deadline_exceeded,
            message=f"{_words(job)} did not end within {deadline}{why}; {kind.more_time}",
            fatal=True,
        )
    if failed.get("reason") == "PodFailurePolicy" and not pods:
        return Lost()  # It knew why, and its pods are gone with it.
    ended = sorted(_ended(kind, pods), key=lambda found: found[2].get("exitCode") != USER_ERROR_EXIT_CODE)
    explained = (_explain(kind, job, *found) for found in ended)
    return next((finding for finding in explained if finding is not None), None) or Finding(
        reason=kind.failed,
        message=f"{_words(job)} failed ({failed.get('reason') or 'no reason given'}); "
        f"see kubectl describe job/{name_of(job)}",
        fatal=True,
    )


def _last_attempt(kind: JobKind, job: Body, pods: tuple[Body, ...]) -> Finding | None:
    """Why the pod before this one failed, while the Job tries again."""
    retried = (found for found in _ended(kind, pods) if found[2].get("exitCode") != USER_ERROR_EXIT_CODE)
    explained = (_explain(kind, job, *found) for found in retried)
    last = next((finding for finding in explained if finding is not None), None)
    return None if last is None else Finding(reason=last.reason, message=f"{last.message} (it is tried again)")


def _explain(kind: JobKind, job: Body, pod: Body, name: str, ended: Mapping[str, Any]) -> Finding | None:
    code = ended.get("exitCode", 0)
    if code == 0:
        return None
    told = read_termination_message(ended)
    if told is not None and told.outcome is Outcome.FAILED:
        return Finding(reason=Reason(told.reason.value), message=told.message, fatal=True, summary=told.summary)
    if ran_out_of_memory(ended):
        return Finding(
            reason=kind.out_of_memory,
            message=f"Container {name} of {_words(job)} needs more than its {memory_limit(pod, name)} of memory; "
            f"{kind.more_memory}",
            fatal=True,
        )
    return Finding(
        reason=kind.failed,
        message=f"Container {name} of {_words(job)} ended with exit code {code} and said nothing; "
        f"see kubectl logs job/{name_of(job)} -c {name}",
        fatal=True,
    )


def _ended(kind: JobKind, pods: tuple[Body, ...]) -> Iterator[tuple[Body, str, Mapping[str, Any]]]:
    """Ended containers, newest pod first, within a pod in the order in which they run."""
    for pod in pods:
        status = pod.get("status", {})
        for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            ended = found.get("state", {}).get("terminated")
            if ended and found.get("name") in kind.containers:
                yield pod, found["name"], ended


def _born(job: Body) -> datetime:
    return parse_time(job["metadata"]["creationTimestamp"])


def _words(job: Body) -> str:
    return f'Job "{name_of(job)}"'
