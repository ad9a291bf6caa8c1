"""Artifacts on a shelf: find one that is whole, put one there, take one away. Opens no model.

In a bucket an artifact lies at `artifacts/<key>/<build>/`. Every try to make one has a folder of its own, so two that
run at once never mix; `manifest.json` is written last, and a folder without it is no artifact. In a claim, which one
ModelDeployment has for itself, it lies at `artifacts/<recipe>/`.
"""

import hashlib
import json
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pilotfish.api.report import FileRecord, Manifest
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import folder_digest, hash_file, hash_folder, list_files
from pilotfish.optimizer.encryption import encrypt_file
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.package import GOLDEN, MANIFEST, REPORT, REPOSITORY
from pilotfish.optimizer.store.shelf import Shelf, Stored

ARTIFACTS = "artifacts"
BUILD_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A whole artifact: its folder on the shelf and what it says of itself."""

    path: str
    manifest: Manifest


def new_path(key: str) -> str:
    """A folder that nobody else writes to."""
    return f"{ARTIFACTS}/{key}/{secrets.token_hex(BUILD_LENGTH // 2)}"


def find_artifact(shelf: Shelf, key: str, *, refer: Callable[[str], None], recipient: str | None = None) -> Kept | None:
    """A whole artifact with this key, all its bytes hashed again; None when there is none.

    One that is not encrypted for the `recipient` is none: who asks for encryption gets nothing else.

    `refer` is called with its path before it is looked at: see references.py. What is damaged is passed over, and left
    to those who refer to it.
    """
    for build in shelf.folders(f"{ARTIFACTS}/{key}"):
        path = f"{ARTIFACTS}/{key}/{build}"
        if shelf.read(f"{path}/{MANIFEST}") is None:
            continue
        refer(path)
        manifest = read_manifest(shelf, path)
        wanted = manifest is not None and manifest.artifact.encrypted_for == recipient
        if manifest is not None and wanted and _is_intact(shelf, path, manifest):
            return Kept(path=path, manifest=manifest)
    return None


def read_manifest(shelf: Shelf, path: str) -> Manifest | None:
    """What an artifact says of itself; None where there is no manifest that this version reads."""
    data = shelf.read(f"{path}/{MANIFEST}")
    try:
        return None if data is None else Manifest.model_validate_json(data)
    except ValidationError:
        return None


def publish(shelf: Shelf, folder: Path, path: str, *, recipient: str | None = None) -> Kept:
    """Copy the finished artifact in `folder` to the shelf, the manifest last; its record then says `path`.

    With a `recipient` every file but the manifest and the report is encrypted on the way.

    Raises:
        OptimizerError: ArtifactMissing or ArtifactDigestMismatch for what is not whole here, StoreUnreachable when not
            all of it arrived, and whatever the shelf raises.
    """
    manifest = _own_manifest(folder, path)
    sizes: dict[str, int] = {}
    hidden: list[FileRecord] = []
    for file in list_files(folder):
        name = file.relative_to(folder).as_posix()
        if name == MANIFEST:
            continue
        if name == REPORT:
            shelf.write(f"{path}/{name}", _moved_report(file, path))
        elif recipient is None:
            shelf.upload(file, f"{path}/{name}")
            sizes[name] = file.stat().st_size
        else:
            hidden.append(_upload_hidden(shelf, file, f"{path}/{name}", name=name, recipient=recipient))
            sizes[name] = hidden[-1].bytes
    if recipient is not None:
        manifest = _hidden(manifest, hidden, recipient)
    there = {file.path.removeprefix(f"{path}/"): file.bytes for file in shelf.files(path)}
    for name, size in sizes.items():
        if there.get(name) != size:
            raise OptimizerError(
                Reason.STORE_UNREACHABLE,
                f"{shelf.uri} has {there.get(name, 'none')} of {size} bytes of {path}/{name} after it was uploaded",
            )
    shelf.write(f"{path}/{MANIFEST}", (manifest.to_json(indent=2) + "\n").encode())
    return Kept(path=path, manifest=manifest)


def take_away(shelf: Shelf, path: str, *, in_use: Callable[[str], bool]) -> int | None:
    """Remove an artifact, or what is left of one; its bytes, or None when somebody refers to it after all.

    The manifest goes first and comes back if the artifact turns out to be in use.
    """
    if in_use(path):
        return None
    manifest = shelf.read(f"{path}/{MANIFEST}")
    shelf.remove(f"{path}/{MANIFEST}")
    if in_use(path):
        if manifest is not None:
            shelf.write(f"{path}/{MANIFEST}", manifest)
        return None
    return shelf.remove_folder(path) + len(manifest or b"")


def find_paths(shelf: Shelf) -> dict[str, tuple[Stored, ...]]:
    """All files below `artifacts/` by the artifact that they belong to, whole ones and halves."""
    found: dict[str, list[Stored]] = {}
    for file in shelf.files(ARTIFACTS):
        _, key, *rest = file.path.split("/")
        if not rest or key.startswith("."):
            continue  # a claim's half-written one; it is renamed when it is whole
        is_build = len(rest) > 1 and len(rest[0]) == BUILD_LENGTH and not set(rest[0]) - set("0123456789abcdef")
        found.setdefault(f"{ARTIFACTS}/{key}/{rest[0]}" if is_build else f"{ARTIFACTS}/{key}", []).append(file)
    return {path: tuple(files) for path, files in found.items()}


def hash_stored(shelf: Shelf, folder: str) -> tuple[FileRecord, ...]:
    """Records of all files below a folder of the shelf, paths relative to it."""
    records = []
    for file in shelf.files(folder):
        sha, size = hashlib.sha256(), 0
        for block in shelf.stream(file.path):
            sha.update(block)
            size += len(block)
        records.append(FileRecord(path=file.path.removeprefix(f"{folder}/"), bytes=size, sha256=sha.hexdigest()))
    return tuple(records)


def _is_intact(shelf: Shelf, path: str, manifest: Manifest) -> bool:
    record = manifest.artifact
    plain = {REPOSITORY: record.digest, **({GOLDEN: record.golden} if record.golden else {})}
    recorded = plain if manifest.encrypted is None else manifest.encrypted
    return record.path == path and all(
        folder_digest(hash_stored(shelf, f"{path}/{name}")) == digest for name, digest in recorded.items()
    )


def _upload_hidden(shelf: Shelf, file: Path, path: str, *, name: str, recipient: str) -> FileRecord:
    """The record of the encrypted file, which has other bytes each time."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "hidden"
        encrypt_file(file, target, recipient)
        shelf.upload(target, path)
        return hash_file(target).model_copy(update={"path": name})


