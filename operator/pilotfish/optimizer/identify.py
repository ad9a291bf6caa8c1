"""What a file or folder is, from its bytes and never from its name alone. Opens nothing that could run."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import check_zip, unpack
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.layers import has_layers, unfold
from pilotfish.optimizer.onnx_bytes import looks_like_onnx, starts_like_onnx
from pilotfish.optimizer.small_json import read_json

PACK_FILE = "pilotfish.json"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PROTO = b"\x80"
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_HEAD = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """A recognised model: its main file, the folder around it, and the pack's folder if `pilotfish.pack` wrote it."""

    format: ModelFormat
    path: Path
    pack: Path | None = None


def identify(source: Path, *, work: Path) -> Identified:
    """Recognise a file or a folder; archives of a folder are unpacked below `work` first.

    Raises:
        OptimizerError: UnknownFormat, SourceTruncated, UnsafeModel (an archive that would write outside or explode).
    """
    if source.is_dir():
        return _identify_folder(unfold(source, work / "unfolded") if has_layers(source) else source)
    found = identify_file(source)
    if isinstance(found, ModelFormat) and found is not ModelFormat.TORCH_SERVE_ARCHIVE:
        return Identified(format=found, path=source)
    return _identify_folder(unpack(source, work / "unpacked"))


def _identify_folder(folder: Path) -> Identified:
    if (folder / PACK_FILE).is_file():
        return Identified(format=ModelFormat.EXPORTED_PROGRAM, path=folder / _packed_name(folder), pack=folder)
    if (folder / "MAR-INF" / "MANIFEST.json").is_file():
        return Identified(format=ModelFormat.TORCH_SERVE_ARCHIVE, path=folder)
    if (folder / "saved_model.pb").is_file():
        return Identified(format=ModelFormat.SAVED_MODEL, path=folder)
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Identified(format=ModelFormat.HUGGING_FACE, path=folder)
    models = [(p, f) for p in sorted(folder.iterdir()) if p.is_file() and (f := _try_file(p)) is not None]
    onnx = [(p, f) for p, f in models if f is ModelFormat.ONNX]
    chosen = onnx if len(onnx) == 1 else models
    if len(chosen) == 1:
        return Identified(format=chosen[0][1], path=chosen[0][0])
    names = (
        ", ".join(p.name for p, _ in chosen[:5]) if chosen else ", ".join(sorted(p.name for p in folder.iterdir())[:5])
    )
    what = (
        f"{len(chosen)} models ({names}), so which one is meant is open"
        if chosen
        else f"no model that is known ({names})"
    )
    raise OptimizerError(
        Reason.UNKNOWN_FORMAT, f"the folder holds {what}; point spec.model.uri at one file or a folder with one model"
    )


def _packed_name(folder: Path) -> str:
    try:
        name = read_json(folder / PACK_FILE)["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{PACK_FILE} cannot be read ({error}); write the folder again with pilotfish.pack"
        ) from error
    if name != "model.pt2":
        raise OptimizerError(Reason.UNSAFE_MODEL, f"{PACK_FILE} names the model {name!r}, not model.pt2; pack it again")
    if not (folder / name).is_file():
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{PACK_FILE} is there, but its model.pt2 is not; upload the whole folder"
        )
    return str(name)


def _try_file(path: Path) -> ModelFormat | None:
    try:
        found = identify_file(path)
    except OptimizerError as error:
        if error.reason is Reason.UNKNOWN_FORMAT:
            return None
        raise
    return found if isinstance(found, ModelFormat) else None


class Archive:
    """A zip or tar that holds something else."""


def identify_file(path: Path) -> ModelFormat | Archive:
    """What one file is. Raises OptimizerError as `identify` does."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        raise OptimizerError(Reason.SOURCE_TRUNCATED, f"{path.name} is empty; upload it again")
    if head.startswith(b"PK\x03\x04"):
        return _identify_zip(path)
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return Archive()
    return _by_magic(path, head) or _by_structure(path, head)


def _by_magic(path: Path, head: bytes) -> ModelFormat | None:
    if head.startswith(_HDF5):
        return ModelFormat.KERAS
    if head[4:8] == b"TFL3":
        return ModelFormat.TFLITE
    if head[:1] == _PROTO and head[1:2] in _PICKLE_PROTOCOLS:
        return ModelFormat.STATE_DICT
    if head.startswith(b"GGUF"):
        raise OptimizerError(
            Reason.UNKNOWN_FORMAT, f"{path.name} is GGUF, which Triton does not serve; give ONNX or PyTorch"
        )
    if head.startswith(b"version https://git-lfs"):
        raise OptimizerError(
            Reason.SOURCE_TRUNCATED, f"{path.name} is a Git LFS pointer, not the file; upload the file itself"
        )
    return None


def _by_structure(path: Path, head: bytes) -> ModelFormat:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length > 1:
        if length + 8 > path.stat().st_size:
            raise OptimizerError(
                Reason.SOURCE_TRUNCATED, f"{path.name} is a safetensors file cut short; upload it again"
            )
        return ModelFormat.SAFE_TENSORS
    if looks_like_onnx(path):
        return ModelFormat.ONNX
    if path.name == "saved_model.pb":
        raise OptimizerError(
            Reason.UNKNOWN_FORMAT,
            "saved_model.pb is a SavedModel without its variables; point spec.model.uri at its folder",
        )
    if path.suffix.lower() == ".onnx" and starts_like_onnx(path):
        raise OptimizerError(Reason.SOURCE_TRUNCATED, f"{path.name} is an ONNX file cut short; upload it again")
    known = (
        "ONNX, a folder of pilotfish.pack, .pt2, safetensors, state_dict, TorchScript, .mar, Keras, TFLite, "
        "or a folder of HuggingFace or SavedModel"
    )
    raise OptimizerError(Reason.UNKNOWN_FORMAT, f"{path.name} is no model format that is known; give {known}")


def _identify_zip(path: Path) -> ModelFormat | Archive:
    names = check_zip(path)
    tails = {name.split("/", 1)[-1] for name in names}
    if "archive_format" in tails and any(t.startswith("models/") for t in tails):
        return ModelFormat.EXPORTED_PROGRAM
    if "data.pkl" in tails:
        code = "constants.pkl" in tails and any(t.startswith("code/") for t in tails)
        return ModelFormat.TORCH_SCRIPT if code else ModelFormat.STATE_DICT
    if "MAR-INF/MANIFEST.json" in names:
        return ModelFormat.TORCH_SERVE_ARCHIVE
    if {"config.json", "metadata.json"} <= set(names) and any(n.endswith(".weights.h5") for n in names):
        return ModelFormat.KERAS
    if not names:
        raise OptimizerError(Reason.UNKNOWN_FORMAT, f"{path.name} is an empty zip; pack the model into it")
    with zipfile.ZipFile(path) as archive:
        if any(info.flag_bits & 1 for info in archive.infolist()):
            raise OptimizerError(
                Reason.UNKNOWN_FORMAT, f"{path.name} is an encrypted zip; upload it without a password"
            )
    return Archive()
