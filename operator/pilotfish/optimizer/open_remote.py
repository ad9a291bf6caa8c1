"""From a uri and a folder of credentials to a Remote. The only place that knows schemes and clients."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.remotes import (
    FsspecRemote,
    HttpRemote,
    LocalRemote,
    Remote,
    check_status,
    safe_relative,
    translated,
)

SCHEMES = ("file", "pvc", "http", "https", "s3", "gs", "az", "hf")
_ADAPTERS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
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
            return FsspecRemote(uri=uri, filesystem=_filesystem(parts.scheme, keys), root=_bucket_path(uri))
        case "hf":
            return _hub_remote(uri, keys)
        case _:
            known = ", ".join(f"{s}://" for s in SCHEMES)
            raise OptimizerError(Reason.SOURCE_UNSUPPORTED, f"{uri} has a scheme this version cannot read; use {known}")


def read_credentials(folder: Path) -> dict[str, str]:
    """The Secret's keys as mounted: one file per key."""
    if not folder.is_dir():
        return {}
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and p.is_file()]
    return {p.name: p.read_text().strip() for p in files}


def _fence(root: Path) -> Path:
    """A HuggingFace cache keeps its files behind links into the same repository's folder."""
    for parent in root.parents:
        if parent.name.startswith("models--"):
            return parent
    return root if root.is_dir() else root.parent


def _http_session(keys: dict[str, str]) -> Any:
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


def _filesystem(scheme: str, keys: dict[str, str]) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(
            scheme if scheme != "az" else "abfs", skip_instance_cache=True, **_options(scheme, keys)
        )
    except ImportError as error:
        raise OptimizerError(
            Reason.SOURCE_UNSUPPORTED,
            f"{scheme}:// needs the package {_ADAPTERS[scheme]} in the optimizer image; use s3, http(s), hf or pvc",
        ) from error


def _options(scheme: str, keys: dict[str, str]) -> dict[str, Any]:
    if scheme == "s3":
        client = {"endpoint_url": keys.get("AWS_ENDPOINT_URL"), "region_name": keys.get("AWS_REGION")}
        secret = {
            "key": keys.get("AWS_ACCESS_KEY_ID"),
            "secret": keys.get("AWS_SECRET_ACCESS_KEY"),
            "token": keys.get("AWS_SESSION_TOKEN"),
            "anon": not keys.get("AWS_ACCESS_KEY_ID") and not os.environ.get("AWS_ACCESS_KEY_ID"),
        }
        return secret | {"client_kwargs": {k: v for k, v in client.items() if v}}
    if scheme == "gs":
        return {"token": keys.get("GOOGLE_APPLICATION_CREDENTIALS", "anon")}
    return {
        "account_name": keys.get("AZURE_STORAGE_ACCOUNT_NAME"),
        "account_key": keys.get("AZURE_STORAGE_ACCOUNT_KEY"),
    }


def _hub_remote(uri: str, keys: dict[str, str]) -> Remote:
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
    remote = FsspecRemote(uri=uri, filesystem=filesystem, root=f"{repo}@{commit}{folder.rstrip('/')}")
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
