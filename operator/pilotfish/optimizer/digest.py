"""Digests of files and folders.

A file's digest is the sha256 of its bytes, what `sha256sum` prints. A folder's is the sha256 over one line per file,
sorted by path: path, NUL, size, NUL, hex sha256, newline. Only regular files; a link in a folder is an error.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pilotfish.api.report import FileRecord, OptimizerReason
from pilotfish.optimizer.errors import OptimizerError

BLOCK = 4 * 1024 * 1024


def hash_file(path: Path) -> FileRecord:
    """Record of one file, `path` being its name alone."""
    sha, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            sha.update(block)
            size += len(block)
    return FileRecord(path=path.name, bytes=size, sha256=sha.hexdigest())


def list_files(root: Path) -> list[Path]:
    """Regular files under `root`, sorted by their path relative to it; raises UnsafeModel on links and devices."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = Path(folder) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise OptimizerError(
                    OptimizerReason.UNSAFE_MODEL,
                    f"{path.relative_to(root)} is a link or a special file; put the file itself into the folder",
                )
        found += [Path(folder) / name for name in names]
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


def hash_folder(root: Path) -> tuple[FileRecord, ...]:
    """Records of all files under `root`, paths relative to it."""
    return tuple(
        hash_file(path).model_copy(update={"path": path.relative_to(root).as_posix()}) for path in list_files(root)
    )


def folder_digest(files: Iterable[FileRecord]) -> str:
    """The folder rule over records, in any order."""
    sha = hashlib.sha256()
    for record in sorted(files, key=lambda f: f.path):
        sha.update(f"{record.path}\0{record.bytes}\0{record.sha256}\n".encode())
    return f"sha256:{sha.hexdigest()}"


def digest_of(files: tuple[FileRecord, ...], *, single: bool) -> str:
    """The digest of a source: the file's own when it is a single file, else the folder's."""
    return f"sha256:{files[0].sha256}" if single else folder_digest(files)


def total_bytes(files: Iterable[FileRecord]) -> int:
    """Sum of sizes."""
    return sum(record.bytes for record in files)


def copy_hashed(source: Path, target: Path) -> FileRecord:
    """Copy one file and hash exactly the bytes that were written."""
    with source.open("rb") as reader:
        return write_hashed(iter(lambda: reader.read(BLOCK), b""), target)


def write_hashed(blocks: Iterable[bytes], target: Path) -> FileRecord:
    """Write a file and hash exactly the bytes that are written."""
    sha, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as writer:
        for block in blocks:
            writer.write(block)
            sha.update(block)
            size += len(block)
    return FileRecord(path=target.name, bytes=size, sha256=sha.hexdigest())
