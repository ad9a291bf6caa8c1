"""What the operator's settings decide about the objects it makes. A plain value: `settings.py` builds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Image references. `triton_torch` serves TorchScript; None means that `triton` can.

    `optimizer_tf` converts models of TensorFlow; None means that there is none: the image with PyTorch refuses them.
    """

    optimizer: str
    optimizer_torch: str
    triton: str
    optimizer_tf: str | None = None
    triton_torch: str | None = None
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """CPU and memory as Kubernetes quantities, request and limit at once."""

    cpu: str
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Who beside clients connects to Triton pods, as peers of a NetworkPolicy. The kubelet always may."""

    operator: Mapping[str, Any] | None = None
    """The operator's own pods; None where it runs outside the cluster."""
    metrics: tuple[Mapping[str, Any], ...] = ()
    """Who else reads metrics: Prometheus."""
    gateways: tuple[Mapping[str, Any], ...] = ()
    """Pods of gateways that stand elsewhere than the Gateway that they serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that plan() needs and the user's object does not say."""

    images: Images
    triton_version: str
    """The server's version (`2.51.0`): flags differ, and an unknown one aborts the server."""
    triton_obeys_precision_hint: bool = False
    """Its openvino backend reads INFERENCE_PRECISION_HINT; NVIDIA's does not."""
    optimizer_compute: Compute = field(default_factory=lambda: Compute(cpu="1", memory="4Gi"))
    serving_compute: Compute = field(default_factory=lambda: Compute(cpu="1", memory="2Gi"))
    verify_compute: Compute = field(default_factory=lambda: Compute(cpu="250m", memory="512Mi"))
    shadow_compute: Compute = field(default_factory=lambda: Compute(cpu="500m", memory="512Mi"))
    schedule_deadline: timedelta = timedelta(seconds=60)
    """How long a candidate's pod may wait for a place that was made free for it, before the place goes back."""
    drain: timedelta = timedelta(seconds=15)
    """How long the old revision's pods are kept after the traffic has moved."""
    pre_stop: timedelta = timedelta(seconds=10)
    """How long a pod that leaves goes on serving before it is told to stop; at most half its grace period."""
    shared_memory: str = "256Mi"
    """Largest /dev/shm of a Triton pod; what is used counts against the pod's memory."""
    docs_url: str = ""
    """Page of the reasons; a failure's message ends with a link to it when set."""
    gateway_api: bool = False
    """Whether HTTPRoutes and GRPCRoutes are listed, watched and made."""
    neighbours: Neighbours = field(default_factory=Neighbours)
