"""What each value of a sample adds to a model's answer, by Captum, one sample at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pilotfish.api.optimization import ExplanationMethod
from pilotfish.optimizer.pytorch.captum_methods import captum_method
from pilotfish.optimizer.pytorch.runtime import TorchRunner, to_array, to_tensor
from pilotfish.optimizer.report.grids import make_grid
from pilotfish.optimizer.tensors import Array

STEPS = 50
"""Points on the way from zeros to the sample."""
AT_ONCE = 10
"""Of them in one call: activations with gradients of this many samples are held."""
_MATRIX = 2


class NotExplainableError(Exception):
    """The method does not reach this model's inputs; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """One sample explained. `values` have the shape of the sample's inputs; `delta` is IntegratedGradients' own."""

    target: str
    answer: float
    baseline_answer: float
    values: dict[str, Array]
    delta: float | None


class Explainer:
    """Explains a runner's answers. Inputs that the method does not reach are held as they are."""

    def __init__(self, runner: TorchRunner, method: ExplanationMethod, *, batched: bool) -> None:
        self._runner, self._method, self._batched = runner, method, batched

    def explain(self, sample: Mapping[str, Array]) -> Attributed:
        """`sample` holds one row of each input, with the sample's dimension first.

        Raises:
            NotExplainableError: no input can be explained by this method.
            ImportError: Captum is not installed.
        """
        tensors = {name: to_tensor(array).clone() for name, array in sample.items()}
        output, place = self._target(tensors)
        by_gradient = self._method is not ExplanationMethod.FEATURE_ABLATION
        floats = [name for name, value in tensors.items() if value.is_floating_point()]
        asked = floats if by_gradient else list(tensors)
        layer = None
        if not asked:
            asked, layer = self._looked_up(tensors)
        call = _Call(self._answers, asked, tensors, output=output, place=place)
        values, delta = self._attribute(call, [tensors[name] for name in asked], layer)
        zeros = [torch.zeros_like(tensors[name]) for name in asked]
        with torch.no_grad():
            answer, baseline = (float(call(*given)) for given in ([tensors[n] for n in asked], zeros))
        return Attributed(
            target=f"mean of {output}" if place is None else f"{output}[{place}]",
            answer=answer,
            baseline_answer=baseline,
            values=dict(zip(asked, values, strict=True)),
            delta=delta,
        )

    def _attribute(self, call: "_Call", inputs: list[Any], layer: Any) -> tuple[list[Array], float | None]:
        if layer is not None:
            method = captum_method("LayerIntegratedGradients")(call, layer)
            found, delta = method.attribute(
                inputs[0],
                baselines=torch.zeros_like(inputs[0]),
                n_steps=STEPS,
                internal_batch_size=AT_ONCE,
                return_convergence_delta=True,
            )
            return [to_array(found.sum(-1)[0])], float(delta)
        method = captum_method(self._method.value)(call)
        given, delta = tuple(inputs), None
        if self._method is ExplanationMethod.INTEGRATED_GRADIENTS:
            found, delta = method.attribute(
                given, n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True
            )
        elif self._method is ExplanationMethod.SALIENCY:
            found = method.attribute(tuple(value.requires_grad_() for value in given))
        else:
            found = _ablated(method, given, at_once=AT_ONCE if self._batched else 1)
        return [to_array(one[0]) for one in found], None if delta is None else float(delta)

    def _answers(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Answers with the sample's dimension first, also of a model that takes one sample at a time."""
        if self._batched:
            return self._runner.call(tensors)
        rows = len(next(iter(tensors.values())))
        found = [self._runner.call({name: value[i] for name, value in tensors.items()}) for i in range(rows)]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _target(self, tensors: Mapping[str, Any]) -> tuple[str, int | None]:
        """The first output of floats, and its arg-max where it is one row of scores."""
        with torch.no_grad():
            answers = self._answers(tensors)
        for name, value in answers.items():
            if value.is_floating_point():
                scores = value.ndim == _MATRIX and value.shape[1] > 1
                return name, int(value[0].argmax()) if scores else None
        raise NotExplainableError("no output of the model holds floating-point numbers, so nothing can be explained")

    def _looked_up(self, tensors: Mapping[str, Any]) -> tuple[list[str], Any]:
        """The integer input that goes into an embedding layer as it is, and that layer."""
        if self._method is not ExplanationMethod.INTEGRATED_GRADIENTS:
            raise NotExplainableError(
                f"{self._method.value} needs inputs of floating-point numbers; write method: IntegratedGradients or "
                "FeatureAblation"
            )
        seen: list[tuple[str, Any]] = []
        places = {value.data_ptr(): name for name, value in tensors.items()}

        def look(layer: Any, given: tuple[Any, ...]) -> None:
            name = places.get(given[0].data_ptr()) if given else None
            if name is not None:
                seen.append((name, layer))

        modules = self._runner.module.modules()
        hooks = [m.register_forward_pre_hook(look) for m in modules if isinstance(m, torch.nn.Embedding)]
        try:
            with torch.no_grad():
                self._answers(tensors)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise NotExplainableError(
                "the inputs are integers and no embedding layer that gradients reach takes one of them; "
                "write method: FeatureAblation"
            )
        name, layer = seen[0]
        if any(other is not layer for one, other in seen if one == name):
            raise NotExplainableError(f"several embedding layers take {name}; write method: FeatureAblation")
        return [name], layer


class _Call:
    """The target's figure as a function of the inputs that are explained: one number for each row."""

    def __init__(
        self, answers: Any, asked: list[str], tensors: Mapping[str, Any], *, output: str, place: int | None
    ) -> None:
        self._answers, self._asked, self._tensors = answers, asked, tensors
        self._output, self._place = output, place
        self.__name__ = "answer"

    def __call__(self, *given: Any) -> Any:
        """A tensor of the shape (rows,)."""
        rows = len(given[0])
        fixed = {
            name: value.expand(rows, *value.shape[1:])
            for name, value in self._tensors.items()
            if name not in self._asked
        }
        value = self._answers({**dict(zip(self._asked, given, strict=True)), **fixed})[self._output]
        return value.reshape(rows, -1).mean(1) if self._place is None else value[:, self._place]


def _ablated(method: Any, given: tuple[Any, ...], *, at_once: int) -> list[Any]:
    """One call for each cell of an input's grid, its effect shared out evenly among the cell's values."""
    grids = [make_grid(tuple(value.shape[1:])) for value in given]
    first = np.cumsum([0, *(grid.rows * grid.columns for grid in grids)])
    masks = tuple(torch.from_numpy(g.cells + start)[None] for g, start in zip(grids, first, strict=False))
    found = method.attribute(given, feature_mask=masks, perturbations_per_eval=at_once)
    return [one / torch.from_numpy(grid.sizes()) for one, grid in zip(found, grids, strict=True)]


def is_finite(found: Attributed) -> bool:
    """Whether all figures are numbers."""
    figures = [found.answer, found.baseline_answer, 0.0 if found.delta is None else found.delta]
    return bool(np.isfinite(figures).all()) and all(bool(np.isfinite(v).all()) for v in found.values.values())
