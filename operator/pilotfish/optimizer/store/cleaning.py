"""What may go: artifacts that nobody refers to, and sources that no artifact was made of. Removes nothing else.

Names and ages decide; nothing here opens what it removes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pilotfish.optimizer.package import MANIFEST
from pilotfish.optimizer.store.artifacts import ARTIFACTS, find_paths, read_manifest, take_away
from pilotfish.optimizer.store.references import (
    GRACE,
    Owner,
    Reference,
    is_artifact_path,
    read_all,
    read_references,
    write_references,
)
from pilotfish.optimizer.store.shelf import Shelf, Stored

SOURCES = "sources"
WORK = "work"
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One thing that goes, with its size in bytes and why."""

    path: str
    bytes: int
    why: str


def settle(shelf: Shelf, owner: Owner, path: str, *, keep: Collection[str] | None, now: datetime) -> tuple[str, ...]:
    """Write down what the owner uses from now on: `keep` and `path`. Returns the artifacts that it let go.

    `keep` is None when nobody knows: then everything that was written before stays, but for half-made ones of the same
    recipe as `path`.
    """
    before = read_references(shelf, owner)
    wanted = {path, *(one for one in keep or () if is_artifact_path(one))}
    kept = [reference for reference in before.artifacts if reference.path in wanted]
    kept += [Reference(path=one, since=now) for one in sorted(wanted - before.paths)]
    let_go = []
    for reference in before.artifacts:
        if reference.path in wanted:
            continue
        is_half = _key(reference.path) == _key(path) and shelf.read(f"{reference.path}/{MANIFEST}") is None
        if is_half or (keep is not None and now - reference.since >= GRACE):
            let_go.append(reference.path)
        else:
            kept.append(reference)
    write_references(shelf, owner, kept)
    return tuple(let_go)


def remove_released(shelf: Shelf, paths: Collection[str]) -> tuple[Removal, ...]:
    """Remove those of the artifacts that nobody else refers to."""
    removed = []
    for path in paths:
        size = take_away(shelf, path, in_use=lambda one: one in _in_use(shelf))
        if size is not None:
            removed.append(Removal(path=path, bytes=size, why="its ModelDeployment let it go"))
    return tuple(removed)


def find_unused(
    shelf: Shelf,
    *,
    older_than: timedelta,
    now: datetime,
    using: Collection[str] = (),
    gone: Collection[str] = (),
) -> tuple[Removal, ...]:
    """What could go from the whole store: artifacts, halves and, in a claim, sources and work that nobody refers to.

    `using` are digests of sources and names of folders in `work/` that are in use though no artifact says so, `gone`
    are files of references that do not count any more.
    """
    used = _in_use(shelf, gone)
    found = []
    for path, files in find_paths(shelf).items():
        if path not in used and _is_older(files, older_than, now):
            whole = any(file.path == f"{path}/{MANIFEST}" for file in files)
            why = "nobody refers to it" if whole else "a half-made one, and nobody refers to it"
            found.append(Removal(path=path, bytes=_bytes(files), why=why))
    for name in shelf.folders(ARTIFACTS):
        files = shelf.files(f"{ARTIFACTS}/{name}") if name.startswith(".") else ()
        if _is_older(files, older_than, now):
            found.append(Removal(path=f"{ARTIFACTS}/{name}", bytes=_bytes(files), why="half written and left"))
    return (*found, *_unused_sources(shelf, used, older_than=older_than, now=now, using=using))


def _unused_sources(
    shelf: Shelf, artifacts: Collection[str], *, older_than: timedelta, now: datetime, using: Collection[str]
) -> list[Removal]:
    used = {digest.removeprefix("sha256:") for digest in using}
    for path in artifacts:
        manifest = read_manifest(shelf, path)
        used |= {manifest.source.digest.removeprefix("sha256:")} if manifest else set()
    found = []
    for folder, why in ((SOURCES, "no artifact in use was made of it"), (WORK, "left behind by a run that is over")):
        for name in shelf.folders(folder):
            files = shelf.files(f"{folder}/{name}")
            if name not in used and _is_older(files, older_than, now):
                half = folder == SOURCES and len(name) != _DIGEST_LENGTH
                told = "fetched by half and left" if half else why
                found.append(Removal(path=f"{folder}/{name}", bytes=_bytes(files), why=told))
    return found


def remove(shelf: Shelf, removals: Collection[Removal]) -> tuple[Removal, ...]:
    """Remove what was found; what came into use meanwhile stays."""
    done = []
    for removal in removals:
        if removal.path.startswith(f"{ARTIFACTS}/"):
            if take_away(shelf, removal.path, in_use=lambda one: one in _in_use(shelf)) is not None:
                done.append(removal)
        else:
            shelf.remove_folder(removal.path)
            done.append(removal)
    return tuple(done)


def _in_use(shelf: Shelf, gone: Collection[str] = ()) -> frozenset[str]:
    return frozenset().union(*(told.paths for file, told in read_all(shelf).items() if file not in gone))


def _is_older(files: tuple[Stored, ...], than: timedelta, now: datetime) -> bool:
    """Whether there is something and nothing was written lately; no time told counts as just now."""
    return bool(files) and all(file.changed is not None and now - file.changed >= than for file in files)


def _bytes(files: tuple[Stored, ...]) -> int:
    return sum(file.bytes for file in files)


def _key(path: str) -> str:
    return path.split("/")[1]
