"""Pods that wait for an image or a Secret which nobody names any more. What has never run may be rendered anew."""

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.core.failures import Finding
from pilotfish.core.objects import Body
from pilotfish.core.scope import Scope
from pilotfish.resources.deployment import ServingIntent, make_deployment
from pilotfish.resources.revision import RevisionRecord


def wants_other_images(job: Body, wanted: Body, finding: Finding) -> bool:
    """Whether a Job that cannot pull its image would get another one if it started now, as `wanted`."""
    return finding.reason is Reason.IMAGE_PULL_FAILED and _images(job) != _images(wanted)


def wants_other_secrets(job: Body, wanted: Body, finding: Finding) -> bool:
    """Whether a Job that waits for a Secret would wait for another one if it started now, as `wanted`."""
    return finding.reason is Reason.CREDENTIALS_MISSING and _secrets(job) != _secrets(wanted)


def unpullable_record(scope: Scope, record: RevisionRecord, finding: Finding | None) -> tuple[Body, ...]:
    """Record and Deployment of a revision whose image or Secret is not there, if another one is named by now.

    The Deployment goes too: rolling it over would wait for a pod that waits for the GPU of the pod that cannot start.
    """
    if finding is None or record.revision == scope.stable:
        return ()
    intent = ServingIntent(
        serving=scope.spec.serving, revision=record.revision, artifact=record.artifact, storage=scope.spec.storage
    )
    wanted = make_deployment(scope.owner, intent, scope.policy)
    anew = wants_other_images(record.objects.deployment, wanted, finding)
    if not anew and not wants_other_secrets(record.objects.deployment, wanted, finding):
        return ()
    name = names.revision_name(scope.owner.name, record.revision)
    found = (scope.observed.child(kind, name) for kind in ("Deployment", "ControllerRevision"))
    return tuple(body for body in found if body is not None)


def _images(body: Body) -> list[str]:
    pod = body["spec"]["template"]["spec"]
    return [container["image"] for container in (*pod.get("initContainers", ()), *pod["containers"])]


def _secrets(body: Body) -> list[str]:
    volumes = body["spec"]["template"]["spec"].get("volumes", ())
    return sorted(volume["secret"]["secretName"] for volume in volumes if "secret" in volume)
