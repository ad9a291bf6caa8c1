"""The verification Job: sends the golden set to every loaded pod of a revision before it gets any traffic.

It holds no credentials, reads the store and changes nothing. Out of a bucket another container, `golden`, brings it
what it reads.
"""

from dataclasses import dataclass, field
from typing import Any

from pilotfish import names
from pilotfish.api.access import Tls
from pilotfish.api.job_input import SCRATCH_MOUNT, STORE_MOUNT, VERIFY_ENV, VerifyInput, VerifyTls
from pilotfish.api.serving import ServingSpec
from pilotfish.api.storage import StorageSpec
from pilotfish.api.tolerance import Tolerance
from pilotfish.names import Component
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.job import failure_policy
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import container, json_env, mount, pod_basics, resources, scratch, thread_env
from pilotfish.resources.policy import Policy
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.storage import bucket_secret, bucket_uri, identity_secret, store_volume
from pilotfish.resources.tls import client_volumes, tls_mounts

VERIFY_CONTAINER = "verify"
GOLDEN_CONTAINER = "golden"
BACKOFF_LIMIT = 2
_SECONDS = 600
_SECONDS_PER_POD = 120
_MOST_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyIntent:
    """Which revision is verified, on how many pods of which Deployment, and how far its answers may differ."""

    record: RevisionRecord
    tolerance: Tolerance | None
    tolerance_field: str
    pods: int
    deployment_uid: str
    storage: StorageSpec = field(default_factory=StorageSpec)


def make_verify_job(owner: Owner, intent: VerifyIntent, policy: Policy) -> dict[str, Any]:
    """The whole Job. It is created once and never applied again: most of it is immutable."""
    revision = intent.record.revision
    name = names.verify_job(owner.name, revision)
    metadata = make_metadata(owner, name=name, component=Component.VERIFY, revision=revision)
    told = verify_input(owner, intent)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": {names.VERIFIES: _identity(told, intent.deployment_uid)}},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": min(_SECONDS + _SECONDS_PER_POD * (intent.pods - 1), _MOST_SECONDS),
            "suspend": False,
            "podFailurePolicy": failure_policy(),
            "template": {"metadata": {"labels": dict(metadata["labels"])}, "spec": _pod(owner, intent, policy)},
        },
    }


def verify_input(owner: Owner, intent: VerifyIntent) -> VerifyInput:
    """What the container is told."""
    record = intent.record
    return VerifyInput(
        model=owner.name,
        host=f"{names.revision_name(owner.name, record.revision)}.{owner.namespace}.svc",
        port=PORTS.grpc,
        pods=intent.pods,
        artifact=record.artifact,
        signature=record.signature,
        samples_given=record.summary is not None and record.summary.samples == "Given",
        tolerance=intent.tolerance,
        tolerance_field=intent.tolerance_field,
        bucket=bucket_uri(intent.storage),
        tls=_verify_tls(owner, record),
    )


def tls_of(record: RevisionRecord) -> Tls | None:
    """What the revision's pods were rendered with."""
    return ServingSpec.model_validate(record.intent.get("serving") or {}).access.tls


def _verify_tls(owner: Owner, record: RevisionRecord) -> VerifyTls | None:
    tls = tls_of(record)
    if tls is None:
        return None
    host = f"{names.traffic_service(owner.name)}.{owner.namespace}.svc"
    return VerifyTls(host=host, shows_certificate=tls.client_ca is not None)


def _identity(told: VerifyInput, deployment_uid: str) -> str:
    """Equal for Jobs whose result means the same: the number of pods may change meanwhile, the pods' origin not."""
    return names.short_hash({"deployment": deployment_uid, "told": told.model_copy(update={"pods": 1}).to_wire()})


def _pod(owner: Owner, intent: VerifyIntent, policy: Policy) -> dict[str, Any]:
    compute, tls = policy.verify_compute, tls_of(intent.record)
    env = [
        json_env(VERIFY_ENV, verify_input(owner, intent).to_json()),
        {"name": "HOME", "value": SCRATCH_MOUNT},
        {"name": "TMPDIR", "value": SCRATCH_MOUNT},
        *thread_env(compute),
    ]
    pod = {
        **pod_basics(policy.images),
        "restartPolicy": "Never",
        "containers": [
            container(
                VERIFY_CONTAINER,
                image=policy.images.optimizer,
                images=policy.images,
                body={"command": ["pilotfish-job", "verify"], "env": env, "resources": resources(compute)},
                mounts=[mount("store", STORE_MOUNT, read_only=True), mount("tmp", SCRATCH_MOUNT), *tls_mounts(tls)],
            )
        ],
        "volumes": [store_volume(owner, intent.storage), scratch("tmp"), *client_volumes(tls)],
    }
    if bucket_uri(intent.storage) is None:
        return pod
    volumes, mounts = bucket_secret(intent.storage)
    identity, identity_mounts = identity_secret(intent.storage, intent.record.artifact)
    golden = container(
        GOLDEN_CONTAINER,
        image=policy.images.optimizer,
        images=policy.images,
        body={"command": ["pilotfish-job", "golden"], "env": env, "resources": resources(compute)},
        mounts=[mount("store", STORE_MOUNT), mount("tmp", SCRATCH_MOUNT), *mounts, *identity_mounts],
    )
    return {**pod, "initContainers": [golden], "volumes": [*pod["volumes"], *volumes, *identity]}
