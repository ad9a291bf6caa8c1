"""What a recipe is told and what it gives back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pilotfish.api.report import Backend
from pilotfish.api.report_sections import LayerError
from pilotfish.optimizer.model import Samples
from pilotfish.optimizer.tensors import Array, sample_count
from pilotfish.optimizer.worker import feed

_HALVED_FROM = 32
_MOST_CALIBRATED = 128
_BATCH = 8
_PROBED = 16


class RefusedError(Exception):
    """A recipe that must not be tried here; the text says why and what would change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One file to make. `prepared` gives the path of the fused, shape-inferred file, made once and shared.

    `narrow`: 8-bit weights in 7 bits, for CPUs without VNNI whose 16-bit sums would saturate.
    `kept`: names of nodes of the prepared file that stay in float.
    """

    source: Path
    target: Path
    prepared: Callable[[], Path]
    samples: Samples
    batched: bool
    max_batch: int
    gpu: bool
    narrow: bool
    kept: tuple[str, ...] = ()

    def calibration(self) -> Iterator[dict[str, Array]]:
        """Inputs to find ranges with, at most 128 samples.

        Of 32 and more only every second one, so that half of the golden set stays unseen.
        """
        count = sample_count(self.samples.inputs)
        indexes = np.arange(0, count, 2 if count >= _HALVED_FROM else 1)[:_MOST_CALIBRATED]
        yield from self._calls(indexes)

    def probes(self) -> Iterator[dict[str, Array]]:
        """A few inputs to compare layers with."""
        yield from self._calls(np.arange(min(_PROBED, sample_count(self.samples.inputs))))

    def _calls(self, indexes: Array) -> Iterator[dict[str, Array]]:
        chosen = {name: array[indexes] for name, array in self.samples.inputs.items()}
        batch = min(_BATCH, self.max_batch) if self.batched else 1
        for start in range(0, len(indexes), batch):
            yield feed(chosen, start=start, batch=min(batch, len(indexes) - start), batched=self.batched)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What else is known of a file that was written. `served_by` and `parameters` as in a Candidate."""

    notes: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()
    served_by: Backend | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


Recipe = Callable[[Order], Made]
