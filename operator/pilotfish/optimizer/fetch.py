"""Bring a source into the store: stream, resume, count, hash, compare, rename. Never opens what it brings.

Partial files lie under `sources/.partial-<hash of uri>` with a note of the version they belong to; a second run goes on
where the first one stopped, and starts over when the bytes behind the uri have changed.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pilotfish.api.report import FileRecord, SourceRecord
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import digest_of, hash_folder, total_bytes
from pilotfish.optimizer.errors import OptimizerError, from_os_error
from pilotfish.optimizer.looks import remember, uri_hash
from pilotfish.optimizer.progress import Progress, size_text
from pilotfish.optimizer.remotes import (
    ChangedSourceError,
    Listing,
    Remote,
    RemoteFile,
    RestartedReadError,
    TruncatedReadError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a source may be at most."""

    max_bytes: int = 64 * 1024**3
    max_files: int = 4096
    attempts: int = 5
    backoff: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A source in the store: `path` is its folder, `entry` the file itself when the uri named a single one."""

    record: SourceRecord
    path: Path
    entry: Path


def find_fetched(store: Path, digest: str) -> Fetched | None:
    """The source with this digest if the store has it already, its bytes checked again."""
    folder = store / "sources" / digest.removeprefix("sha256:")
    if not folder.is_dir():
        return None
    files = hash_folder(folder)
    single = len(files) == 1 and digest_of(files, single=True) == digest
    if not single and digest_of(files, single=False) != digest:
        shutil.rmtree(folder)
        return None
    return _fetched(folder, files, digest=digest, single=single)


def fetch(
    connect: Callable[[], Remote],
    *,
    uri: str,
    store: Path,
    digest: str | None,
    limits: Limits,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
    scratch: str = "partial",
) -> Fetched:
    """Copy everything at `uri` to `store/sources/<digest>` and say what it is.

    `connect` is called only when the store does not have the pinned digest yet. `scratch` names the folder of what is
    not complete yet: two that may run at once need two.

    Raises:
        OptimizerError: SourceNotFound, SourceForbidden, SourceUnreachable, SourceTooLarge, SourceTruncated,
            SourceDigestMismatch, UnsafeModel (names or links that leave the folder), StoreFull.
    """
    if digest is not None and (known := find_fetched(store, digest)) is not None:
        return known
    remote = connect()
    listing = remote.listing()
    _check_limits(listing, uri=uri, limits=limits)
    partial = store / "sources" / f".{scratch}-{uri_hash(uri)}"
    try:
        _prepare(partial, listing)
        total = sum(f.size or 0 for f in listing.files)
        _Download(remote, uri, partial, limits=limits, progress=progress, sleep=sleep, total=total).run(listing)
        files = hash_folder(partial / "files")
        _check_told(files, listing, uri=uri, partial=partial)
        found = digest_of(files, single=listing.single)
        if digest is not None and found != digest:
            shutil.rmtree(partial)
            raise OptimizerError(
                Reason.SOURCE_DIGEST_MISMATCH,
                f"{uri} has {found} but spec.model.digest says {digest}; correct the bytes or the digest",
            )
        target = store / "sources" / found.removeprefix("sha256:")
        # Sound bytes stay where they are, under the name they came with: somebody may be reading them.
        fetched = find_fetched(store, found)
        if fetched is None:
            (partial / "files").rename(target)
            fetched = _fetched(target, files, digest=found, single=listing.single)
        shutil.rmtree(partial)
        remember(store, uri, listing, fetched.record)
    except ChangedSourceError as error:
        shutil.rmtree(partial)
        raise OptimizerError(
            Reason.SOURCE_UNREACHABLE, f"{uri} changed while it was read; a retry takes what lies there then"
        ) from error
    except OSError as error:
        raise from_os_error(error, doing=f"writing {uri} to the store") from error
    return fetched


def _fetched(folder: Path, files: tuple[FileRecord, ...], *, digest: str, single: bool) -> Fetched:
    entry = folder / files[0].path if single else folder
    return Fetched(record=SourceRecord(digest=digest, bytes=total_bytes(files)), path=folder, entry=entry)


def _check_limits(listing: Listing, *, uri: str, limits: Limits) -> None:
    if len(listing.files) > limits.max_files:
        raise OptimizerError(
            Reason.SOURCE_TOO_LARGE,
            f"{uri} holds {len(listing.files)} files, more than {limits.max_files}; point at the model's own folder",
        )
    if not listing.files:
        raise OptimizerError(Reason.SOURCE_NOT_FOUND, f"{uri} is an empty folder; check spec.model.uri")
    paths = {file.path for file in listing.files}
    if both := next((p for f in paths for p in map(str, PurePosixPath(f).parents) if p in paths), None):
        raise OptimizerError(
            Reason.SOURCE_UNSUPPORTED, f"{uri} has {both!r} as a file and as a folder; rename one of them"
        )
    _check_size(sum(f.size or 0 for f in listing.files), uri=uri, limits=limits)


def _check_size(size: int, *, uri: str, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise OptimizerError(
            Reason.SOURCE_TOO_LARGE,
            f"{uri} holds more than {size_text(limits.max_bytes)}, the limit; point at a smaller file or folder",
        )


def _check_told(files: tuple[FileRecord, ...], listing: Listing, *, uri: str, partial: Path) -> None:
    """What arrived is what the place says it has."""
    told = {file.path: file.sha256 for file in listing.files}
    for record in files:
        if (expected := told.get(record.path)) is not None and expected != record.sha256:
            shutil.rmtree(partial)
            raise OptimizerError(
                Reason.SOURCE_DIGEST_MISMATCH,
                f"{record.path} of {uri} has sha256:{record.sha256} but is listed with {expected}; upload it again",
            )


def _prepare(partial: Path, listing: Listing) -> None:
    """Keep what an earlier run left only if it is of the same bytes."""
    plan = json.dumps([[f.path, f.size, f.version] for f in listing.files])
    note = partial / "plan.json"
    if partial.exists() and (
        not note.exists() or note.read_text() != plan or not all(f.version for f in listing.files)
    ):
        shutil.rmtree(partial)
    (partial / "files").mkdir(parents=True, exist_ok=True)
    note.write_text(plan)


class _Download:
    """One download in progress."""

    def __init__(
        self,
        remote: Remote,
        uri: str,
        partial: Path,
        *,
        limits: Limits,
        progress: Progress,
        sleep: Callable[[float], None],
        total: int,
    ) -> None:
        self._remote, self._uri, self._folder = remote, uri, partial / "files"
        self._limits, self._progress, self._sleep, self._total = limits, progress, sleep, total
        self._received = 0
        self._unreachable: OptimizerError | None = None

    def run(self, listing: Listing) -> None:
        for file in listing.files:
            self._file(file)

    def _file(self, file: RemoteFile) -> None:
        target = self._folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        self._received += target.stat().st_size
        for attempt in range(self._limits.attempts):
            if attempt:
                self._sleep(self._limits.backoff * 2 ** (attempt - 1))
            if self._try(file, target):
                return
        if self._unreachable is not None:
            raise self._unreachable
        have = target.stat().st_size
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED,
            f"{self._uri} broke off after {have} of {file.size} bytes of {file.path}, {self._limits.attempts} times; "
            "check the server and the upload",
        )

    def _try(self, file: RemoteFile, target: Path) -> bool:
        """One attempt; true when the file is complete."""
        self._unreachable = None
        offset = target.stat().st_size
        if file.size is not None and offset > file.size:
            self._restart(target)
            offset = 0
        if file.size is not None and offset == file.size:
            return True
        try:
            with target.open("ab") as out:
                for block in self._remote.read(file, offset):
                    out.write(block)
                    self._count(len(block), file)
        except RestartedReadError:
            self._restart(target)
            return False
        except TruncatedReadError:
            return False
        except OptimizerError as error:
            if error.reason is not Reason.SOURCE_UNREACHABLE:
                raise
            self._unreachable = error
            return False
        return file.size is None or target.stat().st_size == file.size

    def _restart(self, target: Path) -> None:
        self._received -= target.stat().st_size
        target.write_bytes(b"")

    def _count(self, size: int, file: RemoteFile) -> None:
        self._received += size
        _check_size(self._received, uri=self._uri, limits=self._limits)
        of = f" of {size_text(self._total)}" if self._total else ""
        self._progress.step(
            self._received / self._total if self._total else 0, f"{size_text(self._received)}{of}, {file.path}"
        )
