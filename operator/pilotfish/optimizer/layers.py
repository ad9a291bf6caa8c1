"""Layers of an OCI artifact that are tars: how a fetched source holds them, and the folder that they make together.

A later layer replaces files of an earlier one. Nothing in a layer is trusted: names, links, counts and sizes are
checked, and of an image only what lies below /models is unpacked.
"""

import shutil
import tarfile
from enum import StrEnum
from pathlib import Path, PurePosixPath

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import MAX_BYTES, MAX_FILES, MAX_RATIO, wrong_name
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.progress import size_text
from pilotfish.optimizer.tars import BROKEN, HugeHeaderError, members, open_tar

FOLDER = ".layers"
MODELS = "models"
_SMALL = 64 * 1024**2
_BLOCK = 1024 * 1024
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class LayerKind(StrEnum):
    """What a layer's tar holds; the value is the file's extension in the store."""

    FOLDER = "tar"
    IMAGE = "image"


def layer_path(number: int, kind: LayerKind) -> str:
    """Where layer `number` lies in a fetched source."""
    return f"{FOLDER}/{number:04d}.{kind}"


def is_layer(path: str) -> bool:
    """Whether a path in a fetched source is that of a layer."""
    return path.startswith(f"{FOLDER}/")


def has_layers(source: Path) -> bool:
    """Whether a fetched source holds layers that are still packed."""
    return (source / FOLDER).is_dir()


def unfold(source: Path, target: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack the layers of `source` over each other into `target`, its other files beside; returns the model's folder.

    Raises:
        OptimizerError: UnsafeModel, SourceTruncated, UnknownFormat when nothing is left.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    layers = sorted((source / FOLDER).iterdir())
    packed = sum(layer.stat().st_size for layer in layers)
    work = _Unfolding(target, limit=min(max_bytes, max(packed * MAX_RATIO, _SMALL)))
    for layer in layers:
        work.apply(layer)
    for path in sorted(p for p in source.rglob("*") if p.is_file() and p.parent != source / FOLDER):
        shutil.copyfile(path, work.place(path.relative_to(source).as_posix(), of=path))
    entries = list(target.iterdir())
    if not entries:
        raise OptimizerError(
            Reason.UNKNOWN_FORMAT, f"the image has no files below /{MODELS}; put the model there, or push it with oras"
        )
    while len(entries) == 1 and entries[0].is_dir():
        target, entries = entries[0], list(entries[0].iterdir())
    return target


class _Unfolding:
    """A folder that layers are unpacked into."""

    def __init__(self, target: Path, *, limit: int) -> None:
        self._target, self._limit = target, limit
        self._bytes = self._files = 0

    def apply(self, layer: Path) -> None:
        below = MODELS if layer.suffix == f".{LayerKind.IMAGE}" else ""
        try:
            with open_tar(layer) as archive:
                for member in members(archive):
                    if (name := _name(layer, member, below)) and not member.isdir():
                        self._member(layer, archive, member, name)
        except HugeHeaderError as error:
            raise _unsafe(layer, f"declares {error}, which no name needs", "pack it again with plain names") from error
        except BROKEN as error:
            raise OptimizerError(
                Reason.SOURCE_TRUNCATED, f"layer {layer.stem} cannot be read as a tar ({error}); push it again"
            ) from error

    def place(self, name: str, *, of: Path) -> Path:
        """Where a file is written; whatever an earlier layer has at its path goes."""
        self._files += 1
        if self._files > MAX_FILES:
            raise _unsafe(of, f"holds more than {MAX_FILES} files", "pack the model alone")
        out = self._target / name
        _remove(out)
        for parent in reversed(out.relative_to(self._target).parents):
            if (self._target / parent).is_file():
                _remove(self._target / parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        return out

    def _member(self, layer: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        path = PurePosixPath(name)
        if path.name == _OPAQUE:
            _remove(self._target / path.parent)
            self._target.mkdir(exist_ok=True)
            return
        if path.name.startswith(_WHITEOUT):
            hidden = path.name.removeprefix(_WHITEOUT)
            if hidden in {"", ".", ".."}:
                raise _unsafe(layer, f"removes {hidden!r}, which is no file", "pack it again with plain names")
            _remove(self._target / path.with_name(hidden))
            return
        reader = archive.extractfile(member) if member.isreg() else None
        if reader is None:
            raise _unsafe(layer, f"holds {member.name!r}, which is a link or a special file", "pack real files")
        with self.place(name, of=layer).open("wb") as writer:
            while block := reader.read(_BLOCK):
                self._bytes += len(block)
                if self._bytes > self._limit:
                    raise _unsafe(layer, f"would unpack to more than {size_text(self._limit)}", "pack it plainly")
                writer.write(block)


def _name(layer: Path, member: tarfile.TarInfo, below: str) -> str:
    """The member's path in the folder, empty when it does not belong there; raises UnsafeModel when it would leave."""
    pure = PurePosixPath(member.name)
    inside = pure.relative_to("/") if below and pure.is_absolute() else pure
    if not str(inside).startswith(below):  # what an image holds beside the model is never written
        return ""
    if inside != PurePosixPath() and (wrong := wrong_name(str(inside))) is not None:
        raise _unsafe(layer, f"holds {wrong}", "pack it again with plain names")
    if below and inside.parts[:1] != (below,):
        return ""
    name = inside.relative_to(below) if below else inside
    return "" if name == PurePosixPath() else name.as_posix()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unsafe(layer: Path, what: str, remedy: str) -> OptimizerError:
    return OptimizerError(Reason.UNSAFE_MODEL, f"layer {layer.stem} {what}; {remedy}")
