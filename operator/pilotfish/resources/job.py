"""The optimization Job: `fetch` holds the credentials and parses nothing, `optimize` parses and holds none.

With a bucket a third container, `publish`, brings the artifact there: it has the credentials and opens no model.
"""

from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import (
    CREDENTIALS,
    JOB_ENV,
    ORDER_MOUNT,
    RUN_MOUNT,
    SCRATCH_MOUNT,
    STORE_MOUNT,
    VERIFICATION,
    WORK_MOUNT,
    JobInput,
    JobServing,
)
from pilotfish.api.job_sources import claim_mounts, side_sources
from pilotfish.api.model import ModelFormat, ModelSpec
from pilotfish.api.optimization import ExportFormat, OptimizationSpec
from pilotfish.api.report import USER_ERROR_EXIT_CODE
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import (
    claim_volume,
    compute_for,
    container,
    json_env,
    mount,
    pod_basics,
    resources,
    scratch,
    secret_volume,
    thread_env,
)
from pilotfish.resources.policy import Compute, Images, Policy
from pilotfish.resources.storage import bucket_place, bucket_secret, bucket_uri, store_volume
from pilotfish.resources.tuning import tuning_mounts, tuning_place, with_tuning
from pilotfish.resources.units import whole_cores, whole_seconds

FETCH_CONTAINER = "fetch"
OPTIMIZE_CONTAINER = "optimize"
PUBLISH_CONTAINER = "publish"
BACKOFF_LIMIT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIntent:
    """What the Job is to make, and which generation of the object asked for it.

    `keep` are the artifacts of all revisions on record; None when there are none, or nobody knows.
    """

    spec: ModelDeploymentSpec
    revision: str
    recipe_key: str
    generation: int
    keep: tuple[str, ...] | None = None


_TENSORFLOW = frozenset({ModelFormat.KERAS, ModelFormat.SAVED_MODEL, ModelFormat.TFLITE})
_ENDINGS = (".keras", ".h5", ".hdf5", ".tflite", ".pb")


def optimizer_image(model: ModelSpec, images: Images, *, exports: tuple[ExportFormat, ...] = ()) -> str:
    """The image for what spec and uri say, the one with PyTorch where they say nothing: only fetching would tell.

    ONNX that is to be exported as TFLite needs TensorFlow's converter. What comes from PyTorch stays with PyTorch: no
    image has both, and the report then says why there is no TFLite.
    """
    ending = model.uri.rstrip("/").lower() if model.format is None else ""
    if images.optimizer_tf and (model.format in _TENSORFLOW or ending.endswith(_ENDINGS)):
        return images.optimizer_tf
    if model.format is not ModelFormat.ONNX and not ending.endswith(".onnx"):
        return images.optimizer_torch
    return images.optimizer_tf if images.optimizer_tf and ExportFormat.TFLITE in exports else images.optimizer


def make_job(owner: Owner, intent: JobIntent, policy: Policy) -> dict[str, Any]:
    """The whole Job. It is created once and never applied again: most of it is immutable."""
    name = names.optimize_job(owner.name, intent.revision)
    metadata = make_metadata(owner, name=name, component=Component.OPTIMIZE, revision=intent.revision)
    labels = {**metadata["labels"], names.RECIPE_LABEL: intent.recipe_key}
    annotations = {
        names.GENERATION: str(intent.generation),
        names.INPUT_HASH: names.job_input_hash(intent.spec),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "activeDeadlineSeconds": whole_seconds(intent.spec.optimization.deadline),
            "suspend": False,
            "podFailurePolicy": failure_policy(),
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": _pod(owner, intent, policy),
            },
        },
    }


def job_input(owner: Owner, intent: JobIntent, policy: Policy) -> JobInput:
    """What both containers are told."""
    serving = intent.spec.serving
    threads = serving.threads.intra_op or whole_cores(compute_for(serving.resources, policy.serving_compute).cpu)
    return JobInput(
        name=owner.name,
        revision=intent.revision,
        recipe_key=intent.recipe_key,
        model=intent.spec.model,
        optimization=intent.spec.optimization,
        serving=JobServing(
            max_batch_size=serving.batching.max_batch_size,
            gpus=serving.gpus.count,
            cpu_threads=threads,
            tuning=tuning_place(intent.spec, policy),
            obeys_precision_hint=policy.triton_obeys_precision_hint or None,
        ),
        bucket=bucket_place(owner, intent.spec.storage),
        keep=intent.keep,
    )


