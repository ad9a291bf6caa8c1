"""Two revisions in the middle of a rollout, written down piece by piece: what a pass reads of pods and traffic."""

from dataclasses import replace

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import CapacityStatus, RolloutStage, RolloutStatus
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.observed import Observed
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.core.rollout.turn import Turn
from pilotfish.core.scope import make_scope
from pilotfish.resources import (
    RevisionObjects,
    RevisionRecord,
    ServingIntent,
    make_config_map,
    make_deployment,
    make_headless_service,
    with_scale,
)
from support.builders import (
    NOW,
    OWNER,
    POLICY,
    make_artifact,
    make_model_deployment,
    make_result,
    make_signature,
    make_spec,
)

OLD, NEW = "bbbbbbbb", "cccccccc"


def labelled(revision):
    return names.labels(OWNER.name, names.Component.TRITON, revision)


def deployment(revision, asked, ready=None, *, total=None, updated=None, seen=1, **metadata):
    ready = asked if ready is None else ready
    total = asked if total is None else total
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"digits-{revision}",
            "uid": f"uid-{revision}",
            "generation": 1,
            "labels": labelled(revision),
            "ownerReferences": [{"uid": OWNER.uid, "controller": True}],
            **metadata,
        },
        "spec": {"replicas": asked},
        "status": {
            "observedGeneration": seen,
            "replicas": total,
            "readyReplicas": ready,
            "updatedReplicas": total if updated is None else updated,
        },
    }


def traffic(revision):
    """The traffic Service on one revision; on both for None."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "digits",
            "uid": "uid-service",
            "labels": labelled(OLD),
            "ownerReferences": [{"uid": OWNER.uid, "controller": True}],
        },
        "spec": {"selector": names.pod_selector(OWNER.name, revision)},
    }


def pod(name, revision, *, ready=None, since=None, created=None, **metadata):
    conditions = [] if ready is None else [{"type": "Ready", "status": ready, "lastTransitionTime": since}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "uid": name,
            "labels": labelled(revision),
            **({"creationTimestamp": created} if created else {}),
            **metadata,
        },
        "status": {"conditions": conditions},
    }


def state_of(stage=RolloutStage.STEPPING, *, revision=NEW, plan=None):
    capacity = CapacityStatus(plan=plan) if plan else None
    return RolloutStatus(revision=revision, stage=stage, capacity=capacity)


def scope_of(*objects, state=None, stable=OLD, replicas=4, rollout=None, **serving):
    spec = {
        "model": {"uri": "s3://m/x"},
        "serving": {"replicas": replicas, **serving},
        "rollout": rollout or {},
    }
    status = {"rollout": (state or state_of()).to_wire()}
    if stable:
        status["stableRevision"] = {"name": f"digits-{stable}", "hash": stable}
    children = tuple(body for body in objects if body["kind"] != "Pod")
    pods = tuple(body for body in objects if body["kind"] == "Pod")
    observed = Observed(body=make_model_deployment(spec, status=status), children=children, pods=pods)
    return replace(make_scope(observed, make_spec(spec), POLICY, NOW), stable=stable)


def record_of(scope, revision=NEW):
    """The revision's record, with everything that is rendered for its pods."""
    artifact, signature, serving = make_artifact(), make_signature(), scope.spec.serving
    intent = ServingIntent(serving=serving, revision=revision, artifact=artifact)
    return RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=revision,
        recipe_key=scope.recipe_key,
        intent=names.intent(scope.spec),
        artifact=artifact,
        signature=signature,
        summary=make_result().summary,
        objects=RevisionObjects(
            deployment=make_deployment(OWNER, intent, POLICY),
            config_map=make_config_map(
                OWNER, revision=revision, serving=serving, backend=artifact.backend, signature=signature, policy=POLICY
            ),
            service=make_headless_service(OWNER, revision=revision),
        ),
    )


def turn_of(scope, state):
    """One pass over the candidate NEW, which has its artifact."""
    scope = replace(scope, revision=NEW)
    artifact = Progress(
        stage=Stage.OPTIMIZING, reason=Reason.OPTIMIZING, message="is optimized", record=record_of(scope)
    )
    return Turn(scope=scope, artifact=artifact, state=state, steps=resolve_steps(scope.spec.rollout))


def deployed(scope, asked, ready=None, revision=NEW):
    """The revision's Deployment as the API server keeps it, as rendered and with so many pods."""
    body = with_scale(record_of(scope, revision).objects.deployment, replicas=asked, progress_deadline="10m")
    applied = apply_if_needed(Observed(body={}, children=(), pods=()), body)
    metadata = {**applied.body["metadata"], "uid": f"uid-{revision}", "generation": 1}
    return {**applied.body, "metadata": metadata, "status": deployment(revision, asked, ready)["status"]}
