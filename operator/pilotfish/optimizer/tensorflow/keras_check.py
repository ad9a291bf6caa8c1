"""Whether a Keras file is data alone. Reads its JSON and its HDF5 tables without Keras, and trusts no name.

Keras' own safe mode stands behind this: the list here is shorter than what Keras would build.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import MAX_BYTES, MAX_RATIO
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.progress import size_text

_CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_PARTS = (
    "activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models", "ops",
    "optimizers", "quantizers", "random", "regularizers",
)  # fmt: skip
_BUILTINS = frozenset({"function"})
"""How Keras writes the name of one of its own functions."""
_FILES = frozenset({"vocabulary", "filepath", "file_path", "vocabulary_file"})
_SMALL = 64 * 1024**2


def check_keras(path: Path) -> None:
    """Refuse a `.keras` or `.h5` that would run code, read another file or grow out of proportion.

    Raises:
        OptimizerError: UnsafeModel, ModelInvalid (no model in it, or damaged).
    """
    try:
        if zipfile.is_zipfile(path):
            _check_zip(path)
        else:
            with h5py.File(path, "r") as file:
                check_tables(path, file, size=path.stat().st_size)
                _check_config(path, _legacy_config(path, file))
    except OptimizerError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # RecursionError is a RuntimeError
        raise OptimizerError(
            Reason.MODEL_INVALID, f"{path.name} cannot be read as a Keras model ({error}); save it again"
        ) from error


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        _check_config(path, json.loads(archive.read("config.json")))
        for info in archive.infolist():
            if info.filename.endswith((".h5", ".hdf5")):
                with archive.open(info) as stream, h5py.File(stream, "r") as file:
                    check_tables(path, file, size=info.file_size)


def _legacy_config(path: Path, file: Any) -> Any:
    text = file.attrs.get("model_config")
    if text is None:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{path.name} is HDF5 without a Keras model: weights alone, or something else; "
            "save the whole model with model.save('model.keras')",
        )
    return json.loads(text)


def check_tables(path: Path, file: Any, *, size: int) -> None:
    """Every link is a plain one, every table lies in this file, and together they are not a bomb."""
    total, groups, seen = 0, [file], set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, (h5py.ExternalLink, h5py.SoftLink)):
                raise _unsafe(
                    path, f"links {name!r} to {getattr(link, 'filename', link.path)!r}", "save the model again"
                )
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:  # two names of one object, or a circle
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise _unsafe(path, f"keeps {name!r} in another file", "save the model in one file")
                total += item.nbytes
    if total > MAX_BYTES or total > max(size * MAX_RATIO, _SMALL):
        raise _unsafe(path, f"({size_text(size)}) would grow to {size_text(total)}", "save it without compression")


def _check_config(path: Path, config: Any) -> None:
    for item in _dicts(config):
        kind, module = item.get("class_name"), item.get("module")
        if isinstance(kind, str) and kind in _CODE:
            raise _unsafe(path, f"holds a {kind} layer" if kind != "__lambda__" else "holds a Python lambda", _TRUST)
        own = next((n for n in (item.get("registered_name"), kind) if isinstance(n, str) and ">" in n), None)
        if own is not None:
            raise OptimizerError(
                Reason.MODEL_INVALID,
                f"{path.name} builds {own}, whose code is not in the file; export the model with "
                "model.export(folder) and trust: Executable, or as ONNX",
            )
        if "class_name" in item and isinstance(module, str) and not _is_keras(module, kind):
            raise _unsafe(path, f"builds {module}.{kind}, which is no part of Keras", _TRUST)
        for key in sorted(_FILES & item.keys()):
            if isinstance(item[key], str) and item[key]:
                raise _unsafe(path, f"reads the file {item[key]!r} when it is opened", "put the words into the layer")


_TRUST = "set spec.model.trust: Executable if you trust whoever wrote it, or write that part with Keras operations"


def _is_keras(module: str, kind: object) -> bool:
    """Whether a class of this name is one of Keras' own parts of a model, not one of its tools."""
    if module == "builtins":
        return kind in _BUILTINS
    inner = module.removeprefix("keras.").removeprefix("src.")
    return module == "keras" or (module.startswith("keras.") and inner.split(".")[0] in _PARTS)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield top
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)


def _unsafe(path: Path, what: str, remedy: str) -> OptimizerError:
    return OptimizerError(Reason.UNSAFE_MODEL, f"{path.name} {what}; {remedy}")
