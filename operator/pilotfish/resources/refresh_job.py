"""The refresh Job: looks for other bytes at the model's address. It has the source's credentials, parses nothing."""

from typing import Any

from pilotfish import names
from pilotfish.api.job_input import REFRESH_ENV, SCRATCH_MOUNT, STORE_MOUNT, WORK_MOUNT, RefreshInput
from pilotfish.api.model import ModelSpec
from pilotfish.api.storage import StorageSpec
from pilotfish.names import Component
from pilotfish.resources.job import failure_policy, job_environment, source_volumes
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import container, json_env, mount, pod_basics, resources, scratch
from pilotfish.resources.policy import Policy
from pilotfish.resources.storage import bucket_place, bucket_secret, store_volume
from pilotfish.resources.units import whole_seconds

REFRESH_CONTAINER = "refresh"
BACKOFF_LIMIT = 1
_CLAIM = StorageSpec()
DEADLINE = "30m"
"""Enough to bring a changed model; what is not complete by then goes on at the next look."""


def make_refresh_job(
    owner: Owner, model: ModelSpec, policy: Policy, *, storage: StorageSpec = _CLAIM
) -> dict[str, Any]:
    """The whole Job. It is created once and never applied again; its input hash tells what it was asked."""
    metadata = make_metadata(owner, name=names.refresh_job(owner.name), component=Component.REFRESH)
    pod = _pod(owner, model, policy, storage)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "annotations": {names.INPUT_HASH: names.short_hash(pod)}},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": whole_seconds(DEADLINE),
            "suspend": False,
            "podFailurePolicy": failure_policy(),
            "template": {"metadata": {"labels": dict(metadata["labels"])}, "spec": pod},
        },
    }


def _pod(owner: Owner, model: ModelSpec, policy: Policy, storage: StorageSpec) -> dict[str, Any]:
    compute = policy.verify_compute
    order = RefreshInput(name=owner.name, uri=model.uri, bucket=bucket_place(owner, storage))
    volumes, mounts = source_volumes(model.model_copy(update={"samples": None, "verification": None}))
    secret, secret_mounts = bucket_secret(storage)
    shared = [mount("store", STORE_MOUNT), mount("work", WORK_MOUNT), mount("tmp", SCRATCH_MOUNT)]
    return {
        **pod_basics(policy.images),
        "restartPolicy": "Never",
        "containers": [
            container(
                REFRESH_CONTAINER,
                image=policy.images.optimizer,
                images=policy.images,
                body={
                    "command": ["pilotfish-job", "refresh"],
                    "env": [json_env(REFRESH_ENV, order.to_json()), *job_environment(compute)],
                    "resources": resources(compute),
                },
                mounts=[*shared, *mounts, *secret_mounts],
            )
        ],
        "volumes": [store_volume(owner, storage), scratch("work"), scratch("tmp"), *volumes, *secret],
    }
