"""The Triton beside the optimizer, for tuning: the image and the CPU limit that will serve, in the same pod.

A native sidecar (Kubernetes 1.29 or later): it starts after `fetch`, loads what `optimize` puts before it, ends with
the pod. It listens on the loopback alone and sees neither the store nor any Secret.
"""

from typing import Any

from pilotfish.api.controlled_server import LOOPBACK, controlled_arguments
from pilotfish.api.job_input import SCRATCH_MOUNT, TUNE_MOUNT, TUNE_PORT, JobTuning
from pilotfish.api.model import ModelFormat
from pilotfish.api.optimization import ArtifactFormat
from pilotfish.api.serving_settings import given_serving
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.resources.config_map import pod_cores
from pilotfish.resources.pods import compute_for, container, mount, resources, scratch, thread_env
from pilotfish.resources.policy import Policy

TUNING_CONTAINER = "tuning-triton"
_SHARED = "tune"


def tuning_place(spec: ModelDeploymentSpec, policy: Policy) -> JobTuning | None:
    """What the optimizer is told about the server that it measures; None where tuning is not asked for."""
    if spec.optimization.tuning is None:
        return None
    return JobTuning(
        address=f"{LOOPBACK}:{TUNE_PORT}",
        folder=TUNE_MOUNT,
        cores=pod_cores(spec.serving, policy),
        given=given_serving(spec.serving),
    )


def tuning_mounts(spec: ModelDeploymentSpec) -> list[dict[str, Any]]:
    """Where `optimize` puts the models that the server is to load."""
    return [] if spec.optimization.tuning is None else [mount(_SHARED, TUNE_MOUNT)]


def with_tuning(pod: dict[str, Any], spec: ModelDeploymentSpec, policy: Policy) -> dict[str, Any]:
    """The Job's pod with the server, after `fetch` and before everything else."""
    if spec.optimization.tuning is None:
        return pod
    fetch, *others = pod["initContainers"]
    volumes = (scratch(_SHARED), scratch("tune-tmp"), scratch("tune-shm", memory=policy.shared_memory))
    return {
        **pod,
        "initContainers": [fetch, _server(spec, policy), *others],
        "volumes": [*pod["volumes"], *volumes],
    }


def _server(spec: ModelDeploymentSpec, policy: Policy) -> dict[str, Any]:
    serving = spec.serving
    compute = compute_for(serving.resources, policy.serving_compute)
    gpus = serving.gpus.count if spec.optimization.gpus is not None else 0
    return container(
        TUNING_CONTAINER,
        image=_image(spec, policy),
        images=policy.images,
        body={
            "restartPolicy": "Always",
            "command": ["tritonserver"],
            "args": list(controlled_arguments(model_repository=TUNE_MOUNT, port=TUNE_PORT)),
            "env": [{"name": "HOME", "value": SCRATCH_MOUNT}, *thread_env(compute)],
            "resources": resources(compute, gpus=gpus, gpu_resource=serving.gpus.resource),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        },
        mounts=[
            mount(_SHARED, TUNE_MOUNT, read_only=True),
            mount("tune-tmp", SCRATCH_MOUNT),
            mount("tune-shm", "/dev/shm"),  # noqa: S108 — a mount in a pod
        ],
    )


def _image(spec: ModelDeploymentSpec, policy: Policy) -> str:
    """One that serves every artifact that may win: who wins is not known yet."""
    onnx = spec.model.format is ModelFormat.ONNX or spec.model.uri.endswith(".onnx")
    may_be_torch = ArtifactFormat.TORCH_SCRIPT in spec.optimization.formats and not onnx
    return policy.images.triton_torch or policy.images.triton if may_be_torch else policy.images.triton
