"""The shadow of a candidate: one pod that stands among those that the traffic Service reaches, and passes requests on.

It holds no token, no credentials and no volume but scratch, and needs nobody but the pods of both revisions.
"""

from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import (
    SCRATCH_MOUNT,
    SHADOW_DRAIN_SECONDS,
    SHADOW_ENV,
    ShadowInput,
    ShadowPorts,
    ShadowSide,
)
from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance
from pilotfish.names import Component
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import container, json_env, mount, pod_basics, resources, scratch, thread_env
from pilotfish.resources.policy import Policy
from pilotfish.resources.units import whole_seconds

SHADOW_CONTAINER = "shadow"
_STOP_MARGIN_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowIntent:
    """Whose answers are compared with whose, of what share of all requests (0 to 1), and how far they may differ.

    `progress_deadline` is a duration of the spec.
    """

    stable: str
    candidate: str
    sample_rate: float
    precisions: tuple[Precision, ...]
    tolerance: Tolerance | None
    progress_deadline: str


def make_shadow(owner: Owner, intent: ShadowIntent, policy: Policy) -> dict[str, Any]:
    """The whole Deployment. It may be applied again: a new pod is ready before the old one goes."""
    name = names.shadow(owner.name, intent.candidate)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": make_metadata(owner, name=name, component=Component.SHADOW, revision=intent.candidate),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": whole_seconds(intent.progress_deadline, least=2),
            "selector": {"matchLabels": names.shadow_selector(owner.name, intent.candidate)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": names.shadow_labels(owner.name, intent.candidate)},
                "spec": _pod(owner, intent, policy),
            },
        },
    }


def shadow_input(owner: Owner, intent: ShadowIntent) -> ShadowInput:
    """What the container is told."""
    return ShadowInput(
        model=owner.name,
        stable=_side(owner, intent.stable),
        candidate=_side(owner, intent.candidate),
        sample_rate=intent.sample_rate,
        precisions=intent.precisions,
        tolerance=intent.tolerance,
        ports=ShadowPorts(http=PORTS.http, grpc=PORTS.grpc, metrics=PORTS.metrics),
    )


def _side(owner: Owner, revision: str) -> ShadowSide:
    host = f"{names.revision_name(owner.name, revision)}.{owner.namespace}.svc"
    return ShadowSide(host=host, http=PORTS.http, grpc=PORTS.grpc)


def _pod(owner: Owner, intent: ShadowIntent, policy: Policy) -> dict[str, Any]:
    compute = policy.shadow_compute
    pre_stop = int(policy.pre_stop.total_seconds())
    body = {
        "command": ["pilotfish-job", "shadow"],
        "env": [
            json_env(SHADOW_ENV, shadow_input(owner, intent).to_json()),
            {"name": "HOME", "value": SCRATCH_MOUNT},
            {"name": "TMPDIR", "value": SCRATCH_MOUNT},
            *thread_env(compute),
        ],
        "ports": [
            {"name": "http", "containerPort": PORTS.http, "protocol": "TCP"},
            {"name": "grpc", "containerPort": PORTS.grpc, "protocol": "TCP"},
            {"name": "metrics", "containerPort": PORTS.metrics, "protocol": "TCP"},
        ],
        **_probes(owner.name),
        **({"lifecycle": {"preStop": {"sleep": {"seconds": pre_stop}}}} if pre_stop else {}),
        "resources": resources(compute),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        **pod_basics(policy.images),
        "terminationGracePeriodSeconds": pre_stop + SHADOW_DRAIN_SECONDS + _STOP_MARGIN_SECONDS,
        "containers": [
            container(
                SHADOW_CONTAINER,
                image=policy.images.optimizer,
                images=policy.images,
                body=body,
                mounts=[mount("tmp", SCRATCH_MOUNT)],
            )
        ],
        "volumes": [scratch("tmp")],
    }


def _probes(model: str) -> dict[str, Any]:
    """Ready when a stable pod is: the question goes through to it, as any request would."""
    ready = {"httpGet": {"path": f"/v2/models/{model}/versions/1/ready", "port": "http"}}
    live = {"httpGet": {"path": "/live", "port": "metrics"}}
    return {
        "startupProbe": {**live, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }
