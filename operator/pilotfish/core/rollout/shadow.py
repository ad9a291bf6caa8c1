"""The shadow of a candidate at its steps: when it stands, whether it is ready, when it goes.

Its pod is one more that the traffic Service reaches while that points at both revisions, and belongs to neither.
Nothing here moves traffic.
"""

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Shadow, Strategy
from pilotfish.api.rollout_status import RolloutStage, RolloutStatus
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.failures import Finding, find_in_deployment, missed_deadline
from pilotfish.core.health.figures import parse_fraction
from pilotfish.core.objects import Body, is_deleting, label_of
from pilotfish.core.plan import Apply
from pilotfish.core.pod_checks import find_in_pods
from pilotfish.core.scope import Scope
from pilotfish.resources.shadow import ShadowIntent, make_shadow


def keep_shadow(scope: Scope, state: RolloutStatus) -> tuple[Apply, ...]:
    """What makes the candidate's shadow stand as it should; nothing when it does, or is not asked for."""
    shadow = _wanted(scope, state)
    if shadow is None or scope.stable is None:
        return ()
    verification, optimization = scope.spec.rollout.verification, scope.spec.optimization
    own = verification.tolerance if verification else None
    records = (scope.records.get(revision) for revision in (scope.stable, scope.revision))
    precisions = tuple(dict.fromkeys(record.artifact.precision for record in records if record is not None))
    if not precisions:
        return ()
    intent = ShadowIntent(
        stable=scope.stable,
        candidate=scope.revision,
        # An older schema let in more than all of them.
        sample_rate=min(1.0, float(parse_fraction(shadow.sample_rate))),
        precisions=precisions,
        tolerance=own or optimization.tolerance,
        progress_deadline=scope.spec.rollout.progress_deadline,
    )
    apply = apply_if_needed(scope.observed, make_shadow(scope.owner, intent, scope.policy))
    return () if apply is None else (apply,)


def shadow_ready(scope: Scope) -> bool:
    """Whether the candidate's shadow stands with a ready pod of its newest template, or none is asked for."""
    if scope.spec.rollout.shadow is None or not _possible(scope):
        return True
    return _is_ready(_deployment(scope))


def shadow_trouble(scope: Scope) -> Finding:
    """Why it is not ready. `fatal` when it has had as long as a revision may take."""
    deployment = _deployment(scope)
    deadline = scope.spec.rollout.progress_deadline
    starts = Finding(reason=Reason.CANARYING, message="the shadow starts")
    if deployment is None:
        return starts
    if missed_deadline(deployment):
        return Finding(
            reason=Reason.PROGRESS_DEADLINE_EXCEEDED, message=f"the shadow was not ready for {deadline}", fatal=True
        )
    name = names.shadow(scope.owner.name, scope.revision)
    pods = [pod for pod in scope.observed.pods if label_of(pod, names.SHADOW_LABEL) == scope.revision]
    found = find_in_pods([pod for pod in pods if not is_deleting(pod)], of=f'Deployment "{name}"', now=scope.now)
    return found or find_in_deployment(deployment) or starts


def unwanted_shadow(scope: Scope, state: RolloutStatus) -> tuple[Body, ...]:
    """Shadows of revisions that are at no step, or of which none is asked for."""
    wanted = None if _wanted(scope, state) is None else names.shadow(scope.owner.name, scope.revision)
    return tuple(
        deployment
        for deployment in scope.observed.of_kind("Deployment")
        if label_of(deployment, names.COMPONENT_LABEL) == names.Component.SHADOW
        and deployment["metadata"]["name"] != wanted
    )


def shadow_endpoints(scope: Scope) -> int:
    """Pods of the shadow that the traffic Service reaches beside those of both revisions."""
    return int(_is_ready(_deployment(scope)))


def _is_ready(deployment: Body | None) -> bool:
    """Whether a pod of the Deployment's newest template is ready."""
    if deployment is None or is_deleting(deployment):
        return False
    status = deployment.get("status", {})
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    updated, ready = int(status.get("updatedReplicas", 0)), int(status.get("readyReplicas", 0))
    return seen and updated >= 1 and ready >= 1 and int(status.get("replicas", 0)) == updated


def _wanted(scope: Scope, state: RolloutStatus) -> Shadow | None:
    at_step = state.revision == scope.revision and state.stage is RolloutStage.STEPPING and state.aborted is None
    return scope.spec.rollout.shadow if at_step and _possible(scope) else None


def _possible(scope: Scope) -> bool:
    """A canary whose traffic goes through the Service, beside a revision to compare with."""
    canary = scope.spec.rollout.strategy is Strategy.CANARY
    return canary and scope.spec.serving.gateway is None and scope.stable not in {None, scope.revision}


def _deployment(scope: Scope) -> Body | None:
    return scope.observed.child("Deployment", names.shadow(scope.owner.name, scope.revision))
