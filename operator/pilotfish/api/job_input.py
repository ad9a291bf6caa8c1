"""What the containers are told, one JSON value in one variable each, and where their volumes are mounted.

Wire types only; shared by the pods' builders and by the program that runs in them.
"""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import OptimizationSpec, Precision
from pilotfish.api.report import ArtifactRecord, Digest, ModelSignature
from pilotfish.api.serving_settings import GivenServing
from pilotfish.api.tolerance import Tolerance
from pilotfish.api.wire import WireModel

JOB_ENV = "PILOTFISH_JOB"
INSTALL_ENV = "PILOTFISH_INSTALL"
VERIFY_ENV = "PILOTFISH_VERIFY"
REFRESH_ENV = "PILOTFISH_REFRESH"
SHADOW_ENV = "PILOTFISH_SHADOW"

STORE_MOUNT = "/store"
WORK_MOUNT = "/work"
TUNE_MOUNT = "/tune"
TUNE_PORT = 8001
SCRATCH_MOUNT = "/tmp"  # noqa: S108 — a mount in a pod
SOURCE_MOUNT = "/source"
SAMPLES_MOUNT = "/samples"
CONFIG_MOUNT = "/config"
MODELS_MOUNT = "/models"
PREDICT_CONFIG = "predict.pbtxt"
"""File in CONFIG_MOUNT: where it is, a second model that answers plain JSON is installed beside the model."""
RUN_MOUNT = "/var/run/pilotfish"
CREDENTIALS = "credentials"
"""Folder in RUN_MOUNT: files of the Secret that opens the model's source."""
VERIFICATION = "verification"
"""The same with the public keys that may have signed the source."""
IDENTITY = "identity"
"""The same with the private keys that decrypt artifacts. Only where one is brought to a pod."""
STORE_CREDENTIALS = "store-credentials"
"""The same for the bucket that keeps artifacts. Never where a model is opened."""
SERVER_TLS = "tls"
"""The same for the certificate of a Triton pod."""
CLIENT_TLS = "clients-tls"
"""The same for the authority of its clients, and for the client that verifies it."""
ORDER_MOUNT = "/order"
"""What `fetch` found and `publish` must know, out of reach of the container that opens the model."""
TERMINATION_LOG = "/dev/termination-log"

SHADOW_DRAIN_SECONDS = 20
"""How long the shadow lets requests end that are under way when it is told to stop."""

StorePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class JobTuning(WireModel):
    """Where the Triton to measure is, and what it may not change."""

    address: str = Field(description="host:port of its gRPC API; whoever reaches it may load models.")
    folder: str | None = Field(default=None, description="Its model repository; null: models travel in the request.")
    cores: int = Field(ge=1, description="CPU limit of a serving pod.")
    given: GivenServing = GivenServing()


class JobServing(WireModel):
    """The part of `spec.serving` that the optimizer measures for."""

    max_batch_size: int | None = Field(default=None, ge=0)
    gpus: int = Field(default=0, ge=0)
    cpu_threads: int | None = Field(default=None, ge=1, description="Threads of a serving pod; null: this machine's.")
    tuning: JobTuning | None = Field(default=None, description="Null: the settings are not measured.")
    obeys_precision_hint: bool | None = Field(
        default=None,
        description="Triton's openvino backend reads INFERENCE_PRECISION_HINT, as the CPU image's; null: it may not.",
    )


class BucketPlace(WireModel):
    """A bucket that keeps artifacts, and the ModelDeployment that refers to some of them."""

    uri: str
    namespace: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$")
    uid: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$", description="Names are used again, uids never.")
    max_bytes: int | None = Field(default=None, ge=0, description="What its artifacts may take; null: no limit.")
    kms_key: str | None = Field(default=None, description="Of AWS KMS; null: as the bucket is set.")
    recipient: str | None = Field(default=None, description="Public key of age that artifacts are for; null: plain.")


class JobInput(WireModel):
    """PILOTFISH_JOB: the whole input of `fetch`, `optimize` and `publish`."""

    name: str
    revision: str
    recipe_key: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    model: ModelSpec
    optimization: OptimizationSpec = OptimizationSpec()
    serving: JobServing = JobServing()
    bucket: BucketPlace | None = Field(default=None, description="Null: the store is a claim.")
    keep: tuple[str, ...] | None = Field(
        default=None, description="Artifacts of all revisions on record; others may go. Null: not known, none may go."
    )


class InstallInput(WireModel):
    """PILOTFISH_INSTALL: which artifact goes to /models and what it must hash to."""

    artifact: StorePath
    digest: Digest
    model: str
    bucket: str | None = Field(default=None, description="Uri of the bucket that the path is in; null: /store.")
    encrypted: bool | None = Field(default=None, description="The files are encrypted; null: they are not.")
    golden: Digest | None = Field(
        default=None, description="Of the golden set that answers are compared with over time; null: with none."
    )

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a path that climbs."""
        _check_inside(self.artifact)


class VerifyTls(WireModel):
    """How the pods are asked where they take nothing but TLS."""

    host: str = Field(description="Name that their certificate must hold for: that of the traffic Service.")
    shows_certificate: bool = Field(default=False, description="They ask their clients for a certificate.")


class VerifyInput(WireModel):
    """PILOTFISH_VERIFY: whose answers are compared with which golden set, and how far they may differ."""

    model: str = Field(description="Name of the model in the server.")
    host: str = Field(description="The headless Service: every pod of the revision by address.")
    port: int = Field(default=8001, ge=1, le=65535)
    pods: int = Field(ge=1, description="How many pods must answer.")
    artifact: ArtifactRecord
    signature: ModelSignature
    samples_given: bool = Field(default=False, description="The golden set was recorded, not generated.")
    tolerance: Tolerance | None = None
    tolerance_field: str = Field(default="spec.optimization.tolerance", description="Where it was written.")
    wait_seconds: int = Field(default=120, ge=0, description="How long the pods may take to say READY.")
    tls: VerifyTls | None = Field(default=None, description="Null: they are asked in plain text.")
    bucket: str | None = Field(default=None, description="Uri of the bucket that the artifact is in; null: /store.")

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a path that climbs."""
        _check_inside(self.artifact.path)


class RefreshInput(WireModel):
    """PILOTFISH_REFRESH: where to look for new bytes."""

    name: str
    uri: str
    bucket: BucketPlace | None = Field(default=None, description="Where the last look is remembered; null: in /store.")


class ShadowSide(WireModel):
    """The pods of one revision, as the shadow finds them."""

    host: str = Field(description="The headless Service: every pod of the revision by address.")
    http: int = Field(default=8000, ge=1, le=65535)
    grpc: int = Field(default=8001, ge=1, le=65535)


class ShadowPorts(WireModel):
    """Where the shadow listens."""

    http: int = Field(default=8000, ge=0, le=65535)
    grpc: int = Field(default=8001, ge=0, le=65535)
    metrics: int = Field(default=8002, ge=0, le=65535)


class ShadowInput(WireModel):
    """PILOTFISH_SHADOW: who answers the clients, whose answers are compared, of how many requests and how closely."""

    model: str = Field(description="Name of the model in both servers.")
    stable: ShadowSide
    candidate: ShadowSide
    sample_rate: float = Field(ge=0, le=1, description="Share of all requests to both revisions that is compared.")
    precisions: tuple[Precision, ...] = Field(min_length=1, description="Of both artifacts: the widest bounds hold.")
    tolerance: Tolerance | None = None
    ports: ShadowPorts = ShadowPorts()


def _check_inside(path: str) -> None:
    if ".." in path.split("/"):
        raise ValueError(f"artifact path {path!r} must stay inside the store")
