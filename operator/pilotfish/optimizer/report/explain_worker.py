"""A child process that loads the original and explains its answers: one order on stdin, one answer on stdout."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from pilotfish.api.optimization import ExplanationMethod
from pilotfish.api.report_sections import ExplainedSample, Explanation, InputAttribution
from pilotfish.optimizer.report.errand import obey
from pilotfish.optimizer.report.grids import Floats, Grid, as_attribution, make_grid
from pilotfish.optimizer.tensors import Array, sample_count, take
from pilotfish.optimizer.worker import Subject, load_runner

NOT_FINITE = "its attributions are not finite numbers"
_TOOL = "captum"


def explain(subject: Subject, *, method: ExplanationMethod, samples: int, variant: str) -> Explanation:
    """Explain the first samples of the subject's inputs. Raises whatever the model raises."""
    from pilotfish.optimizer.pytorch.attributions import Explainer, NotExplainableError
    from pilotfish.optimizer.pytorch.runtime import TorchRunner

    runner, inputs = load_runner(subject), load_file(subject.inputs)
    told = Explanation(method=method, tool=_tool(), variant=variant)
    if not isinstance(runner, TorchRunner):
        return told.model_copy(update={"problem": f"Captum explains what PyTorch runs, and this is {runner.runtime}"})
    began = time.monotonic()
    explainer = Explainer(runner, method, batched=subject.batched)
    grids = {name: make_grid(array.shape[1:]) for name, array in inputs.items()}
    found, absolute = [], []
    try:
        for index in range(min(samples, sample_count(inputs))):
            sums, one = _one(explainer, take(inputs, index, 1), grids, index)
            found.append(one)
            absolute.append({name: np.abs(values) for name, values in sums.items()})
    except NotExplainableError as error:
        return told.model_copy(update={"problem": str(error)})
    return told.model_copy(
        update={
            "samples": tuple(found),
            "importance": _importance([one for one in absolute if one], grids),
            "seconds": round(time.monotonic() - began, 3),
        }
    )


def _one(
    explainer: Any, sample: Mapping[str, Array], grids: Mapping[str, Grid], index: int
) -> tuple[dict[str, Floats], ExplainedSample]:
    """The sums of each input's cells, none where they are no numbers, and what is told of the sample."""
    from pilotfish.optimizer.pytorch.attributions import is_finite

    found = explainer.explain(sample)
    if not is_finite(found):
        return {}, ExplainedSample(sample=index, target=found.target, problem=NOT_FINITE)
    sums = {name: grids[name].sums(values) for name, values in found.values.items()}
    return sums, ExplainedSample(
        sample=index,
        target=found.target,
        answer=_short(found.answer),
        baseline_answer=_short(found.baseline_answer),
        delta=None if found.delta is None else _short(found.delta),
        inputs=tuple(as_attribution(name, grids[name], values) for name, values in sums.items()),
    )


def _importance(absolute: list[dict[str, Floats]], grids: Mapping[str, Grid]) -> tuple[InputAttribution, ...]:
    names = absolute[0] if absolute else ()
    return tuple(as_attribution(n, grids[n], np.mean([one[n] for one in absolute], axis=0)) for n in names)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _tool() -> str:
    from importlib import metadata

    try:
        return f"{_TOOL} {metadata.version(_TOOL)}"
    except metadata.PackageNotFoundError:
        return "none"


def obeyed(order: dict[str, Any]) -> str:
    """The explanation as JSON."""
    method = next(m for m in ExplanationMethod if m.value == order["method"])
    found = explain(Subject(**order["subject"]), method=method, samples=order["samples"], variant=order["variant"])
    return found.to_json()


if __name__ == "__main__":
    obey(obeyed)
