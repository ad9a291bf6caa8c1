"""From a uri and a folder of credentials to a Remote. The only place that knows schemes and clients."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.credentials import filesystem_options, read_credentials, registry_login
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.filesystems import FsspecRemote, translated
from pilotfish.optimizer.oci import OciRemote, Registry, parse_reference
from pilotfish.optimizer.remotes import (
    HttpRemote,
    LocalRemote,
    Remote,
    check_status,
    safe_relative,
)

SCHEMES = ("file", "pvc", "http", "https", "s3", "gs", "az", "hf", "oci")
_ADAPTERS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
_PROTOCOLS = {"s3": "s3", "gs": "gs", "az": "abfs"}
_HF_SKIPPED = (".bin", ".msgpack", ".h5", ".ckpt", ".pth", ".gguf", ".tflite", ".mlmodel", ".ot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the container's mounts are."""

    source: Path = Path("/source")
    credentials: Path = Path("/var/run/pilotfish/credentials")


def open_remote(uri: str, places: Places) -> Remote:
    """The remote behind `uri`; raises SourceUnsupported for a scheme or a client that is not there."""
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise OptimizerError(
            Reason.INPUT_INVALID,
            "spec.model.uri holds a user or password; put it into spec.model.credentials.secretName",
        )
    keys = read_credentials(places.credentials)
    match parts.scheme:
        case "file":
            root = Path(parts.path)
            return LocalRemote(root=root, fence=_fence(root), uri=uri)
        case "pvc":
            path = safe_relative(parts.path.strip("/") or ".", uri=uri)
            return LocalRemote(root=places.source / path, fence=places.source, uri=uri)
        case "http" | "https":
            return HttpRemote(uri=uri, session=_http_session(keys))
        case "s3" | "gs" | "az":
            return FsspecRemote(uri=uri, filesystem=open_filesystem(parts.scheme, keys), root=_bucket_path(uri))
        case "hf":
            return _hub_remote(uri, keys)
        case "oci":
            return _oci_remote(uri, keys)
        case _:
            known = ", ".join(f"{s}://" for s in SCHEMES)
            raise OptimizerError(Reason.SOURCE_UNSUPPORTED, f"{uri} has a scheme this version cannot read; use {known}")


def _fence(root: Path) -> Path:
    """A HuggingFace cache keeps its files behind links into the same repository's folder."""
    for parent in root.parents:
        if parent.name.startswith("models--"):
            return parent
    return root if root.is_dir() else root.parent


def _http_session(keys: Mapping[str, str]) -> Any:
    import requests

    session = requests.Session()
    if token := keys.get("HTTP_BEARER_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    elif "HTTP_USERNAME" in keys:
        session.auth = (keys["HTTP_USERNAME"], keys.get("HTTP_PASSWORD", ""))
    return session


def _bucket_path(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.netloc}{parts.path}"


def open_filesystem(scheme: str, keys: Mapping[str, str]) -> Any:
    """The fsspec file system behind s3, gs or az; its adapter is imported here and nowhere else."""
    options = filesystem_options(scheme, keys)
    # The adapter's gRPC paths for hierarchical buckets: nothing that reading needs, and slow to import.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs a traceback for whatever it also raises
    import fsspec

    try:
        # A look at an object must reach the store: that it is still the one that was listed is asked after the read.
        return fsspec.filesystem(_PROTOCOLS[scheme], skip_instance_cache=True, use_listings_cache=False, **options)
    except ImportError as error:
        raise OptimizerError(
            Reason.SOURCE_UNSUPPORTED,
            f"{scheme}:// needs the package {_ADAPTERS[scheme]} in the optimizer image; use an image that has it",
        ) from error
    except ValueError as error:
        raise OptimizerError(
            Reason.SOURCE_FORBIDDEN,
            f"{scheme}:// cannot be opened with the Secret's keys ({error}); check spec.model.credentials.secretName",
        ) from error


def _oci_remote(uri: str, keys: Mapping[str, str]) -> Remote:
    import requests

    reference = parse_reference(uri)
    registry = Registry(
        session=requests.Session(),
        reference=reference,
        login=registry_login(keys, reference.host),
        plain_http=keys.get("OCI_PLAIN_HTTP", "").lower() == "true",
    )
    return OciRemote(uri=uri, registry=registry)


def _hub_remote(uri: str, keys: Mapping[str, str]) -> Remote:
    """hf://org/name[@revision][/folder], pinned to the commit that the revision names now."""
    from huggingface_hub import HfApi, HfFileSystem

    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(/.*)?", uri)
    if found is None:
        raise OptimizerError(
            Reason.INPUT_INVALID, f"{uri} is not of the form hf://organisation/name[@revision][/folder]"
        )
    repo, revision, folder = found.group(1), found.group(2), found.group(3) or ""
    token, endpoint = keys.get("HF_TOKEN", False), keys.get("HF_ENDPOINT")
    with translated(uri), hub_errors(uri):
        commit = HfApi(endpoint=endpoint, token=token).model_info(repo, revision=revision).sha
    filesystem = HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True)
    remote = FsspecRemote(uri=uri, filesystem=filesystem, root=f"{repo}@{commit}{folder.rstrip('/')}", pinned=True)
    return _WithoutWeightsTwice(remote)


@contextmanager
def hub_errors(uri: str) -> Iterator[None]:
    """Turns the hub client's errors into ours."""
    try:
        yield
    except Exception as error:
        name = type(error).__name__
        if name in {"RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"}:
            raise OptimizerError(
                Reason.SOURCE_NOT_FOUND,
                f"{uri} is not on the hub or not visible without a token; check the name or set HF_TOKEN",
            ) from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        if name == "HfHubHTTPError" and status is not None:
            check_status(status, uri=uri)
        if name == "GatedRepoError":
            raise OptimizerError(
                Reason.SOURCE_FORBIDDEN, f"{uri} is gated; accept its terms and set HF_TOKEN in the credentials"
            ) from error
        raise


class _WithoutWeightsTwice:
    """A hub repository without the formats that duplicate its safetensors or that are never opened."""

    def __init__(self, inner: FsspecRemote) -> None:
        self._inner = inner
        self.read = inner.read

    def listing(self) -> Any:
        """The inner listing, filtered."""
        from dataclasses import replace

        listing = self._inner.listing()
        kept = tuple(f for f in listing.files if listing.single or not f.path.lower().endswith(_HF_SKIPPED))
        return replace(listing, files=kept)
