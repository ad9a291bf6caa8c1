"""The Triton Deployment of one revision: install and verify the artifact, then serve it read-only.

What is rendered here is recorded with the revision and never rendered again for it. Replicas and the progress deadline
are not part of the record: `with_scale` adds them at every pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import CONFIG_MOUNT, INSTALL_ENV, MODELS_MOUNT, STORE_MOUNT, InstallInput
from pilotfish.api.report import ArtifactRecord, Backend
from pilotfish.api.serving import ServingSpec
from pilotfish.api.storage import StorageSpec
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import (
    compute_for,
    container,
    json_env,
    mount,
    pod_basics,
    resources,
    scratch,
    thread_env,
)
from pilotfish.resources.policy import Policy
from pilotfish.resources.storage import bucket_secret, bucket_uri, identity_secret, store_volume
from pilotfish.resources.tls import loopback_probe, server_files, server_volumes, tls_mounts
from pilotfish.resources.triton_flags import TritonDrain, TritonPorts, triton_arguments
from pilotfish.resources.units import whole_seconds

INSTALL_CONTAINER = "install"
TRITON_CONTAINER = "triton"
PORTS = TritonPorts()
ADMIN_KEY_ENV = "PILOTFISH_ADMIN_KEY"
_STOP_MARGIN_SECONDS = 5
_MOST_EXIT_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingIntent:
    """One revision with the artifact that it serves."""

    serving: ServingSpec
    revision: str
    artifact: ArtifactRecord
    storage: StorageSpec = field(default_factory=StorageSpec)
    samples_given: bool = False
    """The golden set was recorded from real inputs."""


def make_deployment(owner: Owner, intent: ServingIntent, policy: Policy) -> dict[str, Any]:
    """The whole Deployment without replicas and progress deadline."""
    name = names.revision_name(owner.name, intent.revision)
    metadata = make_metadata(owner, name=name, component=Component.TRITON, revision=intent.revision)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": names.pod_selector(owner.name, intent.revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": dict(metadata["labels"])},
                "spec": _pod(owner, intent, policy),
            },
        },
    }


def with_scale(
    deployment: Mapping[str, Any], *, replicas: int, progress_deadline: str, certificate: str | None = None
) -> dict[str, Any]:
    """The Deployment with what may change while the revision stays the same.

    `certificate` is the digest of what its pods start with; another one rolls them over.
    """
    spec = deployment["spec"]
    scale = {"replicas": replicas, "progressDeadlineSeconds": whole_seconds(progress_deadline, least=2)}
    if certificate is None:
        return {**deployment, "spec": {**spec, **scale}}
    marked = {**spec["template"]["metadata"], "annotations": {names.CERTIFICATE: certificate}}
    return {**deployment, "spec": {**spec, **scale, "template": {**spec["template"], "metadata": marked}}}


def triton_image(artifact: ArtifactRecord, policy: Policy) -> str:
    """The image that serves the artifact's backend."""
    if artifact.backend is Backend.PYTORCH and policy.images.triton_torch:
        return policy.images.triton_torch
    return policy.images.triton


def _pod(owner: Owner, intent: ServingIntent, policy: Policy) -> dict[str, Any]:
    selector = names.pod_selector(owner.name, intent.revision)
    in_bucket = bucket_uri(intent.storage) is not None
    return {
        **pod_basics(policy.images),
        "terminationGracePeriodSeconds": whole_seconds(intent.serving.termination_grace_period),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
        "initContainers": [_install(owner, intent, policy)],
        "containers": [_triton(owner, intent, policy)],
        "volumes": [
            *(bucket_secret(intent.storage)[0] if in_bucket else [store_volume(owner, intent.storage)]),
            *identity_secret(intent.storage, intent.artifact)[0],
            {"name": "config", "configMap": {"name": names.revision_name(owner.name, intent.revision)}},
            scratch("models"),
            scratch("tmp"),
            scratch("shm", memory=policy.shared_memory),
            *server_volumes(intent.serving.access.tls),
        ],
    }


