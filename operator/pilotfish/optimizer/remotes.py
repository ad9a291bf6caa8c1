"""The places a source can come from, behind one small interface: list files, read one from an offset.

Nothing here parses what it reads. Every failure is an OptimizerError that names the uri.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

CHUNK = 1024 * 1024
MAX_NAME = 255
"""Bytes of a file's name, the limit of what stores are made of."""
MAX_PATH = 1024
"""Bytes of a file's path below the model's folder."""
TIMEOUT = (10.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file: path relative to the source's root, size when known, a version that changes with the bytes.

    `sha256` is set where the place says it: what arrives is compared with it.
    """

    path: str
    size: int | None
    version: str | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What lies at a uri; `single` is true when the uri names one file."""

    files: tuple[RemoteFile, ...]
    single: bool


class Remote(Protocol):
    """Where files come from."""

    def listing(self) -> Listing:
        """All files at the uri."""

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The file's bytes from `offset` on; raises TruncatedReadError when fewer come than were promised."""


class TruncatedReadError(Exception):
    """The connection ended early; reading on from where it stopped may work."""


class RestartedReadError(Exception):
    """The server started again from byte 0 (no ranges, or the bytes changed)."""


class ChangedSourceError(Exception):
    """What was read is not (all of) what was listed: somebody wrote to the place meanwhile."""


def safe_relative(path: str, *, uri: str) -> str:
    """The path, checked to stay below the folder it is written to."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise OptimizerError(Reason.UNSAFE_MODEL, f"{uri} lists a file {path!r} that leaves its folder; remove it")
    try:
        longest = max((len(part.encode()) for part in pure.parts), default=0)
    except UnicodeEncodeError as error:  # bytes of a file system that are no text
        raise OptimizerError(
            Reason.UNSAFE_MODEL, f"{uri} lists a file named {path[:80]!r}, which is no UTF-8; rename it"
        ) from error
    if longest > MAX_NAME or len(path.encode()) > MAX_PATH:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            f"{uri} lists a file named {path[:80]!r}…, over {MAX_NAME} bytes or {MAX_PATH} with its folders; "
            "give it a shorter name",
        )
    return pure.as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRemote:
    """A file or folder on this machine; links are followed only inside `fence`."""

    root: Path
    fence: Path
    uri: str

    def listing(self) -> Listing:
        """All regular files."""
        if not self.root.exists():
            raise OptimizerError(Reason.SOURCE_NOT_FOUND, f"nothing at {self.uri}; check the path in spec.model.uri")
        if self.root.is_file():
            return Listing(files=(self._file(self.root, self.root.name),), single=True)
        found = [p for p in sorted(self.root.rglob("*")) if not p.is_dir() or p.is_symlink()]
        files = tuple(self._file(p, p.relative_to(self.root).as_posix()) for p in found)
        return Listing(files=files, single=False)

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The file's bytes."""
        path = self.root if self.root.is_file() else self.root / file.path
        with path.open("rb") as stream:
            # What was opened, not what lay there a moment ago: somebody else may write to the claim.
            if not os.path.samestat(os.fstat(stream.fileno()), self._real(path, file.path).stat()):
                raise ChangedSourceError(file.path)
            stream.seek(offset)
            while block := stream.read(CHUNK):
                yield block

    def _real(self, path: Path, name: str) -> Path:
        """Where the file is; raises UnsafeModel when that is outside."""
        real = _resolved(path, name, self.uri)
        if not real.is_relative_to(self.fence.resolve()):
            raise OptimizerError(
                Reason.UNSAFE_MODEL,
                f"{name} in {self.uri} links to a place outside; copy the file itself into the folder",
            )
        return real

    def _file(self, path: Path, name: str) -> RemoteFile:
        real = self._real(path, name)
        if not real.is_file():
            raise OptimizerError(Reason.UNSAFE_MODEL, f"{name} in {self.uri} is not a regular file; remove it")
        stat = real.stat()
        return RemoteFile(
            path=safe_relative(name, uri=self.uri), size=stat.st_size, version=f"{stat.st_size}-{stat.st_mtime_ns}"
        )


def _resolved(path: Path, name: str, uri: str) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:  # Python 3.11 raises the first for a link that leads to itself
        raise OptimizerError(Reason.UNSAFE_MODEL, f"{name} in {uri} is a link that leads nowhere; remove it") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRemote:
    """One file behind http(s), read with Range so that a broken download goes on where it stopped."""

    uri: str
    session: Any

    def listing(self) -> Listing:
        """The one file; its size when the server says it."""
        name = PurePosixPath(unquote(urlsplit(self.uri).path)).name
        if not name or self.uri.endswith("/"):
            raise OptimizerError(
                Reason.SOURCE_UNSUPPORTED, f"{self.uri} is a folder, and http has none; serve one file, .zip or .tar.gz"
            )
        with self._get({"Range": "bytes=0-0", "Accept-Encoding": "identity"}) as reply:
            ranged = re.fullmatch(r"bytes 0-0/(\d+)", reply.headers.get("Content-Range", ""))
            size = ranged.group(1) if ranged else reply.headers.get("Content-Length")
            version = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        size_known = int(size) if size is not None else None
        return Listing(
            files=(RemoteFile(path=safe_relative(name, uri=self.uri), size=size_known, version=version),), single=True
        )

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on; RestartedReadError when the server does not honour the range."""
        headers = range_headers(offset)
        if offset and file.version and not file.version.startswith("W/"):
            headers["If-Range"] = file.version
        with self._get(headers) as reply:
            yield from blocks(reply, offset)

    def _get(self, headers: dict[str, str]) -> Any:
        import requests

        try:
            reply = self.session.get(self.uri, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise OptimizerError(
                Reason.SOURCE_UNREACHABLE, f"cannot reach {self.uri} ({type(error).__name__}); check host and network"
            ) from error
        check_status(reply.status_code, uri=self.uri)
        return reply


def range_headers(offset: int) -> dict[str, str]:
    """What asks a server for the bytes from `offset` on, as they lie there."""
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})


def blocks(reply: Any, offset: int) -> Iterator[bytes]:
    """The body of an answer to `range_headers`; raises RestartedReadError, TruncatedReadError."""
    import requests
    import urllib3

    if offset and reply.status_code != requests.codes.partial_content:
        raise RestartedReadError
    try:
        while block := reply.raw.read1(CHUNK):  # what has arrived, so that nothing is lost when it breaks off
            yield block
    except urllib3.exceptions.HTTPError as error:
        raise TruncatedReadError(str(error)) from error


def check_status(status: int, *, uri: str) -> None:
    """Raise the OptimizerError that an HTTP status means; nothing for 200 and 206."""
    if status in {200, 206}:
        return
    if status in {404, 410}:
        raise OptimizerError(Reason.SOURCE_NOT_FOUND, f"nothing at {uri} (HTTP {status}); check spec.model.uri")
    if status in {401, 403}:
        raise OptimizerError(
            Reason.SOURCE_FORBIDDEN, f"{uri} refuses access (HTTP {status}); check spec.model.credentials.secretName"
        )
    raise OptimizerError(Reason.SOURCE_UNREACHABLE, f"{uri} answers HTTP {status}; try again when the server is well")
