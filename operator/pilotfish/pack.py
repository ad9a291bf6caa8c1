"""`pilotfish.pack(model, example_inputs, path)`: hand a PyTorch model over as data, not as code.

Call it where the model was trained. It writes a folder (or a `.zip`) with a clean `.pt2` without pickles, the names of
inputs and outputs, and the example inputs; all of it opens under the default `trust: DataOnly`. torch is imported when
it is called, not before: `import pilotfish` stays light.
"""

import inspect
import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACK_VERSION = 1


_EXAMPLE_BATCH = 2


def pack(
    model: Any,
    example_inputs: Any,
    path: str | Path,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic: Mapping[str, Sequence[int]] | None = None,
    batched: bool = True,
    samples: Any = None,
    labels: Any = None,
) -> Path:
    """Write `model` to the folder `path`, or to one file when it ends with `.zip`.

    Args:
        model: a `torch.nn.Module`; it is exported in evaluation mode and left in the mode it was in.
        example_inputs: one tensor, a sequence of tensors, or a mapping of forward's argument names to tensors; batch
            first, one or more real inputs.
        path: where to write; an existing folder or file is replaced.
        input_names: names of the inputs; by default forward's argument names.
        output_names: names of the outputs; by default the keys of a returned dict, or `output`, `output_0`, …
        dynamic: axes other than the batch that may vary, counted with the batch as axis 0: `{"tokens": [1]}`.
        batched: whether axis 0 of every input and output is the batch; without it shapes are taken as they are.
        samples: more real inputs in the form of `example_inputs`, batch first; the golden set. By default the examples.
        labels: class numbers of the samples; with them the optimizer can guard the accuracy.

    Returns:
        The path that was written.

    Raises:
        ValueError: the model cannot be exported, or names and tensors do not fit; the sentence says why.
    """
    target = Path(path)
    inputs = _named_inputs(model, example_inputs, input_names)
    golden = inputs if samples is None else _named_inputs(model, samples, list(inputs.tensors))
    was_training = bool(model.training)
    model.eval()
    try:
        program, outputs = _export(model, inputs, dynamic or {}, batched=batched)
    finally:
        model.train(was_training)
    names = list(output_names or outputs)
    if len(names) != len(outputs):
        raise ValueError(f"the model returns {len(outputs)} tensors, but output_names has {len(names)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pilotfish-", dir=target.parent) as folder:
        content = Path(folder) / "model"
        _write(content, program, golden, names, labels=labels, batched=batched)
        return _place(content, target)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Tensors by the names that clients will use; `keywords` are forward's own names when they are passed so."""

    tensors: dict[str, Any]
    keywords: tuple[str, ...] | None


def _named_inputs(model: Any, examples: Any, names: Sequence[str] | None) -> _Inputs:
    import torch

    if isinstance(examples, Mapping):
        keywords = tuple(str(key) for key in examples)
        tensors = list(examples.values())
    else:
        keywords = None
        tensors = [examples] if isinstance(examples, torch.Tensor) else list(examples)
    if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors):
        raise ValueError("example_inputs must be a tensor, a sequence of tensors or a mapping to tensors")
    arguments = [p for p in inspect.signature(model.forward).parameters if p not in {"args", "kwargs"}]
    own = list(keywords or arguments[: len(tensors)])
    own += [f"input_{i}" for i in range(len(own), len(tensors))]
    chosen = list(names or own)
    if len(chosen) != len(tensors) or len(set(chosen)) != len(chosen):
        raise ValueError(f"input_names must be {len(tensors)} different names, one per example input")
    return _Inputs(dict(zip(chosen, (t.detach().cpu() for t in tensors), strict=True)), keywords)


def _export(
    model: Any, inputs: _Inputs, dynamic: Mapping[str, Sequence[int]], *, batched: bool
) -> tuple[Any, list[str]]:
    """The program and the names its outputs have by themselves."""
    import torch

    from pilotfish.optimizer.pytorch.runtime import flatten

    if unknown := set(dynamic) - set(inputs.tensors):
        raise ValueError(f"dynamic names {min(unknown)!r}, which is no input; inputs are {', '.join(inputs.tensors)}")
    free = torch.export.Dim.DYNAMIC
    dims = [({0: free} if batched else {}) | dict.fromkeys(dynamic.get(name, ()), free) for name in inputs.tensors]
    examples = [_two(t) if batched else t[0] for t in inputs.tensors.values()]
    try:
        with torch.no_grad():
            if inputs.keywords is None:
                program = torch.export.export(model, tuple(examples), dynamic_shapes=tuple(dims), strict=False)
                result = model(*examples)
            else:
                named = dict(zip(inputs.keywords, examples, strict=True))
                shapes = dict(zip(inputs.keywords, dims, strict=True))
                program = torch.export.export(model, (), named, dynamic_shapes=shapes, strict=False)
                result = model(**named)
        return program, list(flatten(result))
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"the model cannot be exported: {lines[0] if lines else type(error).__name__}; export it as ONNX yourself, "
            "or pass batched=False if its first axis is no batch"
        ) from error


def _two(tensor: Any) -> Any:
    """At least two samples: with one, the exporter takes the batch for a constant."""
    import torch

    return tensor[:_EXAMPLE_BATCH] if len(tensor) >= _EXAMPLE_BATCH else torch.cat([tensor] * _EXAMPLE_BATCH)


def _write(folder: Path, program: Any, inputs: _Inputs, outputs: list[str], *, labels: Any, batched: bool) -> None:
    import torch
    from safetensors.torch import save_file

    from pilotfish.optimizer.pt2_scan import write_clean

    folder.mkdir()
    program._example_inputs = None  # noqa: SLF001 - they would be saved as a pickle
    raw = folder / "raw.pt2"
    torch.export.save(program, str(raw))
    write_clean(raw, folder / "model.pt2")
    raw.unlink()
    samples = {name: tensor.contiguous() for name, tensor in inputs.tensors.items()}
    if labels is not None:
        samples["labels"] = torch.as_tensor(labels).contiguous()
    save_file(samples, folder / "samples.safetensors")
    note = {
        "pack": PACK_VERSION,
        "model": "model.pt2",
        "inputs": list(inputs.tensors),
        "outputs": outputs,
        "batched": batched,
        "torch": str(torch.__version__),
    }
    (folder / "pilotfish.json").write_text(json.dumps(note, indent=2) + "\n")


def _place(content: Path, target: Path) -> Path:
    if target.is_dir():
        shutil.rmtree(target)
    if target.suffix != ".zip":
        content.rename(target)
        return target
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(content.iterdir()):
            archive.write(file, file.name)
    return target
