"""A source that was checked stays what it was: from before it is opened until its artifact is written.

Others may write to the claim that it lies in. Every file and folder is compared by what a writer cannot set back: its
inode, size and times of change. A model that was swapped, even for a moment, never becomes an artifact.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import digest_of, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Fetched

_Mark = tuple[str, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seal:
    """What a source looked like when its digest was the right one."""

    source: Fetched
    marks: tuple[_Mark, ...]

    def check(self) -> None:
        """Raises SourceDigestMismatch when anything of the source has been touched since."""
        if _marks(self.source.path) != self.marks:
            raise _changed(self.source)


def seal(source: Fetched) -> Seal:
    """Hash the source once more, where it lies. Raises SourceDigestMismatch when it is not what was fetched."""
    marks = _marks(source.path)
    files = hash_folder(source.path)
    if digest_of(files, single=source.entry != source.path) != source.record.digest:
        raise _changed(source)
    return Seal(source, marks)


def _marks(folder: Path) -> tuple[_Mark, ...]:
    """Sorted; the folder itself is one of them."""
    paths = [folder, *(Path(top) / name for top, folders, names in os.walk(folder) for name in (*folders, *names))]
    return tuple(sorted(_mark(path, folder) for path in paths))


def _mark(path: Path, folder: Path) -> _Mark:
    now = path.lstat()
    times = (now.st_mtime_ns, now.st_ctime_ns)
    return (path.relative_to(folder).as_posix(), now.st_mode, now.st_dev, now.st_ino, now.st_size, *times)


def _changed(source: Fetched) -> OptimizerError:
    return OptimizerError(
        Reason.SOURCE_DIGEST_MISMATCH,
        f"the store's copy of {source.entry.name} is not what was fetched ({source.record.digest}): somebody else "
        "writes to the claim; see who may, then start again",
    )
