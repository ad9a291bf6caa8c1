"""What the API server said about one kind of object while a test ran: every change in its order, none in between lost."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.kubectl import Kubectl, wait_for

from pilotfish.core.objects import condition_is_true, is_deleting


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`kind` is ADDED, MODIFIED or DELETED; `body` the object from then on."""

    kind: str
    body: dict[str, Any]

    @property
    def version(self) -> int:
        """The cluster's count of changes at this one: of any two changes, of whatever objects, the later has more."""
        return int(self.body["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Watch:
    """A file that grows while kubectl watches."""

    path: Path

    def changes(self) -> tuple[Change, ...]:
        """All so far."""
        text, decoder, found, at = self.path.read_text(), json.JSONDecoder(), [], 0
        while at < len(text):
            try:
                event, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                break  # the last one is being written
            found.append(Change(kind=event["type"], body=event["object"]))
            at += len(text[at:]) - len(text[at:].lstrip())
        return tuple(found)


@contextmanager
def watching(kubectl: Kubectl, kind: str, *, namespace: str, selector: str = "", folder: Path) -> Iterator[Watch]:
    """Watch until the block ends; there must be an object when it begins."""
    watch = Watch(folder / f"{kind}.json")
    arguments = ("get", kind, "-n", namespace, "-l", selector, "--watch", "--output-watch-events", "-o", "json")
    with watch.path.open("wb") as file, subprocess.Popen(kubectl.command(*arguments), stdout=file) as process:
        try:
            wait_for(f"the first of {kind}", lambda: watch.changes() or None, seconds=30)
            yield watch
        finally:
            process.terminate()


def least_ready(changes: tuple[Change, ...], *, present: int) -> int:
    """The fewest pods that were ready and meant to stay at any time; the first `present` changes are what was found."""
    ready: dict[str, bool] = {}
    counts = []
    for change in changes:
        goes = change.kind == "DELETED" or is_deleting(change.body)
        ready[change.body["metadata"]["name"]] = not goes and condition_is_true(change.body, "Ready")
        counts.append(sum(ready.values()))
    return min(counts[present - 1 :])
