"""The pods of a revision: its recorded objects with the replicas of today, and whether they are ready."""

from dataclasses import replace
from datetime import datetime

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.api.reasons import Reason
from pilotfish.core.certificate import certificate_of, certificate_trouble, wants_certificate
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.failures import Finding, find_in_deployment, missed_deadline, parse_time
from pilotfish.core.image_settings import unpullable_record
from pilotfish.core.objects import is_deleting
from pilotfish.core.plan import Apply
from pilotfish.core.pod_checks import WAIT_FOR_VOLUMES, find_in_pods, waits_for_volumes_since
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.revision import keep_record
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.scope import Scope
from pilotfish.resources.deployment import with_scale
from pilotfish.resources.revision import RevisionRecord


def keep_serving(scope: Scope, record: RevisionRecord, *, replicas: int) -> tuple[Apply, ...]:
    """What makes the revision's objects as they should be; nothing when they are."""
    deployment = with_scale(
        record.objects.deployment,
        replicas=replicas,
        progress_deadline=scope.spec.rollout.progress_deadline,
        certificate=certificate_of(scope, record),
    )
    wanted = (record.objects.config_map, record.objects.service, deployment)
    return tuple(apply for body in wanted if (apply := apply_if_needed(scope.observed, body)) is not None)


def advance_serving(scope: Scope, artifact: Progress, *, replicas: int) -> Progress:
    """One step from an artifact to as many ready pods."""
    record = artifact.record
    if record is None or wants_certificate(scope, record):
        return artifact if record is None else _await_certificate(scope, artifact, record)
    applies = (*artifact.applies, *keep_record(scope, record), *keep_serving(scope, record, replicas=replicas))
    pods = count_pods(scope, record.revision, wanted=replicas)
    going = replace(artifact, applies=applies, wake=_look_again(scope, record.revision))
    starts = "" if record.revision == scope.stable else " starts"
    counted = f"Revision {record.revision}{starts}: {pods.ready}/{pods.wanted} pods are ready"
    if pods.complete and not any(apply.body["kind"] == "Deployment" for apply in applies):
        return replace(going, stage=Stage.READY, reason=Reason.ALL_PODS_READY, message=counted, wake=None)
    finding = find_trouble(scope, record.revision)
    outdated = unpullable_record(scope, record, finding)
    if outdated:
        anew = f"Revision {record.revision} is rendered anew: the settings name another image"
        return replace(going, message=anew, applies=(), deletes=outdated)
    failure = _give_up(scope, record.revision, finding)
    if failure is not None:
        return replace(going, stage=Stage.FAILED, reason=failure.reason, message=failure.message, applies=())
    if finding is not None:
        return replace(going, reason=finding.reason, message=finding.message, held_up=True)
    return replace(going, message=counted)


def _await_certificate(scope: Scope, artifact: Progress, record: RevisionRecord) -> Progress:
    """Its pods start once it is known what they start with: a few seconds, while the artifact is made as a rule."""
    applies = (*artifact.applies, *keep_record(scope, record))
    finding = certificate_trouble(scope)
    if finding is None:
        message = f"Revision {record.revision} waits for its certificate to be read"
        return replace(artifact, applies=applies, message=message, wake=scope.now + WAIT_FOR_VOLUMES)
    return replace(artifact, applies=applies, reason=finding.reason, message=finding.message, held_up=True)


def find_trouble(scope: Scope, revision: str) -> Finding | None:
    """What keeps pods of the revision from being ready."""
    name = names.revision_name(scope.owner.name, revision)
    deployment = scope.observed.child("Deployment", name)
    if deployment is None or is_deleting(deployment):
        return None
    pods = scope.observed.pods_of_revision(revision)
    found = find_in_pods(pods, of=f'Deployment "{name}"', now=scope.now)
    return found or find_in_deployment(deployment)


def _give_up(scope: Scope, revision: str, finding: Finding | None) -> Finding | None:
    """Why a revision that is not stable has failed; None while it may still come up."""
    if revision == scope.stable:
        return None
    if finding is not None and finding.fatal:
        return finding
    deployment = scope.observed.child("Deployment", names.revision_name(scope.owner.name, revision))
    if deployment is None or not missed_deadline(deployment):
        return None
    deadline = scope.spec.rollout.progress_deadline
    if scope.stable is None and (finding.recovers if finding else _still_loads(scope, revision)):
        return None  # Nobody else serves and nothing is taken from anybody: it waits for its place.
    if finding is None:
        return Finding(
            reason=Reason.PROGRESS_DEADLINE_EXCEEDED,
            message=f"Revision {revision} made no progress for {deadline}; raise spec.rollout.progressDeadline if its "
            "model takes longer to load",
            fatal=True,
        )
    return replace(finding, message=f"Gave up after {deadline}: {finding.message}", fatal=True)


def _still_loads(scope: Scope, revision: str) -> bool:
    """Whether pods that waited long for their place have had it for less than the deadline."""
    due = _load_due(scope, revision)
    return due is None or due > scope.now


def _load_due(scope: Scope, revision: str) -> datetime | None:
    """When the pod that got its place last must be ready; None while no pod has one."""
    started = [pod.get("status", {}).get("startTime") for pod in scope.observed.pods_of_revision(revision)]
    found = [parse_time(moment) for moment in started if moment is not None]
    deadline = parse_duration(scope.spec.rollout.progress_deadline)
    return max(found) + deadline if found else None


def _look_again(scope: Scope, revision: str) -> datetime | None:
    """When time alone may change what is found."""
    waits = (waits_for_volumes_since(pod) for pod in scope.observed.pods_of_revision(revision))
    due = [since + WAIT_FOR_VOLUMES for since in waits if since is not None]
    load_due = _load_due(scope, revision)
    if scope.stable is None and load_due is not None:
        due.append(load_due)
    return min((moment for moment in due if moment > scope.now), default=None)
