"""A TorchServe archive, unpacked: which model lies in it and which code makes it. Nothing of it is run here.

The handler is not used: what it does before and after the model belongs to the client or to a model of its own.
"""

import ast
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pilotfish.api.model import Architecture, ModelFormat, ModelSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.identify import Identified, identify_file
from pilotfish.optimizer.small_json import read_json

MANIFEST = "MAR-INF/MANIFEST.json"
_WITH_CODE = frozenset({ModelFormat.STATE_DICT, ModelFormat.SAFE_TENSORS})
_SERVED = _WITH_CODE | {ModelFormat.TORCH_SCRIPT, ModelFormat.ONNX, ModelFormat.EXPORTED_PROGRAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The model inside, the spec that opens it, and a remark for the report."""

    found: Identified
    spec: ModelSpec
    note: str


def open_archive(archive: Identified, spec: ModelSpec) -> Content:
    """What the manifest names: TorchScript, ONNX, a `.pt2`, or weights with the class in its model file.

    Raises:
        OptimizerError: ModelInvalid, UnsafeModel (a name that leads outside), ArchitectureInvalid, UnsupportedFormat.
    """
    said = _manifest(archive.path)
    weights = _file(archive.path, said, "serializedFile")
    if weights is None:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"the archive names no serializedFile in {MANIFEST}; pack it with torch-model-archiver --serialized-file",
        )
    kind = identify_file(weights)
    if kind not in _SERVED:
        what = kind.value if isinstance(kind, ModelFormat) else "an archive again"
        raise OptimizerError(
            Reason.UNSUPPORTED_FORMAT,
            f"the archive's {weights.name} is {what}; give TorchScript, ONNX, a .pt2 or a state_dict",
        )
    inner = spec.model_copy(update={"format": None})
    if kind in _WITH_CODE and spec.architecture is None:
        inner = inner.model_copy(update={"architecture": _architecture(archive.path, said, weights)})
    return Content(found=Identified(format=kind, path=weights), spec=inner, note=_note(said))


def _note(said: dict[str, Any]) -> str:
    handler = said.get("handler") or "its handler"
    return (
        f"The handler of the TorchServe archive ({handler}) is not run: clients send tensors and get tensors, so what "
        "it does before and after the model is theirs to do."
    )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        said = read_json(folder / MANIFEST)["model"]
        return dict(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{MANIFEST} of the archive cannot be read ({error}); pack it with torch-model-archiver",
        ) from error


def _file(folder: Path, said: dict[str, Any], key: str) -> Path | None:
    """A file of the archive that the manifest names by `key`."""
    name = said.get(key)
    if not name:
        return None
    pure = PurePosixPath(str(name))
    path = folder / str(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in str(name) or path.is_symlink():
        raise OptimizerError(
            Reason.UNSAFE_MODEL, f"{MANIFEST} names {name!r} as {key}, outside the archive; pack it with plain names"
        )
    if not path.is_file():
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{MANIFEST} names {name!r} as {key}, which is not in the archive; pack it again"
        )
    return path


def _architecture(folder: Path, said: dict[str, Any], weights: Path) -> Architecture:
    code = _file(folder, said, "modelFile")
    if code is None:
        raise OptimizerError(
            Reason.ARCHITECTURE_INVALID,
            f"the archive's {weights.name} holds weights and no modelFile names their class; set "
            "spec.model.architecture, or pack it with torch-model-archiver --model-file",
        )
    try:
        classes = [node.name for node in ast.parse(code.read_text()).body if isinstance(node, ast.ClassDef)]
    except (SyntaxError, ValueError) as error:
        raise OptimizerError(Reason.ARCHITECTURE_INVALID, f"the archive's {code.name} is no Python: {error}") from error
    if len(classes) != 1:
        raise OptimizerError(
            Reason.ARCHITECTURE_INVALID,
            f"the archive's {code.name} defines {len(classes)} classes ({', '.join(classes[:5]) or 'none'}); say which "
            f"one in spec.model.architecture.file: {code.name}#{classes[0] if classes else 'Net'}",
        )
    return Architecture(file=f"{code.relative_to(folder).as_posix()}#{classes[0]}")
