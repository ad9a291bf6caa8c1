"""`spec.storage`: the place where artifacts are kept."""

from dataclasses import replace

from pydantic import ConfigDict, Field

from pilotfish.api import source_rules
from pilotfish.api.base import IS_DNS_NAME, ApiModel, Quantity, SecretName
from pilotfish.api.markers import DocumentedEnum, Rule, RuleReason, full_match, marked, unchanged


class StorageKind(DocumentedEnum):
    """Where artifacts are kept."""

    PVC = "PVC", "in one PersistentVolumeClaim per ModelDeployment"
    BUCKET = "Bucket", "in object storage, see bucket"
    OCI = "OCI", "as images in a registry, see oci"


class AccessMode(DocumentedEnum):
    """How the claim may be mounted."""

    READ_WRITE_ONCE = "ReadWriteOnce", "by pods of one node"
    READ_WRITE_MANY = "ReadWriteMany", "by pods of several nodes"


# Forbidden, because the API server would repeat a private key that was written here by mistake.
_IS_RECIPIENT = replace(
    full_match("age1[02-9ac-hj-np-z]{58}", "write an age public key, as age-keygen -y prints it: age1…"),
    reason=RuleReason.FORBIDDEN,
)


class ArtifactEncryption(ApiModel):
    """Encryption with age, before anything leaves the pod: the store never sees the model."""

    recipient: str = Field(
        max_length=62,
        json_schema_extra=marked(_IS_RECIPIENT),
    )
    """Public key that artifacts are encrypted for. Artifacts that were made for another one stay as they are.
    Example: `age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p`."""
    identity_secret: SecretName
    """Secret with the private key, a file of age-keygen, in the same namespace; several keys may stand in it. Mounted
    into the containers that bring artifacts to a pod, never where a model is opened. Example: `artifacts-key`."""


class Bucket(ApiModel):
    """Artifacts in object storage."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.kmsKey) || self.uri.startsWith('s3://')",
                message="remove kmsKey, or write an s3:// uri: gs:// and az:// take the key that is set on the bucket",
                holds=lambda bucket: "kmsKey" not in bucket or bucket["uri"].startswith("s3://"),
                field_path=".kmsKey",
            ),
        )
    )

    uri: str = Field(
        min_length=1,
        max_length=2048,
        json_schema_extra=marked(
            full_match(r"(s3|gs|az)://[^/\s][^\s]*", "write a uri that begins with s3://, gs:// or az://"),
            source_rules.NO_PARENT,
            source_rules.NO_PASSWORD,
            source_rules.NO_SIGNED_QUERY,
            unchanged("leave bucket.uri as it is; make a new ModelDeployment to move the artifacts"),
        ),
    )
    """Where they go; many ModelDeployments may share it. Cannot be changed later. Example: `s3://artifacts/team`."""
    secret_name: SecretName | None = None
    """Secret with the credentials to read, write and delete there, in the same namespace; keys as for
    model.credentials. Mounted into the containers that talk to the bucket, never into those that open the model.
    Example: `s3-credentials`."""
    max_size: Quantity | None = None
    """What the artifacts of this ModelDeployment may take there, in bytes; without a limit when left out. What another
    one uses as well counts for both. Example: `20Gi`."""
    kms_key: str | None = Field(
        default=None,
        max_length=2048,
        json_schema_extra=marked(full_match(r"[A-Za-z0-9:/_-]+", "write the id or the ARN of a key, or alias/NAME")),
    )
    """Key of AWS KMS that the store encrypts with whatever is written there (SSE-KMS). Left out, the bucket's own
    setting holds. Example: `alias/models`."""
    encryption: ArtifactEncryption | None = None
    """Encryption with age. Counts for artifacts that are made from then on.
    Example: `{recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p, identitySecret: key}`."""


class OciRepository(ApiModel):
    """Artifacts as images."""

    repository: str = Field(
        min_length=1,
        max_length=512,
        json_schema_extra=marked(
            full_match(
                r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+", "write host/path in lower case, without scheme, tag or digest"
            )
        ),
    )
    """Where they are pushed. Example: `registry.example.org/team/models`."""
    secret_name: SecretName | None = None
    """Secret of type kubernetes.io/dockerconfigjson, in the same namespace. Example: `registry-credentials`."""


# Rules here must hold for the empty object too: it is the default, and the server checks it before it fills it in.
def _kept(name: str) -> Rule:
    return Rule(
        cel=f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
        message=f"leave {name} as it is: a claim cannot change it; make a new ModelDeployment to move the artifacts",
        holds=None,
        field_path=f".{name}",
        reason=RuleReason.FORBIDDEN,
    )


class StorageSpec(ApiModel):
    """Where artifacts are kept."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="has(self.bucket) == (has(self.kind) && self.kind == 'Bucket')",
                message="set bucket with kind: Bucket, and only there: exactly one kind of storage",
                holds=lambda storage: ("bucket" in storage) == (storage["kind"] == "Bucket"),
                field_path=".bucket",
            ),
            Rule(
                cel="has(self.oci) == (has(self.kind) && self.kind == 'OCI')",
                message="set oci with kind: OCI, and only there: exactly one kind of storage",
                holds=lambda storage: ("oci" in storage) == (storage["kind"] == "OCI"),
                field_path=".oci",
            ),
            Rule(
                cel="!has(self.className) || self.kind == 'PVC'",
                message="remove className, or write kind: PVC; only claims have a class",
                holds=lambda storage: storage["kind"] == "PVC" or "className" not in storage,
                field_path=".className",
            ),
            _kept("className"),
            _kept("accessMode"),
            Rule(
                cel="!has(oldSelf.size) || !isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size)) "
                "|| quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
                message="write the old size or a larger one: a claim cannot shrink",
                holds=None,
                field_path=".size",
            ),
        )
    )

    kind: StorageKind = Field(
        default=StorageKind.PVC,
        json_schema_extra=marked(
            unchanged("leave storage.kind as it is; make a new ModelDeployment to move the artifacts"),
            unavailable=(StorageKind.OCI,),
        ),
    )
    """Where artifacts are kept; cannot be changed later."""
    size: Quantity = "10Gi"
    """Size of the claim in bytes; may grow where the StorageClass allows it."""
    class_name: str | None = Field(default=None, min_length=1, max_length=253, json_schema_extra=marked(IS_DNS_NAME))
    """StorageClass of the claim; the cluster's default when left out. Cannot be changed later. Example: `standard`."""
    access_mode: AccessMode = AccessMode.READ_WRITE_ONCE
    """How the claim may be mounted; ReadWriteMany where pods run on several nodes. Cannot be changed later."""
    bucket: Bucket | None = None
    """For kind Bucket. Example: `{uri: "s3://artifacts/team", secretName: s3-credentials}`."""
    oci: OciRepository | None = Field(default=None, json_schema_extra=marked(unavailable=True))
    """For kind OCI. Example: `{repository: registry.example.org/team/models}`."""
