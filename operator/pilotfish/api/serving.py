"""`spec.serving`: the Triton pods and the ways to them."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from pilotfish.api.access import ACCESS_RULES, Access
from pilotfish.api.base import FRACTION_PATTERN, IS_DNS_NAME, ApiModel, Duration, Fraction, between
from pilotfish.api.markers import DocumentedEnum, Rule, distinct, full_match, marked, quoted
from pilotfish.api.optimization import ComputeResources
from pilotfish.api.predict import PREDICT_RULES, Predict
from pilotfish.api.storage import AccessMode, Bucket, OciRepository, StorageKind, StorageSpec

__all__ = ["AccessMode", "Bucket", "OciRepository", "ServingSpec", "StorageKind", "StorageSpec"]


class Gpus(ApiModel):
    """GPUs of each Triton pod."""

    count: int = Field(default=0, ge=0, le=16)
    """How many each pod asks for; 0 serves on CPU."""
    resource: str = Field(
        default="nvidia.com/gpu",
        max_length=128,
        json_schema_extra=marked(
            full_match(
                r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
                "write the extended resource's full name such as nvidia.com/gpu or nvidia.com/mig-1g.5gb",
            )
        ),
    )
    """Name of the extended resource, a MIG profile for instance. Example: `nvidia.com/mig-1g.5gb`."""


class Batching(ApiModel):
    """Triton's dynamic batcher."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.preferredSizes) || self.preferredSizes.all(size, size <= self.maxBatchSize)",
                message="keep every preferred size at or below maxBatchSize, or raise maxBatchSize",
                holds=lambda batching: all(size <= batching["maxBatchSize"] for size in batching["preferredSizes"]),
                field_path=".preferredSizes",
            )
        )
    )

    max_batch_size: int = Field(default=8, ge=0, le=4096)
    """Largest batch in samples; 0 turns batching off."""
    max_queue_delay: Duration = Field(default="2ms", json_schema_extra=between("0s", "10s"))
    """How long a request may wait for others, at most 10s."""
    preferred_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(), max_length=16, json_schema_extra=marked(distinct("name each preferred size once"))
    )
    """Batch sizes that are sent at once when reached. Example: `[4, 8]`."""


class Threads(ApiModel):
    """Threads of the runtime in each model instance; 0 follows the CPU limit."""

    intra_op: int = Field(default=0, ge=0, le=256)
    """Threads inside one operator; 0 follows the CPU limit."""
    inter_op: int = Field(default=0, ge=0, le=256)
    """Operators that run at once; 0 follows the runtime."""


class Protocol(DocumentedEnum):
    """A way in."""

    GRPC = "GRPC", "port 8001"
    HTTP = "HTTP", "port 8000"


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
Host = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=marked(
            full_match(
                rf"(\*\.)?{_LABEL}(\.{_LABEL})*",
                "write a host without scheme and port such as digits.example.org or *.example.org",
            )
        ),
    ),
]
"""A host that routes match: `digits.example.org`, `*.example.org`."""
Section = Annotated[str, Field(min_length=1, max_length=253, json_schema_extra=marked(IS_DNS_NAME))]
"""Name of a listener."""


class GrpcRoute(ApiModel):
    """Where gRPC comes in, beside HTTP."""

    section_name: Section | None = None
    """Listener of the Gateway; the one of HTTP when left out. Example: `grpc`."""
    hostnames: tuple[Host, ...] = Field(default=(), max_length=16)
    """Hosts of the GRPCRoute; those of HTTP when left out. Example: `[grpc.digits.example.org]`."""


def _keeps_apart(gateway: dict[str, Any]) -> bool:
    """Whether HTTP and gRPC never meet at one listener under one host."""
    if "grpc" not in gateway:
        return True
    section, hosts = gateway.get("sectionName"), gateway["hostnames"]
    own_section, own_hosts = gateway["grpc"].get("sectionName"), gateway["grpc"]["hostnames"]
    if section and own_section and section != own_section:
        return True
    return bool(hosts and own_hosts) and not set(hosts) & set(own_hosts)


