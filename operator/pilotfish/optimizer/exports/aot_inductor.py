"""The AOTInductor export: a model.pt2 of native code for the CPU that the Job ran on. Needs a C++ compiler."""

import os
import shutil
from pathlib import Path

from pilotfish.optimizer.exports.exported_program import program_of
from pilotfish.optimizer.exports.frame import ExportShop, Written
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.worker import Subject


def write(shop: ExportShop, folder: Path) -> Written:
    """Compile the module with a free batch.

    Raises:
        ValueError: no compiler, or the model did not come from PyTorch.
    """
    program = program_of(shop)
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ValueError(f"AOTInductor compiles C++ and this image has no {compiler}; use one that has")
    import torch

    main = folder / "model.pt2"
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(main))  # noqa: SLF001 - its public entry
    return Written(main=main, notes=("compiled code: it runs on CPUs of this kind and with this version of PyTorch",))


def load(subject: Subject) -> Runner:
    """The compiled code, as torch loads it."""
    import torch

    from pilotfish.optimizer.pytorch.runtime import TorchRunner, set_threads

    set_threads(subject.threads)
    names = [t["name"] for t in (subject.source or {})["inputs"]]
    module = torch._inductor.aoti_load_package(subject.path)  # noqa: SLF001 - its public entry
    return TorchRunner(module, inputs=names, outputs=list(subject.outputs))
