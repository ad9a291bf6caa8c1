"""What a long stage has done so far, kept in the store so that a Job that is ended in the middle goes on from there.

Entries are files under `work/<recipeKey>/`, keyed by stage and by a digest of everything the stage starts from: other
input never finds them. Written beside, synced, hashed and renamed: a reader sees a whole entry or none. What is in a
file is the stage's own business.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORK = "work"
_PARTIAL = ".partial-"
_BLOCK = 1 << 20


def input_digest(**parts: Any) -> str:
    """16 hexadecimal digits over what a stage starts from; values are whatever JSON can say."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One entry: how far the stage was (`step` counts from 1), and the file that says it."""

    step: int
    path: Path


class Checkpoints:
    """The entries of one recipe. Stage names are letters, digits and dots."""

    def __init__(self, store: Path, recipe_key: str) -> None:
        self._folder = store / WORK / recipe_key

    def find(self, stage: str, digest: str) -> Checkpoint | None:
        """The furthest sound entry of the stage from that input; damaged ones are removed."""
        for path in sorted(self._folder.glob(f"{stage}-{digest}-*"), reverse=True):
            *_, step, content = path.name.split("-")
            if _content_hash(path) == content:
                return Checkpoint(int(step), path)
            path.unlink(missing_ok=True)
        return None

    def save(self, stage: str, digest: str, *, step: int, write: Callable[[Path], None]) -> Checkpoint:
        """Keep what `write` writes to the path it is given; entries of the stage's earlier steps or inputs go.

        Raises:
            OSError: the store is full or gone; the entry before stays.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{_PARTIAL}{stage}"
        write(partial)
        _sync(partial)
        entry = self._folder / f"{stage}-{digest}-{step:06d}-{_content_hash(partial)}"
        partial.replace(entry)
        _sync(self._folder)
        for other in self._folder.glob(f"{stage}-*"):
            if other != entry:
                other.unlink(missing_ok=True)
        return Checkpoint(step, entry)

    def discard(self) -> None:
        """Remove all entries: the artifact is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _content_hash(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
    return sha.hexdigest()[:16]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