def failure_policy() -> dict[str, Any]:
    """Which failures of a pod count, and which one ends the Job at once."""
    return {
        "rules": [
            # An evicted pod says nothing about the model: it does not count.
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [USER_ERROR_EXIT_CODE]}},
        ]
    }


def _pod(owner: Owner, intent: JobIntent, policy: Policy) -> dict[str, Any]:
    model, optimization = intent.spec.model, intent.spec.optimization
    compute = compute_for(optimization.resources, policy.optimizer_compute)
    gpus = optimization.gpus.count if optimization.gpus else 0
    env = [json_env(JOB_ENV, job_input(owner, intent, policy).to_json()), *job_environment(compute)]
    shared = [mount("store", STORE_MOUNT), mount("work", WORK_MOUNT), mount("tmp", SCRATCH_MOUNT)]
    volumes, fetch_mounts = source_volumes(model, optimization)
    image = optimizer_image(model, policy.images, exports=optimization.exports)
    fetch = container(
        FETCH_CONTAINER,
        image=image,
        images=policy.images,
        body={"command": ["pilotfish-job", "fetch"], "env": env, "resources": resources(compute)},
        mounts=[*shared, *fetch_mounts],
    )
    optimize = container(
        OPTIMIZE_CONTAINER,
        image=image,
        images=policy.images,
        body={
            "command": ["pilotfish-job", "optimize"],
            "env": env,
            "resources": resources(compute, gpus=gpus, gpu_resource=intent.spec.serving.gpus.resource),
        },
        mounts=[*shared, *tuning_mounts(intent.spec)],
    )
    pod = {
        **pod_basics(policy.images),
        "restartPolicy": "Never",
        "initContainers": [fetch],
        "containers": [optimize],
        "volumes": [store_volume(owner, intent.spec.storage), scratch("work"), scratch("tmp"), *volumes],
    }
    whole = pod if bucket_uri(intent.spec.storage) is None else _with_publish(pod, intent, policy)
    return with_tuning(whole, intent.spec, policy)


def _with_publish(pod: dict[str, Any], intent: JobIntent, policy: Policy) -> dict[str, Any]:
    """The bucket's Secret for `fetch` and for a third container, which brings what was made to the bucket.

    That one shares nothing that can be written with the container that opened the model, its home included: clients
    read their configuration there.
    """
    (fetch,), (optimize,) = pod["initContainers"], pod["containers"]
    volumes, secret = bucket_secret(intent.spec.storage)
    mounts = [mount("order", ORDER_MOUNT), *secret]
    told = [one for one in fetch["env"] if one["name"] not in {"HOME", "TMPDIR"}]
    home = [{"name": name, "value": ORDER_MOUNT} for name in ("HOME", "TMPDIR")]
    compute = compute_for(intent.spec.optimization.resources, policy.optimizer_compute)
    publish = container(
        PUBLISH_CONTAINER,
        image=policy.images.optimizer,
        images=policy.images,
        body={"command": ["pilotfish-job", "publish"], "env": [*told, *home], "resources": resources(compute)},
        mounts=[mount("store", STORE_MOUNT, read_only=True), *mounts],
    )
    return {
        **pod,
        "initContainers": [{**fetch, "volumeMounts": [*fetch["volumeMounts"], *mounts]}, optimize],
        "containers": [publish],
        "volumes": [*pod["volumes"], scratch("order"), *volumes],
    }


def job_environment(compute: Compute) -> list[dict[str, str]]:
    """Where a program without a home may write, and how many threads it may start."""
    return [{"name": "HOME", "value": WORK_MOUNT}, {"name": "TMPDIR", "value": SCRATCH_MOUNT}, *thread_env(compute)]


def source_volumes(
    model: ModelSpec, optimization: OptimizationSpec | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts of the container that reads model, samples, training data and teacher, and of no other."""
    said = optimization or OptimizationSpec()
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for claim, (name, path) in claim_mounts(model, said).items():
        volumes.append(claim_volume(name, claim, read_only=True))
        mounts.append(mount(name, path, read_only=True))
    for name, secret in (
        (CREDENTIALS, model.credentials.secret_name if model.credentials else None),
        (VERIFICATION, model.verification.public_key_secret if model.verification else None),
        *((side.credentials, side.secret_name) for side in side_sources(model, said)),
    ):
        if secret is not None:
            volumes.append(secret_volume(name, secret))
            mounts.append(mount(name, f"{RUN_MOUNT}/{name}", read_only=True))
    return volumes, mounts
