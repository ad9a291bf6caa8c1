"""All objects that the operator makes for one spec, whatever state it would be in."""

from typing import Any

from pilotfish import names
from pilotfish.api.predict import PredictInput
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.resources import (
    JobIntent,
    Owner,
    Policy,
    RevisionObjects,
    RevisionRecord,
    ServingIntent,
    ShadowIntent,
    VerifyIntent,
    make_config_map,
    make_controller_revision,
    make_deployment,
    make_headless_service,
    make_job,
    make_pod_disruption_budget,
    make_refresh_job,
    make_service,
    make_shadow,
    make_store_claim,
    make_verify_job,
    with_scale,
)
from pilotfish.resources.certificate import make_certificate_watcher
from pilotfish.resources.config_map import Told
from pilotfish.resources.network_policy import make_network_policy
from support.builders import OWNER, POLICY, make_artifact, make_result, make_signature


def render_all(
    spec: ModelDeploymentSpec, *, backend: str = "onnxruntime", owner: Owner = OWNER, policy: Policy = POLICY
) -> dict[str, dict[str, Any]]:
    """Every object by the name of what it is for."""
    revision, recipe = names.revision_hash(spec), names.recipe_key(spec)
    artifact, signature = make_artifact(recipe, backend=backend), _signature(spec)
    deployment = make_deployment(
        owner, ServingIntent(serving=spec.serving, revision=revision, artifact=artifact, storage=spec.storage), policy
    )
    config_map = make_config_map(
        owner,
        revision=revision,
        serving=spec.serving,
        backend=artifact.backend,
        signature=signature,
        policy=policy,
        told=Told(tokenizer=True),
    )
    headless = make_headless_service(owner, revision=revision)
    record = RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=revision,
        recipe_key=recipe,
        intent=names.intent(spec),
        artifact=artifact,
        signature=signature,
        summary=make_result(recipe).summary,
        objects=RevisionObjects(deployment=deployment, config_map=config_map, service=headless),
    )
    return {
        "claim": make_store_claim(owner, spec.storage),
        "job": make_job(owner, JobIntent(spec=spec, revision=revision, recipe_key=recipe, generation=1), policy),
        "revision": make_controller_revision(owner, record, number=1),
        "config-map": config_map,
        "headless": headless,
        "verify-job": make_verify_job(owner, verify_intent(record, spec), policy),
        "refresh-job": make_refresh_job(owner, spec.model, policy, storage=spec.storage),
        "shadow": make_shadow(owner, shadow_intent(spec, candidate=revision), policy),
        "deployment": with_scale(deployment, replicas=spec.serving.replicas, progress_deadline="10m"),
        "service": make_service(owner, stable=revision, pointed=revision, protocols=spec.serving.protocols),
        "budget": make_pod_disruption_budget(owner, revision=revision, min_available=1),
        **_access(spec, owner, policy),
    }


def _signature(spec: ModelDeploymentSpec) -> ModelSignature:
    """Of a model that the plain-JSON endpoint fits, where there is one."""
    made, predict = make_signature(), spec.serving.predict
    if predict is None or predict.input is not PredictInput.TEXT:
        return made
    tokens = (TensorSpec(name=name, dtype="INT64", shape=(-1,)) for name in ("input_ids", "attention_mask"))
    return made.model_copy(update={"inputs": tuple(tokens)})


def _access(spec: ModelDeploymentSpec, owner: Owner, policy: Policy) -> dict[str, dict[str, Any]]:
    """What stands around the pods, where the spec asks for it."""
    network_policy = make_network_policy(owner, serving=spec.serving, neighbours=policy.neighbours)
    tls = spec.serving.access.tls
    return {
        **({} if network_policy is None else {"network-policy": network_policy}),
        **({} if tls is None else {"certificate": make_certificate_watcher(owner, tls, policy)}),
    }


def shadow_intent(spec: ModelDeploymentSpec, *, candidate: str = "another7", **changes: Any) -> ShadowIntent:
    """A candidate beside another revision."""
    told = {"stable": "another8", "candidate": candidate, "sample_rate": 0.05, "progress_deadline": "10m"}
    return ShadowIntent(**{**told, "precisions": ("FP32",), "tolerance": spec.optimization.tolerance, **changes})


def verify_intent(record: RevisionRecord, spec: ModelDeploymentSpec, **changes: Any) -> VerifyIntent:
    """The record's verification on the pods of one Deployment."""
    told = {"tolerance": spec.optimization.tolerance, "tolerance_field": "spec.optimization.tolerance"}
    told["storage"] = spec.storage
    pods = max(1, spec.serving.replicas)
    return VerifyIntent(**{**told, "record": record, "pods": pods, "deployment_uid": "uid", **changes})
