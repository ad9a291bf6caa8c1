"""The optimization Job: `fetch` holds the credentials and parses nothing, `optimize` parses and holds none."""

from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import (
    CREDENTIALS,
    JOB_ENV,
    RUN_MOUNT,
    SAMPLES_CREDENTIALS,
    SAMPLES_MOUNT,
    SCRATCH_MOUNT,
    SOURCE_MOUNT,
    STORE_MOUNT,
    WORK_MOUNT,
    JobInput,
    JobServing,
)
from pilotfish.api.model import ModelFormat, ModelSpec
from pilotfish.api.report import USER_ERROR_EXIT_CODE
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import (
    claim_volume,
    compute_for,
    container,
    mount,
    pod_basics,
    resources,
    scratch,
    secret_volume,
    thread_env,
)
from pilotfish.resources.policy import Compute, Images, Policy
from pilotfish.resources.units import whole_cores, whole_seconds

FETCH_CONTAINER = "fetch"
OPTIMIZE_CONTAINER = "optimize"
BACKOFF_LIMIT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIntent:
    """What the Job is to make, and which generation of the object asked for it."""

    spec: ModelDeploymentSpec
    revision: str
    recipe_key: str
    generation: int


def optimizer_image(model: ModelSpec, images: Images) -> str:
    """The light image when the model is surely ONNX, else the one with PyTorch: formats are known only after fetch."""
    if model.format is ModelFormat.ONNX:
        return images.optimizer
    if model.format is None and model.uri.endswith(".onnx"):
        return images.optimizer
    return images.optimizer_torch


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
            max_batch_size=serving.batching.max_batch_size, gpus=serving.gpus.count, cpu_threads=threads
        ),
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
    env = [{"name": JOB_ENV, "value": job_input(owner, intent, policy).to_json()}, *job_environment(compute)]
    shared = [mount("store", STORE_MOUNT), mount("work", WORK_MOUNT), mount("tmp", SCRATCH_MOUNT)]
    volumes, fetch_mounts = source_volumes(model)
    image = optimizer_image(model, policy.images)
    return {
        **pod_basics(policy.images),
        "restartPolicy": "Never",
        "initContainers": [
            container(
                FETCH_CONTAINER,
                image=image,
                images=policy.images,
                body={"command": ["pilotfish-job", "fetch"], "env": env, "resources": resources(compute)},
                mounts=[*shared, *fetch_mounts],
            )
        ],
        "containers": [
            container(
                OPTIMIZE_CONTAINER,
                image=image,
                images=policy.images,
                body={
                    "command": ["pilotfish-job", "optimize"],
                    "env": env,
                    "resources": resources(compute, gpus=gpus, gpu_resource=intent.spec.serving.gpus.resource),
                },
                mounts=shared,
            )
        ],
        "volumes": [
            claim_volume("store", names.store_claim(owner.name)),
            scratch("work"),
            scratch("tmp"),
            *volumes,
        ],
    }


def job_environment(compute: Compute) -> list[dict[str, str]]:
    """Where a program without a home may write, and how many threads it may start."""
    return [{"name": "HOME", "value": WORK_MOUNT}, {"name": "TMPDIR", "value": SCRATCH_MOUNT}, *thread_env(compute)]


def source_volumes(model: ModelSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts of the container that reads the source, and of no other."""
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for name, claim, path in _claims(model):
        volumes.append(claim_volume(name, claim, read_only=True))
        mounts.append(mount(name, path, read_only=True))
    for name, secret in (
        (CREDENTIALS, model.credentials.secret_name if model.credentials else None),
        (SAMPLES_CREDENTIALS, model.samples.secret_name if model.samples else None),
    ):
        if secret is not None:
            volumes.append(secret_volume(name, secret))
            mounts.append(mount(name, f"{RUN_MOUNT}/{name}", read_only=True))
    return volumes, mounts


def _claims(model: ModelSpec) -> list[tuple[str, str, str]]:
    """Volume name, claim and path of what is read from claims. One claim is mounted once, at /source."""
    source = claim_of(model.uri)
    samples = claim_of(model.samples.uri) if model.samples else None
    if samples is None or samples == source:
        return [] if source is None else [("source", source, SOURCE_MOUNT)]
    if source is None:
        return [("samples", samples, SOURCE_MOUNT)]
    return [("source", source, SOURCE_MOUNT), ("samples", samples, SAMPLES_MOUNT)]


def claim_of(uri: str) -> str | None:
    """The claim of a `pvc://claim/path`, None for every other source."""
    if not uri.startswith("pvc://"):
        return None
    return uri.removeprefix("pvc://").split("/", 1)[0] or None