def _hidden(manifest: Manifest, files: Sequence[FileRecord], recipient: str) -> Manifest:
    """The manifest with whom the artifact is encrypted for, and what its folders hash to as they lie there."""
    digests = {
        top: folder_digest(
            record.model_copy(update={"path": record.path.removeprefix(f"{top}/")})
            for record in files
            if record.path.startswith(f"{top}/")
        )
        for top in (REPOSITORY, *([GOLDEN] if manifest.artifact.golden else []))
    }
    artifact = manifest.artifact.model_copy(update={"encrypted_for": recipient})
    result = manifest.result.model_copy(update={"artifact": artifact})
    return manifest.model_copy(update={"artifact": artifact, "result": result, "encrypted": digests})


def _own_manifest(folder: Path, path: str) -> Manifest:
    """The manifest of what was made here, with the path that it gets. What it says of the bytes is checked."""
    try:
        made = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise OptimizerError(
            Reason.ARTIFACT_MISSING, "the optimizer left no artifact to upload; see the log of the container optimize"
        ) from error
    found = folder_digest(hash_folder(folder / REPOSITORY))
    if found != made.artifact.digest:
        raise OptimizerError(
            Reason.ARTIFACT_DIGEST_MISMATCH, f"the artifact has {found} but {made.artifact.digest} was proven"
        )
    artifact = made.artifact.model_copy(update={"path": path})
    return made.model_copy(
        update={"artifact": artifact, "result": made.result.model_copy(update={"artifact": artifact})}
    )


def _moved_report(file: Path, path: str) -> bytes:
    report = json.loads(file.read_bytes())
    report["artifact"]["path"] = path
    return (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode()
