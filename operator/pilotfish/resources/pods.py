"""What all our pods share: the restricted security settings, resources with requests equal to limits, small volumes."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.api.job_input import TERMINATION_LOG
from pilotfish.api.optimization import ComputeResources
from pilotfish.resources.policy import Compute, Images
from pilotfish.resources.units import whole_cores

USER_ID = 65532


def compute_for(asked: ComputeResources | None, default: Compute) -> Compute:
    """What the user asked for, the operator's default for the rest."""
    if asked is None:
        return default
    return Compute(cpu=asked.cpu or default.cpu, memory=asked.memory or default.memory)


def resources(compute: Compute, *, gpus: int = 0, gpu_resource: str = "nvidia.com/gpu") -> dict[str, Any]:
    """Requests equal to limits: the pod is Guaranteed, and what was measured is what it keeps."""
    amounts = {"cpu": compute.cpu, "memory": compute.memory, **({gpu_resource: str(gpus)} if gpus else {})}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def thread_env(compute: Compute) -> list[dict[str, str]]:
    """Math libraries start as many threads as the container has CPU, not as the host has cores."""
    threads = str(whole_cores(compute.cpu))
    return [{"name": name, "value": threads} for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")]


def json_env(name: str, text: str) -> dict[str, str]:
    """JSON as a variable. A dollar sign of the user's is escaped: the kubelet expands `$(NAME)` and halves `$$`."""
    return {"name": name, "value": text.replace("$", "\\u0024")}


def pod_security() -> dict[str, Any]:
    """What Pod Security `restricted` asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """What Pod Security `restricted` asks of a container, and a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_basics(images: Images) -> dict[str, Any]:
    """Fields of every pod: no token, no service variables, the restricted settings, pull secrets."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        **({"imagePullSecrets": [{"name": name} for name in images.pull_secrets]} if images.pull_secrets else {}),
    }


def container(
    name: str, *, image: str, images: Images, body: Mapping[str, Any], mounts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One container with the shared settings; `body` holds what is its own."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": images.pull_policy,
        "securityContext": container_security(),
        "terminationMessagePath": TERMINATION_LOG,
        **body,
        "volumeMounts": [dict(m) for m in mounts],
    }


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    """A volume at a path."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def scratch(name: str, *, memory: str | None = None) -> dict[str, Any]:
    """An emptyDir; with `memory` a tmpfs of that size."""
    return {"name": name, "emptyDir": {} if memory is None else {"medium": "Memory", "sizeLimit": memory}}


def claim_volume(name: str, claim: str, *, read_only: bool = False) -> dict[str, Any]:
    """A PersistentVolumeClaim as a volume."""
    source = {"claimName": claim, **({"readOnly": True} if read_only else {})}
    return {"name": name, "persistentVolumeClaim": source}


def secret_volume(name: str, secret: str) -> dict[str, Any]:
    """A Secret as files that only the pod's group may read."""
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}