def _install(owner: Owner, intent: ServingIntent, policy: Policy) -> dict[str, Any]:
    uri = bucket_uri(intent.storage)
    order = InstallInput(
        artifact=intent.artifact.path,
        digest=intent.artifact.digest,
        model=owner.name,
        bucket=uri,
        encrypted=True if intent.artifact.encrypted_for else None,
        golden=intent.artifact.golden if intent.serving.predict and intent.samples_given else None,
    )
    store = [mount("store", STORE_MOUNT, read_only=True)] if uri is None else bucket_secret(intent.storage)[1]
    return container(
        INSTALL_CONTAINER,
        image=policy.images.optimizer,
        images=policy.images,
        body={
            "command": ["pilotfish-job", "install"],
            "env": [
                json_env(INSTALL_ENV, order.to_json()),
                {"name": "HOME", "value": "/tmp"},  # noqa: S108 — a mount in a pod
            ],
            "resources": resources(compute_for(intent.serving.resources, policy.serving_compute)),
        },
        mounts=[
            *store,
            *identity_secret(intent.storage, intent.artifact)[1],
            mount("config", CONFIG_MOUNT, read_only=True),
            mount("models", MODELS_MOUNT),
            mount("tmp", "/tmp"),  # noqa: S108 — a mount in a pod
        ],
    )


def _triton(owner: Owner, intent: ServingIntent, policy: Policy) -> dict[str, Any]:
    serving = intent.serving
    tls = serving.access.tls
    compute = compute_for(serving.resources, policy.serving_compute)
    pre_stop, drain = _stopping(serving, policy)
    arguments = triton_arguments(
        policy.triton_version,
        model_repository=MODELS_MOUNT,
        admin_key=f"$({ADMIN_KEY_ENV})",
        ports=PORTS,
        drain=drain,
        tls=None if tls is None else server_files(tls),
    )
    return container(
        TRITON_CONTAINER,
        image=triton_image(intent.artifact, policy),
        images=policy.images,
        body={
            "command": ["tritonserver"],
            "args": list(arguments),
            "env": [
                # Known to whoever may read the pod, unknown to whoever can only reach its ports.
                {"name": ADMIN_KEY_ENV, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}},
                {"name": "HOME", "value": "/tmp"},  # noqa: S108 — a mount in a pod
                *thread_env(compute),
            ],
            "ports": [
                {"name": "http", "containerPort": PORTS.http, "protocol": "TCP"},
                {"name": "grpc", "containerPort": PORTS.grpc, "protocol": "TCP"},
                {"name": "metrics", "containerPort": PORTS.metrics, "protocol": "TCP"},
            ],
            **_probes(owner.name, encrypted=tls is not None, alone=serving.predict is None),
            **({"lifecycle": {"preStop": {"sleep": {"seconds": pre_stop}}}} if pre_stop else {}),
            "resources": resources(compute, gpus=serving.gpus.count, gpu_resource=serving.gpus.resource),
            # The reason of a model that does not load stands in the log alone: its end becomes the message.
            "terminationMessagePolicy": "FallbackToLogsOnError",
        },
        mounts=[
            mount("models", MODELS_MOUNT, read_only=True),
            mount("tmp", "/tmp"),  # noqa: S108 — a mount in a pod
            mount("shm", "/dev/shm"),  # noqa: S108 — a mount in a pod
            *tls_mounts(tls),
        ],
    )


def _probes(model: str, *, encrypted: bool, alone: bool) -> dict[str, Any]:
    # With a second model, which answers plain JSON, a pod is ready once both are.
    ready_path = f"/v2/models/{model}/versions/1/ready" if alone else "/v2/health/ready"
    paths = (ready_path, "/v2/health/live")
    ready, live = (
        loopback_probe(path, PORTS.http) if encrypted else {"httpGet": {"path": path, "port": "http"}} for path in paths
    )
    return {
        # Loading may take as long as the progress deadline allows; the server itself exits when a load fails.
        "startupProbe": {**live, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 900},
        "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _stopping(serving: ServingSpec, policy: Policy) -> tuple[int, TritonDrain]:
    """Seconds of preStop and Triton's own limits, all inside the pod's grace period."""
    grace = whole_seconds(serving.termination_grace_period)
    pre_stop = min(int(policy.pre_stop.total_seconds()), grace // 2)
    rest = max(1, grace - pre_stop - _STOP_MARGIN_SECONDS)
    # A client that keeps an idle HTTP connection for ever holds Triton until this runs out.
    return pre_stop, TritonDrain(exit_timeout_seconds=min(rest, _MOST_EXIT_SECONDS), grpc_connection_grace_seconds=rest)
