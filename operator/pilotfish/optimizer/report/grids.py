"""Values of an input as a small grid: which cell each value falls into, and sums by cell. Sums stay what they were."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.api.report_sections import InputAttribution
from pilotfish.optimizer.tensors import Array

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SIDE = 32
MOST_FEATURES = SIDE * SIDE
_MATRIX, _IMAGE = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """`cells` has the input's shape (one sample) and holds row * columns + column of each value's cell."""

    rows: int
    columns: int
    cells: Ints

    def sums(self, values: Array) -> Floats:
        """float64 array of the shape (rows * columns,): the sum of the values of each cell."""
        found = np.zeros(self.rows * self.columns, np.float64)
        np.add.at(found, self.cells.ravel(), values.astype(np.float64).ravel())
        return found

    def sizes(self) -> Ints:
        """How many values each cell has, in the input's shape."""
        counts = np.bincount(self.cells.ravel(), minlength=self.rows * self.columns)
        found: Ints = counts[self.cells]
        return found


def make_grid(shape: tuple[int, ...]) -> Grid:
    """The grid of one sample's shape: features in one row of at most 1024, anything with height and width 32 by 32.

    Height and width are the last two dimensions, or the first two of three where the last one is smaller: channels.
    """
    if len(shape) < _MATRIX:
        count = int(np.prod(shape, dtype=np.int64))
        columns = min(count, MOST_FEATURES)
        return Grid(rows=1, columns=columns, cells=_bins(count, columns).reshape(shape))
    channels_last = len(shape) == _IMAGE and shape[2] < shape[0]
    down, right = (0, 1) if channels_last else (len(shape) - 2, len(shape) - 1)
    rows, columns = min(shape[down], SIDE), min(shape[right], SIDE)
    row = _along(_bins(shape[down], rows), axis=down, dimensions=len(shape))
    column = _along(_bins(shape[right], columns), axis=right, dimensions=len(shape))
    return Grid(rows=rows, columns=columns, cells=np.broadcast_to(row * columns + column, shape))


def as_attribution(name: str, grid: Grid, values: Floats) -> InputAttribution:
    """The cells' figures, (rows * columns,), with six digits."""
    figures = tuple(float(f"{value:.6g}") for value in values)
    return InputAttribution(input=name, rows=grid.rows, columns=grid.columns, values=figures)


def _bins(count: int, bins: int) -> Ints:
    found: Ints = np.arange(count) * bins // max(count, 1)
    return found


def _along(places: Ints, *, axis: int, dimensions: int) -> Ints:
    return places.reshape([-1 if i == axis else 1 for i in range(dimensions)])