class Gateway(ApiModel):
    """Gateway API routes."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.grpc) || (has(self.sectionName) && has(self.grpc.sectionName) && "
                "self.sectionName != self.grpc.sectionName) || (has(self.hostnames) && size(self.hostnames) > 0 && "
                "has(self.grpc.hostnames) && size(self.grpc.hostnames) > 0 && "
                "!self.grpc.hostnames.exists(host, host in self.hostnames))",
                message="give gRPC hosts that HTTP does not have (grpc.hostnames beside hostnames), or a listener of "
                "its own (grpc.sectionName beside sectionName)",
                holds=_keeps_apart,
                field_path=".grpc",
            )
        )
    )

    name: str = Field(min_length=1, max_length=253, json_schema_extra=marked(IS_DNS_NAME))
    """Gateway in the same namespace. Example: `public`."""
    section_name: Section | None = None
    """Listener of the Gateway; all that take the routes when left out. Example: `https`."""
    hostnames: tuple[Host, ...] = Field(default=(), max_length=16)
    """Hosts of the routes. Example: `[digits.example.org]`."""
    grpc: GrpcRoute | None = None
    """Where gRPC comes in; needed where HTTP is offered too. Example: `{hostnames: [grpc.digits.example.org]}`."""


class Placement(ApiModel):
    """Where pods run."""

    profile: str = Field(min_length=1, max_length=63, json_schema_extra=marked(IS_DNS_NAME))
    """A profile that the operator's settings define: node selector, tolerations, runtime class. Example: `a100`."""


class AutoscalingMetricType(DocumentedEnum):
    """A figure to scale by."""

    CPU = "CPU", "percent of the CPU request"
    QUEUE_TIME = "QueueTime", "milliseconds that a request waits for the model"
    GPU_UTILIZATION = "GPUUtilization", "percent of the GPU's time"
    PROMETHEUS = "Prometheus", "the result of a query"


METRIC_BOUNDS: Mapping[AutoscalingMetricType, tuple[float, float]] = MappingProxyType(
    {
        AutoscalingMetricType.CPU: (1, 100),
        AutoscalingMetricType.QUEUE_TIME: (0.001, 3_600_000),
        AutoscalingMetricType.GPU_UTILIZATION: (1, 100),
    }
)
"""What a target may be: a pod gets no more CPU than it asks for, and nobody waits for longer than an hour."""


def _target_within(kind: AutoscalingMetricType, message: str) -> Rule:
    """A string that is no number is another rule's business."""
    least, most = METRIC_BOUNDS[kind]

    def holds(metric: Mapping[str, Any]) -> bool:
        target = str(metric.get("target"))
        return metric.get("type") != kind or not re.match(FRACTION_PATTERN, target) or least <= float(target) <= most

    return Rule(
        cel=f"self.type != '{kind}' || !self.target.matches({quoted(FRACTION_PATTERN)}) || "
        f"(double(self.target) >= {float(least)} && double(self.target) <= {float(most)})",
        message=message,
        holds=holds,
        field_path=".target",
    )


