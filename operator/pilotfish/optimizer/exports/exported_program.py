"""The ExportedProgram export: model.pt2 for torch.export.load, written anew without pickles, as pilotfish.pack does."""

from pathlib import Path
from typing import Any

from pilotfish.optimizer.exports.frame import ExportShop, Written
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.pt2_scan import write_clean
from pilotfish.optimizer.worker import Subject, feed


def write(shop: ExportShop, folder: Path) -> Written:
    """Export the module with a free batch.

    Raises:
        ValueError: the model did not come from PyTorch.
        OptimizerError: the file would hold more than tensors and known operators.
    """
    program = program_of(shop)
    import torch

    main, raw = folder / "model.pt2", shop.work / "program.pt2"
    program._example_inputs = None  # noqa: SLF001 - they would be saved as a pickle
    torch.export.save(program, str(raw))
    write_clean(raw, main)
    raw.unlink()
    return Written(main=main)


def program_of(shop: ExportShop) -> Any:
    """The captured graph of the module; raises ValueError when there is no module to capture."""
    model = shop.model
    if model.module is None or model.torchscript is not None:
        raise ValueError("only a model that came from PyTorch, other than as TorchScript, can be exported like that")
    from pilotfish.optimizer.pytorch.program import export_program

    return export_program(
        model.module, model.signature, feed(shop.samples.inputs, start=0, batch=2, batched=model.signature.batched)
    )


def load(subject: Subject) -> Runner:
    """The program's module in PyTorch."""
    import torch

    from pilotfish.optimizer.pytorch.runtime import TorchRunner, set_threads

    set_threads(subject.threads)
    names = [t["name"] for t in (subject.source or {})["inputs"]]
    module = torch.export.load(subject.path).module()
    return TorchRunner(module, inputs=names, outputs=list(subject.outputs))
