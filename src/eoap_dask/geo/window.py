"""Windows of a grid, the blocks that cut it for work, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

TILE = 512
"""Side of an output tile in pixels; blocks and strips are cut on its lattice."""

Transform = tuple[float, float, float, float, float, float]
"""Affine a to f: columns and rows to coordinates."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of a grid, half open."""

    row: int
    row_stop: int
    col: int
    col_stop: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.row_stop - self.row, self.col_stop - self.col

    def slices(self, part: Window) -> tuple[slice, slice]:
        """Return where a part lies in an array of this window."""
        return (
            slice(part.row - self.row, part.row_stop - self.row),
            slice(part.col - self.col, part.col_stop - self.col),
        )

    def grown(self, by: int, shape: tuple[int, int]) -> Window:
        """Return a window with so many pixels around it, as far as a grid of this shape has them."""
        if not by:
            return self
        rows = max(self.row - by, 0), min(self.row_stop + by, shape[0])
        return Window(*rows, max(self.col - by, 0), min(self.col_stop + by, shape[1]))

    def strips(self, height: int) -> Iterator[Window]:
        """Cut into windows of at most this many rows, from the top."""
        for row in range(self.row, self.row_stop, height):
            yield Window(row, min(row + height, self.row_stop), self.col, self.col_stop)


def blocks(shape: tuple[int, int], side: int) -> tuple[Window, ...]:
    """Cut a grid into blocks of `side` pixels (512·2^k) from its top left corner, row by row."""
    height, width = shape
    return tuple(
        Window(row, min(row + side, height), col, min(col + side, width))
        for row in range(0, height, side)
        for col in range(0, width, side)
    )


def window_bounds(geobox: GeoBox, window: Window) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of a window, in units of the grid's CRS."""
    a, _, c, _, e, f = tuple(geobox.transform)[:6]
    xs = (c + a * window.col, c + a * window.col_stop)
    ys = (f + e * window.row, f + e * window.row_stop)
    return min(xs), min(ys), max(xs), max(ys)


def grid_bounds(geobox: GeoBox) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of a whole grid, in units of its CRS."""
    return window_bounds(geobox, Window(0, int(geobox.shape[0]), 0, int(geobox.shape[1])))
