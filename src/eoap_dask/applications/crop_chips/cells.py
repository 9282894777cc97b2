"""Cells: each is a unit, and each field is in one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.errors import UsageError
from eoap_dask.text import option, plain, plural

MOST_CELLS = 100_000
"""Cells of a grid, at most."""

Points = npt.NDArray[np.float64]
"""(n, 2), x and y."""


@dataclass(frozen=True)
class Cell:
    """One cell."""

    row: int
    """From north; of cells from a file about so."""
    col: int
    name: str
    shape: shapely.Polygon | shapely.MultiPolygon
    """In the CRS of the cells."""


class Cells(Protocol):
    """Cells, by number."""

    def of(self, points: Points) -> npt.NDArray[np.int64]:
        """Return the number of the one cell that each point is in; -1 where it is in none."""
        ...

    def cell(self, number: int) -> Cell:
        """Return a cell by its number."""
        ...


@dataclass(frozen=True)
class Lattice:
    """Rows and columns of equal cells, from north and west. A point on a border is in the cell south or east of it."""

    left: float
    top: float
    width: float
    height: float
    rows: int
    cols: int

    @classmethod
    def over(cls, bounds: tuple[float, float, float, float], count: int) -> Lattice:
        """Return `count` rows and columns over left, bottom, right, top."""
        left, bottom, right, top = bounds
        if not (right > left and top > bottom):
            raise UsageError(
                "The fields have no extent, so that no grid lies over it.",
                "Expected fields side by side.",
                f"Try {option('cell_size', 5000)}.",
            )
        _check_count(count, count, option("grid", count))
        return cls(left, top, (right - left) / count, (top - bottom) / count, count, count)

    @classmethod
    def of_size(cls, bounds: tuple[float, float, float, float], size: float) -> Lattice:
        """Return square cells over bounds, whose borders are at multiples of their size."""
        left, bottom, right, top = (value / size for value in bounds)
        first, last = math.floor(left), math.floor(right)
        upper, lower = math.ceil(top), math.ceil(bottom) - 1
        cols, rows = last - first + 1, upper - lower
        _check_count(rows, cols, option("cell_size", plain(size)))
        return cls(first * size, upper * size, size, size, rows, cols)

    def of(self, points: Points) -> npt.NDArray[np.int64]:
        """Return the number of each point's cell; those on the last borders are within."""
        col = np.floor((points[:, 0] - self.left) / self.width).astype(np.int64)
        row = np.floor((self.top - points[:, 1]) / self.height).astype(np.int64)
        col[points[:, 0] == self.left + self.cols * self.width] = self.cols - 1
        row[points[:, 1] == self.top - self.rows * self.height] = self.rows - 1
        # what rounding put beyond the extent that the points are from
        return np.clip(row, 0, self.rows - 1) * self.cols + np.clip(col, 0, self.cols - 1)

    def cell(self, number: int) -> Cell:
        """Return a cell by its number."""
        row, col = divmod(int(number), self.cols)
        left, top = self.left + col * self.width, self.top - row * self.height
        digits = max(2, len(str(max(self.rows, self.cols) - 1)))
        shape = shapely.box(left, top - self.height, left + self.width, top)
        return Cell(row, col, f"cell{row:0{digits}d}{col:0{digits}d}", shape)


@dataclass(frozen=True)
class Listed:
    """Cells from a file, numbered in its order; a point in several is in the first."""

    shapes: tuple[shapely.Geometry, ...]

    def of(self, points: Points) -> npt.NDArray[np.int64]:
        """Return the number of each point's cell."""
        found = np.full(len(points), len(self.shapes), np.int64)
        which, cell = self._tree.query(shapely.points(points), predicate="intersects")
        np.minimum.at(found, which, cell)
        found[found == len(self.shapes)] = -1
        return found

    def cell(self, number: int) -> Cell:
        """Return a cell by its number."""
        digits = max(4, len(str(len(self.shapes) - 1)))
        left, _, _, top = self._edges
        width, height = (float(side) for side in self._sides)
        x, y = shapely.get_coordinates(shapely.centroid(self.shapes[number]))[0]
        row, col = int((top.max() - y) / height), int((x - left.min()) / width)
        return Cell(row, col, f"cell{number:0{digits}d}", self.shapes[number])

    @cached_property
    def _edges(self) -> tuple[npt.NDArray[np.float64], ...]:
        return tuple(shapely.bounds(np.array(self.shapes, object)).T)

    @cached_property
    def _sides(self) -> npt.NDArray[np.float64]:
        """Width and height of most cells: by these, neighbours are in blocks together."""
        left, bottom, right, top = self._edges
        return np.median([right - left, top - bottom], axis=1)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)


def _check_count(rows: int, cols: int, given: str) -> None:
    if rows * cols > MOST_CELLS:
        raise UsageError(
            f"{given} makes {plural(rows * cols, 'cell')}.",
            f"Expected at most {MOST_CELLS}.",
            "Try larger or fewer cells.",
        )
