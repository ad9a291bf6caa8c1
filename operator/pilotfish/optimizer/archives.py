"""Unpack a zip or tar that holds a model folder, without trusting a name, a link or a size in it."""

import errno
import lzma
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.progress import size_text
from pilotfish.optimizer.remotes import MAX_NAME, MAX_PATH
from pilotfish.optimizer.tars import BROKEN, HugeHeaderError, members, open_tar

MAX_RATIO = 200
"""Uncompressed over compressed bytes; weights hardly compress, a bomb does nothing else."""
MAX_BYTES = 64 * 1024**3
MAX_FILES = 4096
_BLOCK = 1024 * 1024
_TYPE_MASK, _LINK = 0o170000, 0o120000
_BROKEN_ZIP = (
    zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip
"""What reading a damaged zip raises: the standard library believes offsets and versions."""


def check_zip(path: Path, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Names in the zip after checking names, links, counts and sizes; raises UnsafeModel or SourceTruncated."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except _BROKEN_ZIP as error:
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED, f"{path.name} starts as a zip but cannot be read ({error}); upload it again"
        ) from error
    for info in infos:
        if (info.external_attr >> 16) & _TYPE_MASK == _LINK:
            raise _unsafe(path, f"holds the link {info.filename!r}", "pack real files")
        _check_name(path, info.filename)
    names = [info.filename for info in infos]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise _unsafe(path, f"holds {twice!r} twice, which readers understand differently", "pack it again")
    _check_totals(path, count=len(infos), size=sum(i.file_size for i in infos), max_bytes=max_bytes)
    return [info.filename for info in infos if not info.is_dir()]


def unpack(path: Path, target: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack into `target` and return the folder that holds the model (the single top folder, if there is one)."""
    target.mkdir(parents=True, exist_ok=True)
    if zipfile.is_zipfile(path):
        check_zip(path, max_bytes=max_bytes)
        _unpack_zip(path, target, max_bytes)
    else:
        _unpack_tar(path, target, max_bytes)
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target


def _unpack_zip(path: Path, target: Path, max_bytes: int) -> None:
    written = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            out = _place(path, target, info.filename)
            try:
                with archive.open(info) as reader, out.open("wb") as writer:
                    while block := reader.read(_BLOCK):
                        written += len(block)
                        _check_totals(path, count=0, size=written, max_bytes=max_bytes)
                        writer.write(block)
            except _BROKEN_ZIP as error:
                raise OptimizerError(
                    Reason.SOURCE_TRUNCATED, f"{info.filename} in {path.name} is damaged ({error}); upload it again"
                ) from error


def _unpack_tar(path: Path, target: Path, max_bytes: int) -> None:
    written = count = 0
    try:
        with open_tar(path) as archive:
            for member in members(archive):
                count += 1
                _check_totals(path, count=count, size=written, max_bytes=max_bytes)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise _unsafe(path, f"holds {member.name!r}, a link or a special file", "pack real files")
                _check_name(path, member.name)
                written += member.size
                _check_totals(path, count=count, size=written, max_bytes=max_bytes)
                out = _place(path, target, member.name)
                reader = archive.extractfile(member)
                with out.open("wb") as writer:
                    while reader is not None and (block := reader.read(_BLOCK)):
                        writer.write(block)
    except HugeHeaderError as error:
        raise _unsafe(path, f"declares {error}, which no name needs", "pack it again with plain names") from error
    except BROKEN as error:
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED, f"{path.name} starts as a tar but cannot be read ({error}); upload it again"
        ) from error


def _place(path: Path, target: Path, name: str) -> Path:
    """Where a member is written, its folder made."""
    out = target / name
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTDIR}:
            raise
        raise _clash(path, name) from error
    if out.is_dir():
        raise _clash(path, name)
    return out


def _clash(path: Path, name: str) -> OptimizerError:
    return _unsafe(path, f"holds {name!r} at the place of another of its members", "pack it again")


def _check_name(path: Path, name: str) -> None:
    if (wrong := wrong_name(name)) is not None:
        raise _unsafe(path, f"holds {wrong}", "pack it again with plain names")


def wrong_name(name: str) -> str | None:
    """What is wrong with a member's path, as the end of a sentence; None when it may be written below a folder."""
    pure = PurePosixPath(name)
    try:
        longest = max((len(part.encode()) for part in pure.parts), default=0)
    except UnicodeEncodeError:  # a tar's bytes that are no UTF-8 come as halves of characters
        return f"a file named {name[:80]!r}, which is no UTF-8"
    if longest > MAX_NAME or len(name.encode()) > MAX_PATH:
        return f"a file named {name[:80]!r}…, over {MAX_NAME} bytes or {MAX_PATH} with its folders"
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not name:
        return f"a file named {name!r} that would be written outside"
    return None


def _check_totals(path: Path, *, count: int, size: int, max_bytes: int) -> None:
    if count > MAX_FILES:
        raise _unsafe(path, f"holds {count} files, more than {MAX_FILES}", "pack the model alone")
    if size > max_bytes or size > max(path.stat().st_size * MAX_RATIO, 64 * 1024**2):
        raise _unsafe(
            path, f"({size_text(path.stat().st_size)}) would unpack to {size_text(size)} or more", "pack it plainly"
        )


def _unsafe(path: Path, what: str, remedy: str) -> OptimizerError:
    return OptimizerError(Reason.UNSAFE_MODEL, f"{path.name} {what}; {remedy}")
