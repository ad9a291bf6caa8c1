"""Triton's backend "pytorch" on a CPU: serves the TorchScript file `<model>/<version>/model.pt` as NVIDIA's does.

Inputs go by forward()'s argument names when the config names all of them, else by the index at the end of names such as
`INPUT__0`, else by the config's order; outputs by index or order. Reads the same config.pbtxt parameters:
INTRA_OP_THREAD_COUNT, INTER_OP_THREAD_COUNT.
"""

import re
from pathlib import Path

import numpy as np
from batched_backend import BatchedBackend, LoadError

try:
    import torch
except ImportError:
    torch = None

_INDEXED = re.compile(r"^(?:(?!__).)*__(\d+)$")


class TritonPythonModel(BatchedBackend):
    """One TorchScript module."""

    file_name = "model.pt"

    def load(self, path: Path) -> None:
        """Open the module with the config's thread counts."""
        if torch is None:
            raise LoadError("this image has no PyTorch; use its -torch flavour")
        if intra := self.thread_count("INTRA_OP_THREAD_COUNT"):
            torch.set_num_threads(intra)
        if inter := self.thread_count("INTER_OP_THREAD_COUNT"):
            torch.set_num_interop_threads(inter)
        self.module = torch.jit.load(str(path), map_location="cpu").eval()
        arguments = [a for a in self.module.forward.schema.arguments if a.name != "self"]
        required = [a.name for a in arguments if not a.has_default_value()]
        if not len(required) <= len(self.inputs) <= len(arguments):
            raise LoadError(
                f"config.pbtxt names {len(self.inputs)} inputs but forward() takes "
                f"{', '.join(a.name for a in arguments) or 'none'}"
            )
        self.input_order = _order(list(self.inputs), [a.name for a in arguments])
        self.output_order = _order(list(self.outputs), [])

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output of the config by name."""
        tensors = [torch.from_numpy(np.require(feeds[name], requirements="CW")) for name in self.input_order]
        with torch.inference_mode():
            result = self.module(*tensors)
        results = list(result) if isinstance(result, tuple | list) else [result]
        if len(results) < len(self.output_order):
            raise ValueError(f"forward() gave {len(results)} outputs, config.pbtxt names {len(self.output_order)}")
        named = zip(self.output_order, results, strict=False)
        return {name: tensor.detach().numpy() for name, tensor in named}


def _order(names: list[str], arguments: list[str]) -> list[str]:
    """The config's names in the order of forward()."""
    if set(names) <= set(arguments):
        return sorted(names, key=arguments.index)
    matches = [_INDEXED.match(name) for name in names]
    if all(matches):
        ordered = sorted((int(match.group(1)), name) for match, name in zip(matches, names, strict=True) if match)
        if [index for index, _ in ordered] != list(range(len(names))):
            raise LoadError(f"the numbers at the end of {', '.join(names)} do not count from 0")
        return [name for _, name in ordered]
    return names
