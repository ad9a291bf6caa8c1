"""Copy an artifact to where Triton reads it, hashing exactly the bytes that are copied. Imports nothing heavy."""

import shutil
from pathlib import Path

from pilotfish.api.job_input import InstallInput
from pilotfish.api.report import FileRecord
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import copy_hashed, folder_digest, list_files
from pilotfish.optimizer.errors import OptimizerError, from_os_error

REPOSITORY = "model_repository"
CONFIG = "config.pbtxt"


def install(order: InstallInput, *, store: Path, models: Path, config: Path) -> int:
    """Copy the model of `order` into `models` and put the ConfigMap's config.pbtxt in place; returns the file count.

    Nothing stays in `models` when the digest is wrong.

    Raises:
        OptimizerError: ArtifactMissing, ArtifactDigestMismatch, StoreFull.
    """
    source = store / order.artifact / REPOSITORY
    if not source.is_dir():
        raise OptimizerError(
            Reason.ARTIFACT_MISSING,
            f"the store has no {order.artifact}; delete the ControllerRevision or change the spec to make it again",
        )
    target = models / order.model
    try:
        _clear(target)
        copied = _copy(source, models)
        found = folder_digest(copied)
        if found != order.digest:
            _clear(target)
            raise OptimizerError(
                Reason.ARTIFACT_DIGEST_MISMATCH,
                f"{order.artifact} has {found} but {order.digest} was proven; the store was changed, make it again",
            )
        if not target.is_dir():
            raise OptimizerError(Reason.ARTIFACT_MISSING, f"{order.artifact} holds no model named {order.model!r}")
        _configure(config / CONFIG, target / CONFIG)
    except OSError as error:
        raise from_os_error(error, doing=f"copying {order.artifact}") from error
    return len(copied)


def _copy(source: Path, models: Path) -> tuple[FileRecord, ...]:
    records = []
    for path in list_files(source):
        name = path.relative_to(source).as_posix()
        records.append(copy_hashed(path, models / name).model_copy(update={"path": name}))
    return tuple(records)


def _configure(given: Path, target: Path) -> None:
    if given.is_file():
        target.write_bytes(given.read_bytes())


def _clear(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
