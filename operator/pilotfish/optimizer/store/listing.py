"""What lies in a store, for people: every artifact with its figures and who refers to it. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish.api.conditions import timestamp
from pilotfish.api.report import ArtifactRecord, Manifest
from pilotfish.optimizer.package import MANIFEST
from pilotfish.optimizer.store.artifacts import find_paths, read_manifest
from pilotfish.optimizer.store.references import read_all
from pilotfish.optimizer.store.shelf import Shelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One artifact; `bytes` is all that lies there. What is half made has no manifest."""

    path: str
    bytes: int
    changed: datetime | None
    used_by: tuple[str, ...]
    manifest: Manifest | None

    @property
    def record(self) -> ArtifactRecord | None:
        """What the artifact says of itself."""
        return self.manifest.artifact if self.manifest else None

    def to_wire(self) -> dict[str, Any]:
        """camelCase, without what is not known."""
        wire = {
            "path": self.path,
            "state": "Whole" if self.manifest else "Half",
            "variant": self.record.variant if self.record else None,
            "bytes": self.bytes,
            "changed": timestamp(self.changed) if self.changed else None,
            "artifactDigest": self.record.digest if self.record else None,
            "sourceDigest": self.manifest.source.digest if self.manifest else None,
            "usedBy": list(self.used_by),
        }
        return {key: value for key, value in wire.items() if value is not None}


def list_artifacts(shelf: Shelf) -> tuple[Row, ...]:
    """All artifacts, newest first. Raises OptimizerError like the shelf, and for references that cannot be read."""
    references = read_all(shelf).values()
    rows = []
    for path, files in find_paths(shelf).items():
        times = [file.changed for file in files if file.changed]
        whole = any(file.path == f"{path}/{MANIFEST}" for file in files)
        rows.append(
            Row(
                path=path,
                bytes=sum(file.bytes for file in files),
                changed=max(times, default=None),
                used_by=tuple(sorted(one.owner for one in references if path in one.paths)),
                manifest=read_manifest(shelf, path) if whole else None,
            )
        )
    return tuple(
        sorted(rows, key=lambda row: (row.changed.timestamp() if row.changed else 0.0, row.path), reverse=True)
    )
