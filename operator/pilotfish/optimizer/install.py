"""Copy an artifact to where Triton reads it, hashing exactly the bytes that are copied. Imports nothing heavy.

From a claim or out of a bucket: the same digest over the same paths. A shared artifact was made under the name of the
ModelDeployment that came first; its folder gets the name of the one that serves it here.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.api.job_input import PREDICT_CONFIG, InstallInput
from pilotfish.api.predict_config import predict_model
from pilotfish.api.report import FileRecord
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import folder_digest, list_files, write_hashed
from pilotfish.optimizer.encryption import Decrypt, as_it_is
from pilotfish.optimizer.errors import OptimizerError, from_os_error

if TYPE_CHECKING:
    from pilotfish.optimizer.store.shelf import Shelf

REPOSITORY = "model_repository"
CONFIG = "config.pbtxt"
PREDICT_CODE = Path(__file__).parent / "predict"
_BLOCK = 4 * 1024 * 1024

Source = list[tuple[str, Iterator[bytes]]]
"""Every file of a model repository: its path in there, and its bytes."""


def install(order: InstallInput, *, source: Source, models: Path, config: Path) -> int:
    """Copy the model of `order` into `models` and put the ConfigMap's config.pbtxt in place; returns the file count.

    Nothing stays in `models` when the digest is wrong or reading fails.

    Raises:
        OptimizerError: ArtifactMissing, ArtifactDigestMismatch, StoreFull, and whatever reading `source` raises.
    """
    target = models / order.model
    try:
        _clear(target)
        try:
            copied = _copy(source, models, order.model)
        except OptimizerError:
            _clear(target)
            raise
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
        if (config / PREDICT_CONFIG).is_file():
            _add_predict(config / PREDICT_CONFIG, models / predict_model(order.model))
    except OSError as error:
        raise from_os_error(error, doing=f"copying {order.artifact}") from error
    return len(copied)


def from_claim(order: InstallInput, store: Path, part: str = REPOSITORY) -> Source:
    """The repository, or another part, of an artifact in a claim; raises ArtifactMissing, UnsafeModel for links."""
    folder = store / order.artifact / part
    if not folder.is_dir():
        raise _missing(order)
    return [(path.relative_to(folder).as_posix(), _blocks(path)) for path in list_files(folder)]


def from_bucket(order: InstallInput, shelf: "Shelf", decrypt: Decrypt = as_it_is, *, part: str = REPOSITORY) -> Source:
    """The same in a bucket; raises ArtifactMissing, StoreForbidden, StoreUnreachable, what `decrypt` raises."""
    folder = f"{order.artifact}/{part}"
    files = shelf.files(folder)
    if not files:
        raise _missing(order)
    names = [file.path.removeprefix(f"{folder}/") for file in files]
    for name in names:
        if ".." in name.split("/") or name.startswith("/"):
            raise OptimizerError(Reason.ARTIFACT_DIGEST_MISMATCH, f"{order.artifact} lists {name!r}, which climbs out")
    return [(name, decrypt(file.path, shelf.stream(file.path))) for name, file in zip(names, files, strict=True)]


def _missing(order: InstallInput) -> OptimizerError:
    return OptimizerError(
        Reason.ARTIFACT_MISSING,
        f"the store has no {order.artifact}; delete the ControllerRevision or change the spec to make it again",
    )


def _copy(source: Source, models: Path, model: str) -> tuple[FileRecord, ...]:
    """The digest is over the paths as they were proven, wherever the files go."""
    tops = {name.partition("/")[0] for name, _ in source}
    alone = len(tops) == 1
    records = []
    for name, blocks in source:
        _, slash, rest = name.partition("/")
        place = models / (f"{model}{slash}{rest}" if alone and slash else name)
        records.append(write_hashed(blocks, place).model_copy(update={"path": name}))
    return tuple(records)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def _configure(given: Path, target: Path) -> None:
    if given.is_file():
        target.write_bytes(given.read_bytes())


def _add_predict(config: Path, target: Path) -> None:
    """The second model, which answers plain JSON."""
    _clear(target)
    version = target / "1"
    version.mkdir(parents=True)
    for source in sorted(PREDICT_CODE.glob("*.py")):
        if source.name != "__init__.py":
            (version / source.name).write_bytes(source.read_bytes())
    _configure(config, target / CONFIG)


def _clear(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
