"""PyTorch to TorchScript. The one module that knows torch.jit's makers: upstream calls them deprecated.

The result of `optimize_for_inference` is never saved: convolutional models cannot be loaded again from it.
"""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from pilotfish.optimizer.model import LoadedModel, Samples
from pilotfish.optimizer.pytorch.program import export_program, scriptable
from pilotfish.optimizer.pytorch.runtime import TorchScriptRunner, to_tensor
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.verify import check_answers, measure_error
from pilotfish.optimizer.worker import Subject, feed, run_all
from pilotfish.optimizer.workers import Worker

_TOLERANCE = 1e-3


def export_torchscript(model: LoadedModel, samples: Samples, target: Path, *, max_batch: int) -> tuple[str, ...]:
    """Write a frozen TorchScript file that takes every batch the signature promises; returns notes for the report.

    The exported graph is scripted first: its sizes stay computed. Then a trace, then scripting the module itself.

    Raises:
        ValueError: no way works; the sentence has every reason.
    """
    if model.torchscript is not None:
        shutil.copyfile(model.torchscript, target)
        return ()
    example = feed(samples.inputs, start=0, batch=2, batched=model.signature.batched)
    problems = []
    for name, way in (("graph", _from_graph), ("trace", _traced), ("script", _scripted)):
        try:
            _save(way, model, example, target)
            answers = _run_here if name == "graph" else _run_apart
            _check(answers(target, model, samples, max_batch), model, samples)
        except Exception as error:  # noqa: BLE001 - the next way may manage what this one cannot
            problems.append(f"{name}: {_last_line(error)}")
            continue
        return tuple(f"TorchScript by {name}; {p}" for p in problems)
    raise ValueError("; ".join(problems))


def _save(way: Callable[..., Any], model: LoadedModel, example: dict[str, Array], target: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.freeze(way(model, example).eval()), str(target))


def _from_graph(model: LoadedModel, example: dict[str, Array]) -> Any:
    return torch.jit.script(scriptable(export_program(model.module, model.signature, example)))


def _traced(model: LoadedModel, example: dict[str, Array]) -> Any:
    tensors = tuple(to_tensor(example[t.name]) for t in model.signature.inputs)
    return torch.jit.trace(model.module, tensors, check_trace=False)


def _scripted(model: LoadedModel, _example: dict[str, Array]) -> Any:
    return torch.jit.script(model.module)


def _check(answers: dict[str, Array], model: LoadedModel, samples: Samples) -> None:
    """Raises ValueError when answers given in batches are not the original's."""
    reference = run_all(model.runner, samples.inputs, batch=1, pad_to=0, batched=model.signature.batched)
    if problem := check_answers(answers, reference):
        raise ValueError(problem)
    error = measure_error(answers, reference, []).max_rel
    if error > _TOLERANCE:
        raise ValueError(f"its answers differ by {error:.2g}")


def _run_here(path: Path, model: LoadedModel, samples: Samples, max_batch: int) -> dict[str, Array]:
    signature = model.signature
    names = [t.name for t in signature.outputs]
    runner = TorchScriptRunner(path, inputs=[t.name for t in signature.inputs], outputs=names)
    return run_all(runner, samples.inputs, batch=max_batch, pad_to=0, batched=signature.batched)


def _run_apart(path: Path, model: LoadedModel, samples: Samples, max_batch: int) -> dict[str, Array]:
    """In a process of its own: a trace that baked its example's batch into a size corrupts memory at another batch."""
    inputs = path.with_name("check.safetensors")
    save_file({name: np.ascontiguousarray(array) for name, array in samples.inputs.items()}, inputs)
    subject = Subject(
        kind="torchscript",
        path=str(path),
        threads=1,
        inputs=str(inputs),
        outputs=tuple(t.name for t in model.signature.outputs),
        batched=model.signature.batched,
        source={"inputs": [t.to_wire() for t in model.signature.inputs]},
    )
    with Worker(subject, work=path.parent) as worker:
        return worker.run(batch=max_batch)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
