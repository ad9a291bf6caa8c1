"""Every child's name, every label and annotation, and the hashes that tell revisions apart. Pure.

A revision is what the user asked for, never what the operator made of it: fields that stand at their default do not
count, so an operator that learns a new field moves nobody's pods. A default that changes needs a new HASH_VERSION.
"""

import hashlib
import json
from enum import StrEnum
from typing import Any

from pilotfish.api.base import GROUP
from pilotfish.api.spec import ModelDeploymentSpec

FIELD_MANAGER = "pilotfish"
HASH_VERSION = 1

MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "app.kubernetes.io/name"
APP_INSTANCE = "app.kubernetes.io/instance"
NAME_LABEL = f"{GROUP}/name"
REVISION_LABEL = f"{GROUP}/revision"
COMPONENT_LABEL = f"{GROUP}/component"
RECIPE_LABEL = f"{GROUP}/recipe"
"""Label of a Job: the key of the artifact that it makes."""

SHADOW_LABEL = f"{GROUP}/shadow"
"""Label of the pod that compares answers: the candidate's revision. It has no revision of its own: the traffic Service
finds it only while that points at both revisions, and nothing that picks the pods of one revision does."""

CHANGE_CAUSE = "kubernetes.io/change-cause"
"""Annotation that users set beside a change; the revision's record keeps it for the history."""

APPLIED_HASH = f"{GROUP}/applied-hash"
"""Annotation: hash of the whole object as it was applied last; equal means there is nothing to write."""
GENERATION = f"{GROUP}/generation"
"""Annotation of a Job: metadata.generation of the ModelDeployment that started it."""

INPUT_HASH = f"{GROUP}/input-hash"
"""Annotation of a Job: hash of all that it was told about model and optimization, credentials and deadline included."""

VERIFIES = f"{GROUP}/verifies"
"""Annotation of a verification Job: hash of the Deployment whose pods it asks and of all that it was told."""

CERTIFICATE = f"{GROUP}/certificate"
"""Annotation of a pod template: digest of the certificate that its pods start with."""

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_HASH_LENGTH = 8
_LABEL_LIMIT = 63
_STEM_LIMIT = _LABEL_LIMIT - len("-xxxxxxxx-optimize")
# These change what stands around the pods, not the pods.
_NOT_IN_SERVING_TEMPLATE = {"replicas", "autoscaling", "min_available", "protocols", "access", "gateway"}
# When to look for other bytes; what is found becomes a pin, and that counts.
_NOT_IN_MODEL = {"refresh"}
# These change how bytes are reached and how long a run may take, not what comes out.
_NOT_IN_RECIPE: dict[str, Any] = {
    "model": {"credentials": True, "refresh": True, "samples": {"secret_name"}},
    "optimization": {"deadline": True},
}


class Component(StrEnum):
    """What a child is for."""

    OPTIMIZE = "optimize"
    TRITON = "triton"
    STORE = "store"
    VERIFY = "verify"
    SHADOW = "shadow"
    REFRESH = "refresh"
    CERTIFICATE = "certificate"


