"""The operator's settings: variables `PILOTFISH_…`, checked at the start. The only reader of the environment.

Builds the `Policy` that plan() gets, so nothing below ever asks for a setting.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pilotfish.core import Compute, Images, Policy
from pilotfish.resources.network_policy import NAMESPACE_NAME
from pilotfish.resources.policy import Neighbours
from pilotfish.resources.triton_flags import parse_triton_version

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:26.07-py3"
TRITON_VERSION = "2.71.0"

Words = Annotated[tuple[str, ...], NoDecode]
"""Written with commas: `a,b`."""


_PEER_KEYS = {"ipBlock", "namespaceSelector", "podSelector"}


def _check_peer(peer: dict[str, Any]) -> dict[str, Any]:
    if not peer or not set(peer) <= _PEER_KEYS:
        raise ValueError(f"a peer of a NetworkPolicy has {', '.join(sorted(_PEER_KEYS))}, and at least one of them")
    return peer


Peer = Annotated[dict[str, Any], AfterValidator(_check_peer)]
"""Written as in a NetworkPolicy."""
_MONITORING: dict[str, Any] = {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "monitoring"}}}


class OperatorSettings(BaseSettings):
    """Everything an installation can set."""

    model_config = SettingsConfigDict(env_prefix="PILOTFISH_", frozen=True, extra="ignore")

    watch_namespaces: Words = ()
    """Namespaces to look at; none means all."""
    kubeconfig: Path | None = None
    """How to reach the cluster from outside; none means the pod's service account."""

    namespace: str = "pilotfish-system"
    """Where the Lease lives."""
    lease_name: str = "pilotfish"
    """One installation per name."""
    identity: str = Field(default="pilotfish", min_length=1, max_length=253)
    """This replica: the pod's name."""
    lease_duration: PositiveFloat = 15.0
    """Seconds of silence after which another replica takes over."""
    lease_renew_deadline: PositiveFloat = 10.0
    """Seconds after which a replica that cannot renew stops writing."""
    lease_retry: PositiveFloat = 2.0
    """Seconds between two tries."""

    workers: PositiveInt = 4
    """Objects that are worked on at once."""
    resync: PositiveFloat = 300.0
    """Seconds between two sweeps over everything."""
    listen: str = ""
    """Address of the probes and the metrics; empty means all, IPv4 and IPv6."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port of the probes and the metrics; 0 picks one."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged."""
    log_format: Literal["json", "console"] = "json"
    """For machines or for people."""
    prometheus_url: str = ""
    """Base address of the Prometheus that answers the queries of rollouts; empty means none. No object can name one."""
    prometheus_token_file: Path | None = None
    """Holds a bearer token for it."""

    optimizer_image: str = "pilotfish/optimizer:0.1.0"
    """Fetches, verifies and optimizes ONNX models."""
    optimizer_torch_image: str = "pilotfish/optimizer-torch:0.1.0"
    """The same with PyTorch."""
    optimizer_tf_image: str | None = "pilotfish/optimizer-tf:0.1.0"
    """The light one with TensorFlow's converters: Keras, SavedModel and TFLite. Empty: such models are refused."""
    triton_image: str = TRITON_IMAGE
    """Serves."""
    triton_torch_image: str | None = None
    """Serves TorchScript, where the Triton image cannot."""
    triton_version: str = TRITON_VERSION
    """The server's version in these images."""
    triton_obeys_precision_hint: bool = False
    """Their openvino backend reads INFERENCE_PRECISION_HINT, as the CPU image's does; NVIDIA's does not."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Of the Jobs' and Triton pods' images."""
    image_pull_secrets: Words = ()
    """Names of secrets that exist in the namespace of each ModelDeployment."""
    optimizer_cpu: str = "1"
    """Of the Job, where the object does not say."""
    optimizer_memory: str = "4Gi"
    """Of the Job, where the object does not say."""
    serving_cpu: str = "1"
    """Of a Triton pod, where the object does not say."""
    serving_memory: str = "2Gi"
    """Of a Triton pod, where the object does not say."""
    schedule_deadline: PositiveFloat = 60.0
    """Seconds that a new revision's pod may wait for a place that was made free for it."""
    drain: float = Field(default=15.0, ge=0)
    """Seconds that the old revision stays after the traffic has moved."""
    pre_stop: float = Field(default=10.0, ge=0)
    """Seconds that a leaving pod goes on serving."""
    shared_memory: str = "256Mi"
    """Largest /dev/shm of a Triton pod."""
    pod_labels: Words = ("app.kubernetes.io/name=pilotfish", "app.kubernetes.io/instance=pilotfish")
    """`key=value` of the operator's own pods: they read the metrics of pods that a NetworkPolicy guards."""
    metrics_from: tuple[Peer, ...] = (_MONITORING,)
    """Who else may read them: peers of a NetworkPolicy as JSON. Prometheus."""
    gateways_from: tuple[Peer, ...] = ()
    """Pods of gateways that stand elsewhere than the Gateway: peers of a NetworkPolicy as JSON."""
    gateway_api: bool = False
    """Split traffic by routes of the Gateway API where a ModelDeployment names a gateway; needs rights on routes."""
    docs_url: str = ""
    """Page of the reasons; failures link to it."""

    @field_validator("watch_namespaces", "image_pull_secrets", "pod_labels", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("optimizer_tf_image", "triton_torch_image", "kubeconfig", "prometheus_token_file", mode="before")
    @classmethod
    def _none_when_empty(cls, value: object) -> object:
        return value or None

    @field_validator("pod_labels")
    @classmethod
    def _are_labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(key and equals for key, equals, _ in (word.partition("=") for word in value)):
            raise ValueError("write labels such as app.kubernetes.io/name=pilotfish, with commas between them")
        return value

    @field_validator("triton_version")
    @classmethod
    def _known_triton(cls, value: str) -> str:
        parse_triton_version(value)
        return value

    @field_validator("prometheus_url")
    @classmethod
    def _is_base_address(cls, value: str) -> str:
        parts = urlsplit(value)
        bare = parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment)
        if value and not (bare and "@" not in parts.netloc):
            raise ValueError(
                "write a base address such as http://prometheus.monitoring:9090, without query or password"
            )
        return value

    @model_validator(mode="after")
    def _one_writer(self) -> Self:
        if not self.lease_retry < self.lease_renew_deadline < self.lease_duration:
            raise ValueError("lease_retry must be shorter than lease_renew_deadline, and that than lease_duration")
        return self

    def policy(self) -> Policy:
        """What plan() needs to know."""
        return Policy(
            images=Images(
                optimizer=self.optimizer_image,
                optimizer_torch=self.optimizer_torch_image,
                optimizer_tf=self.optimizer_tf_image,
                triton=self.triton_image,
                triton_torch=self.triton_torch_image,
                pull_policy=self.image_pull_policy,
                pull_secrets=self.image_pull_secrets,
            ),
            triton_version=self.triton_version,
            triton_obeys_precision_hint=self.triton_obeys_precision_hint,
            optimizer_compute=Compute(cpu=self.optimizer_cpu, memory=self.optimizer_memory),
            serving_compute=Compute(cpu=self.serving_cpu, memory=self.serving_memory),
            schedule_deadline=timedelta(seconds=self.schedule_deadline),
            drain=timedelta(seconds=self.drain),
            pre_stop=timedelta(seconds=self.pre_stop),
            shared_memory=self.shared_memory,
            docs_url=self.docs_url,
            gateway_api=self.gateway_api,
            neighbours=Neighbours(
                operator={
                    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: self.namespace}},
                    "podSelector": {"matchLabels": dict(word.split("=", 1) for word in self.pod_labels)},
                },
                metrics=self.metrics_from,
                gateways=self.gateways_from,
            ),
        )
