"""Read a tar from a stranger: nothing it declares makes this process read, remember or count more than it should."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

MOST_AT_ONCE = 2 * 1024**2
"""Bytes. A member's data is read in smaller blocks; a header this long holds no name."""
BROKEN = (
    tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, ValueError, OverflowError,
)  # fmt: skip
"""What reading a damaged tar raises: the standard library parses some of its fields without care."""
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


class HugeHeaderError(tarfile.TarError):
    """A header declares more bytes than a header has."""


class _Guarded:
    """A stream that no header can have read into memory as a whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        if not 0 <= size <= MOST_AT_ONCE:
            raise HugeHeaderError(f"a header of {size} bytes")
        return self._stream.read(size)


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """The tar, packed with gzip, bzip2, xz or not at all. Raises one of BROKEN."""
    with path.open("rb") as raw:
        head = raw.read(6)
    opener = next((found for magic, found in _OPENERS if head.startswith(magic)), None)
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb") if opener is None else opener(path, "rb"))
        guarded = cast("IO[bytes]", _Guarded(stream))
        yield stack.enter_context(tarfile.open(fileobj=guarded, mode="r:"))


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member, forgotten as soon as the next one is asked for: millions of them need no memory."""
    for member in archive:
        yield member
        vars(archive)["members"].clear()