def intent(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """What makes a revision: model, optimization and the serving template, without what stands at its default."""
    return {
        "model": _said(spec.model, exclude=_NOT_IN_MODEL),
        "optimization": _said(spec.optimization),
        "serving": {**_said(spec.serving, exclude=_NOT_IN_SERVING_TEMPLATE), **_encrypted(spec)},
    }


def revision_hash(spec: ModelDeploymentSpec) -> str:
    """8 characters that name the revision this spec asks for."""
    return short_hash({"hashVersion": HASH_VERSION, **intent(spec)})


def recipe_key(spec: ModelDeploymentSpec) -> str:
    """8 characters that name the artifact; revisions with the same key share it.

    Pods with a GPU are offered other candidates than pods without; how many GPUs they have decides nothing.
    """
    recipe = {
        "model": _said(spec.model, exclude=_NOT_IN_RECIPE["model"]),
        "optimization": _said(spec.optimization, exclude=_NOT_IN_RECIPE["optimization"]),
        **({"gpu": True} if spec.serving.gpus.count > 0 else {}),
        **_measured(spec),
    }
    return short_hash({"hashVersion": HASH_VERSION, **recipe})


def job_input_hash(spec: ModelDeploymentSpec) -> str:
    """8 characters that tell whether a Job that runs would be started the same way again."""
    told = {"model": _said(spec.model, exclude=_NOT_IN_MODEL), "optimization": _said(spec.optimization)}
    return short_hash({**told, **_measured(spec)})


def spec_hash(spec: ModelDeploymentSpec) -> str:
    """8 characters that tell whether the user asks for something else; how many pods is an autoscaler's business."""
    return short_hash(_said(spec, exclude={"serving": {"replicas"}}))


def short_hash(value: object) -> str:
    """8 characters of a safe alphabet (no vowels, nothing that looks alike) from the value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    number = int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big")
    letters = []
    for _ in range(_HASH_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def store_claim(name: str) -> str:
    """The claim that keeps sources and artifacts."""
    return f"{stem(name)}-store"


def optimize_job(name: str, revision: str) -> str:
    """The Job that makes the revision's artifact."""
    return f"{stem(name)}-{revision}-optimize"


def verify_job(name: str, revision: str) -> str:
    """The Job that asks the revision's loaded server for the golden set."""
    return f"{stem(name)}-{revision}-verify"


def route_service(name: str, revision: str) -> str:
    """The Service of one revision that routes of the Gateway API give a weight to. It is never pointed elsewhere."""
    return f"{stem(name)}-{revision}-route"


def http_route(name: str) -> str:
    """The HTTPRoute. Not the GRPCRoute's name: gateways are known that mix up the status of two kinds of one name."""
    return f"{stem(name)}-http"


def grpc_route(name: str) -> str:
    """The GRPCRoute."""
    return f"{stem(name)}-grpc"


def shadow(name: str, revision: str) -> str:
    """The Deployment that lets a candidate answer a sample of the requests beside the stable revision."""
    return f"{stem(name)}-{revision}-shadow"


def refresh_job(name: str) -> str:
    """The Job that looks for new bytes at the model's address."""
    return f"{stem(name)}-refresh"


def revision_name(name: str, revision: str) -> str:
    """The revision's ControllerRevision, Deployment, ConfigMap and headless Service."""
    return f"{stem(name)}-{revision}"


def traffic_service(name: str) -> str:
    """The Service that clients use, and its PodDisruptionBudget."""
    return stem(name)


def autoscaler(name: str) -> str:
    """The HorizontalPodAutoscaler."""
    return stem(name)


def certificate_watcher(name: str) -> str:
    """The Deployment that notices a renewed certificate."""
    return f"{stem(name)}-certificate"


def certificate_selector(name: str) -> dict[str, str]:
    """Labels that pick its pod alone."""
    return {NAME_LABEL: stem(name), COMPONENT_LABEL: Component.CERTIFICATE.value}


def network_policy(name: str) -> str:
    """Who may connect to the Triton pods of all revisions."""
    return stem(name)


def stem(name: str) -> str:
    """The name, cut and hashed when a child's name or a label value made from it would get too long."""
    if len(name) <= _STEM_LIMIT:
        return name
    return f"{name[: _STEM_LIMIT - _HASH_LENGTH - 1].rstrip('-.')}-{short_hash(name)}"


def labels(name: str, component: Component, revision: str | None = None) -> dict[str, str]:
    """Labels of a child, and of its pods."""
    return {
        MANAGED_BY: FIELD_MANAGER,
        APP_NAME: component.value,
        APP_INSTANCE: stem(name),
        NAME_LABEL: stem(name),
        COMPONENT_LABEL: component.value,
        **({} if revision is None else {REVISION_LABEL: revision}),
    }


def pod_selector(name: str, revision: str | None = None) -> dict[str, str]:
    """Labels that pick the Triton pods of one revision, or of all."""
    chosen = {NAME_LABEL: stem(name), COMPONENT_LABEL: Component.TRITON.value}
    return chosen if revision is None else {**chosen, REVISION_LABEL: revision}


def scale_selector(name: str) -> str:
    """A label selector in words: the pods that serve, of whatever revision, without a shadow that passes requests on.

    An autoscaler counts on all of them: requests are spread over both revisions of a rollout.
    """
    chosen = (f"{key}={value}" for key, value in sorted(pod_selector(name).items()))
    return ",".join((*chosen, REVISION_LABEL))


def shadow_labels(name: str, revision: str) -> dict[str, str]:
    """Labels of the pod that compares the candidate's answers: for the traffic Service it is a Triton pod."""
    return {
        **labels(name, Component.SHADOW),
        COMPONENT_LABEL: Component.TRITON.value,
        SHADOW_LABEL: revision,
    }


def shadow_selector(name: str, revision: str) -> dict[str, str]:
    """Labels that pick that pod alone."""
    return {NAME_LABEL: stem(name), SHADOW_LABEL: revision}


def _measured(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """With tuning, what the measured server was given: with other CPUs or other fixed settings it is measured anew."""
    if spec.optimization.tuning is None:
        return {}
    said = _said(spec.serving)
    kept = {key: said[key] for key in ("batching", "gpus", "instances", "resources", "threads") if key in said}
    return {"serving": kept}


def _encrypted(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """The part of access that the pods carry; who may connect stands around them."""
    tls = spec.serving.access.tls
    return {} if tls is None else {"access": {"tls": _said(tls)}}


def _said(block: Any, *, exclude: Any = None) -> dict[str, Any]:
    said: dict[str, Any] = block.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude_none=True, exclude=exclude
    )
    return said
