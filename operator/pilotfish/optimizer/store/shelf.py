"""A folder of files in a bucket or on this machine. Knows nothing of artifacts.

Every failure is an OptimizerError that names the uri. Nothing is cached: another Job may write at any time.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError, from_os_error
from pilotfish.optimizer.filesystems import translated
from pilotfish.optimizer.open_remote import open_filesystem

CHUNK = 4 * 1024 * 1024
BUCKET_SCHEMES = ("s3", "gs", "az")
_SECRET = "spec.storage.bucket.secretName"  # noqa: S105 - the name of a field
_TOLD = {
    Reason.SOURCE_NOT_FOUND: (Reason.STORE_NOT_FOUND, "nothing at {uri}: make the bucket, or correct the uri"),
    Reason.SOURCE_FORBIDDEN: (
        Reason.STORE_FORBIDDEN,
        f"{{uri}} refuses access ({{cause}}); check {_SECRET} and that its keys may read, write, list and delete there",
    ),
    Reason.SOURCE_UNREACHABLE: (Reason.STORE_UNREACHABLE, "cannot reach {uri} ({cause}); check host and network"),
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# As s3, az, gs and this machine call the time of the last change.
_CHANGED = ("LastModified", "last_modified", "updated", "mtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One file: path relative to the shelf, size in bytes, time of the last change (None: not told)."""

    path: str
    bytes: int
    changed: datetime | None


def open_shelf(uri: str, keys: dict[str, str]) -> "Shelf":
    """The shelf at `s3://…`, `gs://…`, `az://…` or a folder of this machine; `keys` are the Secret's.

    Raises:
        OptimizerError: InputInvalid, StoreForbidden, SourceUnsupported (the image lacks the client).
    """
    parts = urlsplit(uri)
    if parts.scheme in BUCKET_SCHEMES:
        with told(uri):
            filesystem = open_filesystem(parts.scheme, keys)
        return Shelf(uri=uri.rstrip("/"), filesystem=filesystem, root=f"{parts.netloc}{parts.path}".rstrip("/"))
    if parts.scheme not in {"", "file"}:
        raise OptimizerError(Reason.INPUT_INVALID, f"{uri} is no store; write a folder, s3://, gs:// or az://")
    from fsspec.implementations.local import LocalFileSystem

    folder = Path(parts.path if parts.scheme else uri).resolve()
    filesystem = LocalFileSystem(auto_mkdir=True, skip_instance_cache=True)
    return Shelf(uri=str(folder), filesystem=filesystem, root=str(folder), local=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Files below `root`, by paths relative to it; `local` for a folder of this machine."""

    uri: str
    filesystem: Any
    root: str
    local: bool = False

    def folders(self, path: str) -> tuple[str, ...]:
        """Names of the folders that lie directly in `path`, sorted; none where there is no such path."""
        with told(self.uri):
            entries = self._listed(path)
        return tuple(sorted(_last(entry["name"]) for entry in entries if entry["type"] == "directory"))

    def files(self, path: str) -> tuple[Stored, ...]:
        """All files below `path`, sorted; none where there is no such path."""
        with told(self.uri):
            try:
                found = self.filesystem.find(self._at(path), detail=True)
            except FileNotFoundError:
                return ()
        prefix = f"{self.root}/"
        return tuple(
            Stored(path=name.removeprefix(prefix), bytes=int(entry.get("size") or 0), changed=_changed(entry))
            for name, entry in sorted(found.items())
            if entry["type"] == "file" and not name.endswith("/")
        )

    def read(self, path: str) -> bytes | None:
        """The file's bytes; None when there is none."""
        with told(self.uri):
            try:
                return bytes(self.filesystem.cat_file(self._at(path)))
            except FileNotFoundError:
                return None

    def stream(self, path: str) -> Iterator[bytes]:
        """The file's bytes in blocks; raises ArtifactMissing when there is no such file."""
        with told(self.uri):
            try:
                with self.filesystem.open(self._at(path), "rb") as stream:
                    while block := stream.read(CHUNK):
                        yield block
            except FileNotFoundError as error:
                raise OptimizerError(Reason.ARTIFACT_MISSING, f"{self.uri} has no {path} any more") from error

    def write(self, path: str, data: bytes) -> None:
        """Put a small file there, whole or not at all."""
        with told(self.uri):
            if not self.local:
                self.filesystem.pipe_file(self._at(path), data)
                return
            self.filesystem.pipe_file(self._at(f"{path}.new"), data)
            Path(self._at(f"{path}.new")).replace(self._at(path))

    def upload(self, source: Path, path: str) -> None:
        """Put a file of this machine there."""
        with told(self.uri):
            self.filesystem.put_file(str(source), self._at(path))

    def remove(self, path: str) -> None:
        """Remove one file; it may be gone already."""
        with told(self.uri):
            try:
                self.filesystem.rm_file(self._at(path))
            except FileNotFoundError:
                return

    def remove_folder(self, path: str) -> int:
        """Remove everything below `path`; returns how many bytes that were."""
        files = self.files(path)
        with told(self.uri), suppress(FileNotFoundError):  # somebody else was faster
            self.filesystem.rm(self._at(path), recursive=True)
        return sum(file.bytes for file in files)

    def _listed(self, path: str) -> list[dict[str, Any]]:
        try:
            entries: list[dict[str, Any]] = self.filesystem.ls(self._at(path), detail=True)
        except FileNotFoundError:
            return []
        return entries

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turns the errors of a remote file system into those of a store."""
    try:
        with translated(uri):
            yield
    except OptimizerError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _FULL:
            raise from_os_error(cause, doing=f"writing to {uri}") from error
        if error.reason not in _TOLD:
            raise
        reason, sentence = _TOLD[error.reason]
        why = error.message if cause is None else f"{type(cause).__name__}: {cause}"
        raise OptimizerError(reason, sentence.format(uri=uri, cause=why)) from error


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _changed(entry: dict[str, Any]) -> datetime | None:
    found = next((entry[key] for key in _CHANGED if entry.get(key)), None)
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, tz=UTC)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found if isinstance(found, datetime) and found.tzinfo else None
