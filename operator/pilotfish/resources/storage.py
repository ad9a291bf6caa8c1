"""How pods reach the artifacts: through the claim, or with the bucket's Secret in the containers that talk to it."""

from typing import Any

from pilotfish import names
from pilotfish.api.job_input import IDENTITY, RUN_MOUNT, STORE_CREDENTIALS, BucketPlace
from pilotfish.api.report import ArtifactRecord
from pilotfish.api.storage import StorageKind, StorageSpec
from pilotfish.resources.meta import Owner
from pilotfish.resources.pods import claim_volume, mount, scratch, secret_volume
from pilotfish.resources.units import parse_quantity


def bucket_uri(storage: StorageSpec) -> str | None:
    """Where artifacts lie; None when they lie in a claim."""
    return storage.bucket.uri if storage.kind is StorageKind.BUCKET and storage.bucket else None


def bucket_place(owner: Owner, storage: StorageSpec) -> BucketPlace | None:
    """The bucket and who uses it; None when artifacts lie in a claim."""
    bucket = storage.bucket
    if storage.kind is not StorageKind.BUCKET or bucket is None:
        return None
    limit = None if bucket.max_size is None else parse_quantity(bucket.max_size)
    return BucketPlace(
        uri=bucket.uri,
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        max_bytes=None if limit is None else int(limit),
        kms_key=bucket.kms_key,
        recipient=bucket.encryption.recipient if bucket.encryption else None,
    )


def store_volume(owner: Owner, storage: StorageSpec) -> dict[str, Any]:
    """What is mounted at /store: the claim; beside a bucket room for one pod's work."""
    return scratch("store") if bucket_uri(storage) else claim_volume("store", names.store_claim(owner.name))


def bucket_secret(storage: StorageSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes of the pod, and mounts of a container that talks to the bucket; none where there is no Secret."""
    secret = storage.bucket.secret_name if bucket_uri(storage) and storage.bucket else None
    if secret is None:
        return [], []
    place = mount(STORE_CREDENTIALS, f"{RUN_MOUNT}/{STORE_CREDENTIALS}", read_only=True)
    return [secret_volume(STORE_CREDENTIALS, secret)], [place]


def identity_secret(
    storage: StorageSpec, artifact: ArtifactRecord
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes of the pod, and mounts of a container that brings the artifact there; none for one that lies in plain."""
    encryption = storage.bucket.encryption if bucket_uri(storage) and storage.bucket else None
    if artifact.encrypted_for is None or encryption is None:
        return [], []
    place = mount(IDENTITY, f"{RUN_MOUNT}/{IDENTITY}", read_only=True)
    return [secret_volume(IDENTITY, encryption.identity_secret)], [place]
