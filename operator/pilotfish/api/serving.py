"""`spec.serving`, `spec.storage`: the Triton pods, and the place where artifacts are kept."""

from enum import StrEnum

from pydantic import Field

from pilotfish.api.base import ApiModel, Duration, Quantity
from pilotfish.api.optimization import ComputeResources


class StorageKind(StrEnum):
    """Where artifacts are kept."""

    PVC = "PVC"
    BUCKET = "Bucket"
    OCI = "OCI"


class AccessMode(StrEnum):
    """How the claim may be mounted."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Bucket(ApiModel):
    """Artifacts in object storage."""

    uri: str = Field(max_length=2048)
    """Where they go. Example: `s3://artifacts/team`."""
    secret_name: str | None = Field(default=None, max_length=253)
    """Secret with the credentials."""


class OciRepository(ApiModel):
    """Artifacts as images."""

    repository: str = Field(max_length=512)
    """Where they are pushed."""
    secret_name: str | None = Field(default=None, max_length=253)
    """Secret with the credentials."""


class StorageSpec(ApiModel):
    """Where artifacts are kept."""

    kind: StorageKind = StorageKind.PVC
    """PVC: one claim per ModelDeployment."""
    size: Quantity = "10Gi"
    """Size of the claim."""
    class_name: str | None = Field(default=None, max_length=253)
    """StorageClass; the cluster's default when left out."""
    access_mode: AccessMode = AccessMode.READ_WRITE_ONCE
    """ReadWriteMany where pods run on several nodes."""
    bucket: Bucket | None = None
    """For kind Bucket."""
    oci: OciRepository | None = None
    """For kind OCI."""


class Gpus(ApiModel):
    """GPUs of each Triton pod."""

    count: int = Field(default=0, ge=0, le=16)
    """How many each pod asks for; 0 serves on CPU."""
    resource: str = Field(default="nvidia.com/gpu", max_length=128)
    """Name of the extended resource, a MIG profile for instance."""


class Batching(ApiModel):
    """Triton's dynamic batcher."""

    max_batch_size: int = Field(default=8, ge=0, le=4096)
    """Largest batch; 0 turns batching off."""
    max_queue_delay: Duration = "2ms"
    """How long a request may wait for others."""
    preferred_sizes: tuple[int, ...] = Field(default=(), max_length=16)
    """Batch sizes that are sent at once when reached."""


class Threads(ApiModel):
    """Threads of the runtime in each model instance; 0 follows the CPU limit."""

    intra_op: int = Field(default=0, ge=0, le=256)
    """Threads inside one operator."""
    inter_op: int = Field(default=0, ge=0, le=256)
    """Operators that run at once."""


class Protocol(StrEnum):
    """A way in."""

    GRPC = "GRPC"
    HTTP = "HTTP"


class AccessKind(StrEnum):
    """Who may send requests."""

    INTERNAL = "Internal"
    GATEWAY = "Gateway"
    OPEN = "Open"


class Access(ApiModel):
    """Who may send requests."""

    mode: AccessKind = AccessKind.OPEN
    """Open: no NetworkPolicy is made. Internal: the same namespace and those of fromNamespaces."""
    from_namespaces: tuple[str, ...] = Field(default=(), max_length=64)
    """Namespaces that may connect as well."""


class Gateway(ApiModel):
    """Gateway API routes."""

    name: str = Field(max_length=253)
    """Gateway in the same namespace."""
    hostnames: tuple[str, ...] = Field(default=(), max_length=16)
    """Hosts of the routes."""


class Placement(ApiModel):
    """Where pods run."""

    profile: str = Field(max_length=63)
    """A profile that the operator's settings define: node selector, tolerations, runtime class."""


class Autoscaling(ApiModel):
    """Replicas by load."""

    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Fewest pods."""
    max_replicas: int = Field(ge=1, le=1000)
    """Most pods."""


class Predict(ApiModel):
    """A plain-JSON endpoint with preprocessing and labels."""

    labels: tuple[str, ...] = Field(default=(), max_length=10000)
    """Names of the classes in the order of the output."""


class ServingSpec(ApiModel):
    """The Triton pods."""

    replicas: int = Field(default=1, ge=0, le=1000)
    """How many pods serve."""
    autoscaling: Autoscaling | None = None
    """Replicas by load."""
    gpus: Gpus = Gpus()
    """GPUs of each pod."""
    resources: ComputeResources | None = None
    """CPU and memory of each pod."""
    batching: Batching = Batching()
    """Triton's dynamic batcher."""
    instances: int = Field(default=1, ge=1, le=64)
    """Model instances per GPU, or per pod on CPU."""
    threads: Threads = Threads()
    """Threads of the runtime."""
    protocols: tuple[Protocol, ...] = Field(default=(Protocol.GRPC, Protocol.HTTP), min_length=1, max_length=2)
    """Ways in that the Service offers."""
    predict: Predict | None = None
    """A plain-JSON endpoint."""
    access: Access | None = None
    """Who may send requests."""
    gateway: Gateway | None = None
    """Gateway API routes."""
    placement: Placement | None = None
    """Where pods run."""
    warmup: bool = True
    """Run the model once before a pod reports ready."""
    termination_grace_period: Duration = "60s"
    """How long a pod may take to finish its requests."""
    min_available: int = Field(default=1, ge=0, le=1000)
    """Pods that voluntary disruptions leave alone."""
