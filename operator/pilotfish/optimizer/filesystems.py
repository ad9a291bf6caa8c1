"""Files behind an fsspec file system: s3, gs, az and the hub. Knows no scheme and no credentials."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.remotes import CHUNK, ChangedSourceError, Listing, RemoteFile, safe_relative

_AHEAD = 16 * 1024 * 1024
"""Bytes that one request asks for."""
_NO_LOGIN = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError"),
        *("ClientAuthenticationError", "AzureSigningError"),
        *("RefreshError", "MalformedError"),
    }
)
_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class FsspecRemote:
    """A file or folder behind any fsspec file system (s3, gs, az, the hub); `pinned` when it cannot change."""

    uri: str
    filesystem: Any
    root: str
    pinned: bool = False

    def listing(self) -> Listing:
        """All objects below the uri."""
        with translated(self.uri):
            info = self._info()
            if info is not None and info["type"] == "file":
                return Listing(files=(self._file(PurePosixPath(self.root).name, info),), single=True)
            found = self.filesystem.find(self.root, detail=True)
        prefix = self.root.rstrip("/") + "/"
        files = tuple(
            self._file(path.removeprefix(prefix), entry)
            for path, entry in sorted(found.items())
            if entry["type"] == "file" and not path.endswith("/")
        )
        if not files:
            raise OptimizerError(
                Reason.SOURCE_NOT_FOUND, f"nothing at {self.uri}; check bucket and path in spec.model.uri"
            )
        return Listing(files=files, single=False)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The object's bytes."""
        single = PurePosixPath(self.root).name == file.path and self._is_file()
        path = self.root if single else f"{self.root.rstrip('/')}/{file.path}"
        how = {"block_size": _AHEAD, "cache_type": "readahead"}
        with translated(self.uri), self.filesystem.open(path, "rb", **how) as stream:
            stream.seek(offset)
            while block := stream.read(CHUNK):
                yield block
        if not self.pinned:
            with translated(self.uri):
                after = self._file(file.path, self.filesystem.info(path))
            if (after.size, after.version) != (file.size, file.version):
                raise ChangedSourceError

    def _info(self) -> Any:
        if self.uri.endswith("/"):
            return None
        try:
            return self.filesystem.info(self.root)
        except FileNotFoundError:
            return None

    def _is_file(self) -> bool:
        info = self._info()
        return info is not None and info["type"] == "file"

    def _file(self, path: str, info: Any) -> RemoteFile:
        # As gs, s3, az and the hub call what changes with the bytes.
        told = (info.get(key) for key in ("generation", "ETag", "etag", "blob_id", "LastModified", "last_modified"))
        version = next((str(value) for value in told if value), None)
        large = info.get("lfs") or {}
        return RemoteFile(
            path=safe_relative(path, uri=self.uri), size=info.get("size"), version=version, sha256=large.get("sha256")
        )


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turns the errors of a remote file system into ours."""
    try:
        yield
    except OptimizerError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise OptimizerError(Reason.SOURCE_NOT_FOUND, f"nothing at {uri}; check spec.model.uri") from error
        if _is_refusal(error):
            raise OptimizerError(
                Reason.SOURCE_FORBIDDEN,
                f"{uri} refuses access ({_sentence(error)}); check spec.model.credentials.secretName and its keys",
            ) from error
        raise OptimizerError(
            Reason.SOURCE_UNREACHABLE, f"cannot read {uri}: {type(error).__name__}: {_sentence(error)}"
        ) from error


def _sentence(error: Exception) -> str:
    """What a client says, without the request's number, time and XML that Azure puts below."""
    return next(iter(str(error).splitlines()), "").rstrip(".")


def _is_refusal(error: Exception) -> bool:
    """Whether a client's error means that somebody may not: each of them says it in its own way."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return (
        isinstance(error, PermissionError)
        or type(error).__name__ in _NO_LOGIN
        or status in _REFUSED
        or (type(error) is OSError and str(error).startswith("Forbidden"))
    )