class AutoscalingMetric(ApiModel):
    """One figure and its target."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            _target_within(AutoscalingMetricType.CPU, "write a percentage of the CPU request from 1 to 100"),
            _target_within(AutoscalingMetricType.GPU_UTILIZATION, "write a percentage of the GPU's time from 1 to 100"),
            _target_within(AutoscalingMetricType.QUEUE_TIME, "write milliseconds from 0.001 to 3600000"),
            Rule(
                cel="has(self.query) == (self.type == 'Prometheus')",
                message="set query with type Prometheus, and only there",
                holds=lambda metric: ("query" in metric) == (metric.get("type") == "Prometheus"),
                field_path=".query",
            ),
        )
    )

    type: AutoscalingMetricType = Field(json_schema_extra=marked(unavailable=("Prometheus",)))
    """A figure to scale by; all but CPU need an adapter that serves it to Kubernetes."""
    target: Fraction
    """Pods are added above this mean per pod. Example: `"70"`."""
    query: str | None = Field(default=None, min_length=1, max_length=4096, json_schema_extra=marked(unavailable=True))
    """PromQL that returns one number per pod, for Prometheus. Example: `sum(rate(nv_inference_count[1m]))`."""


class Autoscaling(ApiModel):
    """Replicas by load."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="self.minReplicas <= self.maxReplicas",
                message="write maxReplicas at or above minReplicas",
                holds=lambda scaling: scaling["minReplicas"] <= scaling["maxReplicas"],
                field_path=".maxReplicas",
            )
        )
    )

    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Fewest pods."""
    max_replicas: int = Field(ge=1, le=1000)
    """Most pods. Example: `4`."""
    metrics: tuple[AutoscalingMetric, ...] = Field(default=(), max_length=8)
    """What to scale by; CPU at 70 percent when left out. Example: `[{type: QueueTime, target: "5"}]`."""


class ServingSpec(ApiModel):
    """The Triton pods."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.gateway) || size(self.protocols) < 2 || has(self.gateway.grpc)",
                message="set gateway.grpc: a gateway takes HTTP and gRPC under different hosts or listeners only, so "
                "gRPC needs its own; or name one protocol in protocols",
                holds=lambda serving: (
                    "gateway" not in serving or len(serving["protocols"]) < 2 or "grpc" in serving["gateway"]  # noqa: PLR2004 - two protocols
                ),
                field_path=".gateway",
            ),
            *ACCESS_RULES,
            *PREDICT_RULES,
        )
    )

    replicas: int = Field(default=1, ge=0, le=1000)
    """How many pods serve. With autoscaling leave it out of the manifest: the autoscaler writes it."""
    autoscaling: Autoscaling | None = None
    """An autoscaler for the pods. Example: `{minReplicas: 1, maxReplicas: 4}`."""
    gpus: Gpus = Gpus()
    """GPUs of each pod. Example: `{count: 1}`."""
    resources: ComputeResources | None = None
    """CPU and memory of each pod. Example: `{cpu: 2, memory: 4Gi}`."""
    batching: Batching = Batching()
    """Triton's dynamic batcher. Example: `{maxBatchSize: 8, maxQueueDelay: 2ms}`."""
    instances: int = Field(default=1, ge=1, le=64)
    """Model instances per GPU, or per pod on CPU."""
    threads: Threads = Threads()
    """Threads of the runtime in each model instance. Example: `{intraOp: 2}`."""
    protocols: tuple[Protocol, ...] = Field(
        default=(Protocol.GRPC, Protocol.HTTP),
        min_length=1,
        max_length=2,
        json_schema_extra=marked(distinct("name each protocol once")),
    )
    """Ways in that the Service offers."""
    predict: Predict | None = None
    """A plain-JSON endpoint. Example: `{labels: [cat, dog]}`."""
    access: Access = Access()
    """Who may send requests. Example: `{mode: Internal, fromNamespaces: [shop]}`."""
    gateway: Gateway | None = None
    """Gateway API routes. Example: `{name: public, hostnames: [a.org], grpc: {hostnames: [grpc.a.org]}}`."""
    placement: Placement | None = Field(default=None, json_schema_extra=marked(unavailable=True))
    """Where pods run. Example: `{profile: a100}`."""
    warmup: bool = True
    """Run the model once before a pod reports ready."""
    termination_grace_period: Duration = Field(default="60s", json_schema_extra=between("1s", "1h"))
    """How long a pod may take to finish its requests, 1s to 1h."""
    min_available: int = Field(default=1, ge=0, le=1000)
    """Pods that voluntary disruptions leave alone."""
