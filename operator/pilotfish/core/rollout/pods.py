"""How many pods of a revision there are, as its Deployment's controller has counted them."""

from dataclasses import dataclass
from datetime import datetime

from pilotfish import names
from pilotfish.core.failures import parse_time
from pilotfish.core.objects import condition_of, is_deleting, label_of
from pilotfish.core.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """`wanted`: as asked by this pass, `asked`: by the Deployment as it stands.

    `complete`: all wanted pods are ready, and none of an older template is left. `leaving`: pods on their way out,
    which still hold their place.
    """

    wanted: int
    asked: int = 0
    total: int = 0
    ready: int = 0
    complete: bool = False
    exists: bool = False
    leaving: int = 0


def count_pods(scope: Scope, revision: str, *, wanted: int | None = None) -> Pods:
    """Pods of a revision for the Deployment's present spec; `wanted` is spec.serving.replicas when left out."""
    wanted = scope.spec.serving.replicas if wanted is None else wanted
    deployment = scope.observed.child("Deployment", names.revision_name(scope.owner.name, revision))
    leaving = sum(
        1 for pod in scope.observed.pods if is_deleting(pod) and label_of(pod, names.REVISION_LABEL) == revision
    )
    if deployment is None or is_deleting(deployment):
        return Pods(wanted=wanted, leaving=leaving)
    status = deployment.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    ready, total = int(status.get("readyReplicas", 0)), int(status.get("replicas", 0))
    updated, asked = int(status.get("updatedReplicas", 0)), int(deployment["spec"].get("replicas", 1))
    complete = seen and asked == wanted and total == updated == wanted and ready >= wanted
    return Pods(wanted=wanted, asked=asked, total=total, ready=ready, complete=complete, exists=True, leaving=leaving)


def unready_since(scope: Scope, revision: str) -> datetime | None:
    """Since when the longest unready pod of a revision has not been ready; None when all are."""
    moments = []
    for pod in scope.observed.pods_of_revision(revision):
        ready = condition_of(pod, "Ready")
        if ready is not None and ready.get("status") == "True":
            continue
        moment = (ready or {}).get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
        if moment:
            moments.append(parse_time(moment))
    return min(moments, default=None)
