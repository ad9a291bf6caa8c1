"""The architecture from a Python file beside the weights: code that is run, so only for what is trusted.

It runs in the Job's sandbox, without network and credentials, and leaves nothing behind in the source's folder.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pilotfish.api.model import Architecture
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

_MODULE = "pilotfish_user_code"


def build_from_file(architecture: Architecture, folder: Path) -> Any:
    """What `file.py#function` (or a class) returns for the arguments, in evaluation mode.

    Raises:
        OptimizerError: UnsafeModel (a path that leads outside), ArchitectureInvalid (not there, fails, no module).
    """
    import torch

    name, _, attribute = (architecture.file or "").partition("#")
    path = _inside(name, folder)
    with _imports_from(folder):
        try:
            maker = getattr(_execute(path), attribute, None)
            made = None if maker is None else maker(**architecture.arguments)
        except (Exception, SystemExit) as error:
            raise _invalid(f"{architecture.file} fails with {type(error).__name__}: {error}; correct it") from error
    if maker is None:
        raise _invalid(f"{name} has no {attribute!r}; name the function or class that makes the model")
    if not isinstance(made, torch.nn.Module):
        raise _invalid(f"{architecture.file} returns a {type(made).__name__}; return the torch.nn.Module")
    return made.eval()


def _inside(name: str, folder: Path) -> Path:
    pure, path = PurePosixPath(name), folder / name
    if pure.is_absolute() or ".." in pure.parts or path.resolve().is_relative_to(folder.resolve()) is False:
        raise OptimizerError(
            Reason.UNSAFE_MODEL, f"architecture.file names {name!r}, outside the source; name a file beside the weights"
        )
    if not path.is_file():
        raise _invalid(
            f"architecture.file names {name}, which is not beside the weights; put it into their folder and point "
            "spec.model.uri at the folder"
        )
    return path


def _execute(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses look a class's module up
    spec.loader.exec_module(module)
    return module


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Other files of the folder can be imported; no byte code is written there.

    Afterwards their names are free again: a teacher's `layers.py` is not its student's.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = before
        for name in set(sys.modules) - known:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]


def _invalid(message: str) -> OptimizerError:
    return OptimizerError(Reason.ARCHITECTURE_INVALID, message)
