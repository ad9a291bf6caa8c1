"""Torch modules and TorchScript files as runners, and the conversions between arrays and tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotfish.optimizer.tensors import Array, Arrays


class TorchRunner:
    """A module in eager mode; inputs are passed in the given order, or by name."""

    def __init__(self, module: Any, *, inputs: Sequence[str], outputs: Sequence[str], by_name: bool = False) -> None:
        self._module, self._inputs, self._outputs, self._by_name = module, list(inputs), list(outputs), by_name

    @property
    def module(self) -> Any:
        """What answers."""
        return self._module

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f"torch {torch.__version__}"

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call without gradients."""
        with torch.inference_mode():
            found = self.call({name: to_tensor(inputs[name]) for name in self._inputs})
        return {name: to_array(value) for name, value in found.items()}

    def call(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """One call, tensors in and named tensors out; gradients as the caller wants them."""
        ordered = {name: tensors[name] for name in self._inputs}
        result = self._module(**ordered) if self._by_name else self._module(*ordered.values())
        return name_outputs(result, self._outputs)


class TorchScriptRunner(TorchRunner):
    """A TorchScript file as Triton's PyTorch backend runs it."""

    def __init__(self, path: Path, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(load_torchscript(path), inputs=inputs, outputs=outputs)


def load_torchscript(path: Path) -> Any:
    """The module in evaluation mode on the CPU. TorchScript is code: only for what is trusted or self-made."""
    module = torch.jit.load(str(path), map_location="cpu")
    module.eval()
    return module


def set_threads(count: int) -> None:
    """The serving pod's thread count for this process."""
    torch.set_num_threads(count)
    torch.set_num_interop_threads(1)


def to_tensor(array: Array) -> Any:
    """A tensor that shares the array's memory where it can."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def to_array(value: Any) -> Array:
    """The tensor's values; a plain number becomes an array without dimensions."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    array: Array = value.detach().cpu().contiguous().numpy()
    return array


def flatten(result: Any) -> dict[str, Any]:
    """Tensors of a result under names: a mapping's keys (nested ones joined by `_`), else output_0, output_1, and on.

    Raises:
        TypeError: something in it is no tensor.
    """
    if isinstance(result, Mapping):
        named = {key: value for key, value in result.items() if value is not None}
        return {f"{key}{tail}": leaf for key, value in named.items() for tail, leaf in _leaves(value).items()}
    leaves = list(_leaves(result).values())
    return {f"output_{i}" if len(leaves) > 1 else "output": leaf for i, leaf in enumerate(leaves)}


def name_outputs(result: Any, names: Sequence[str]) -> dict[str, Any]:
    """The result's tensors under the given names, in order; under their own names where none are given."""
    found = flatten(result)
    if not names:
        return found
    if len(found) != len(names):
        raise ValueError(f"the model returns {len(found)} tensors, but {len(names)} outputs are named")
    return dict(zip(names, found.values(), strict=True))


def _leaves(value: Any) -> dict[str, Any]:
    if isinstance(value, (list, tuple)):
        return {f"_{i}{tail}": leaf for i, item in enumerate(value) for tail, leaf in _leaves(item).items()}
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"the model returns a {type(value).__name__}; return tensors, tuples or dicts of tensors")
    return {"": value}
