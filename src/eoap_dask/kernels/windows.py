"""Windows over a grid for what sees a picture at once, such as a network: where they lie, what they show, their blend.

The windows of a grid depend on its shape alone, and what they come to is added up in whole numbers: the result doesn't
depend on blocks, strips, or the order of windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Stored = npt.NDArray[np.uint16]
Picture = npt.NDArray[np.uint8]
Steps = npt.NDArray[np.uint16]
Pair = tuple[Picture, Picture]

FULL_WEIGHT = 4096
"""Of a pixel that isn't near a border of its window."""
REFLECTANCE = 10000
"""Stored units of a reflectance of one."""


@lru_cache(64)
def starts(length: int, window: int, overlap: int) -> tuple[int, ...]:
    """Return where windows begin along a side: evenly, from edge to edge, overlapping by `overlap` at least.

    One window, in the middle, where the side is no longer than it.
    """
    if length <= window:
        return (-((window - length) // 2),)
    count = -(-(length - overlap) // (window - overlap))
    return tuple(number * (length - window) // (count - 1) for number in range(count))


@lru_cache(8)
def ramp(window: int, overlap: int) -> npt.NDArray[np.int64]:
    """Return the weights of pixels along a window: from its border they rise within `overlap` to 4096, and stay there.

    They rise as (3t² − 2t³)³: what windows tell of their own borders, where they see one side only, counts for next to
    nothing, and few pixels are a mixture, which differs less from its neighbours than what one window tells.
    """
    length = max(overlap, 1)
    axis = np.arange(window, dtype=np.int64)
    inside = np.minimum(np.minimum(axis + 1, window - axis), length)
    smooth = inside**2 * (3 * length - 2 * inside) / length**3
    weights: npt.NDArray[np.int64] = (smooth * smooth * smooth * FULL_WEIGHT).astype(np.int64)
    return np.maximum(weights, 1)


@lru_cache(8)
def stretch_table(low: float, high: float) -> Picture:
    """Return the grey value of each stored value: reflectances from low to high become 0 to 255, rounded."""
    black, white = low * REFLECTANCE, high * REFLECTANCE  # in stored units, in which halves are exact
    grey = (np.arange(1 << 16) - black) * 255 / (white - black)
    table: Picture = np.floor(np.clip(grey, 0, 255) + 0.5).astype(np.uint8)
    return table


@dataclass(frozen=True)
class Lattice:
    """The windows over grids."""

    window: int
    """Side in pixels."""
    overlap: int
    """Pixels that two windows beside each other share, at least."""
    least_seen: float
    """Share of a window's pixels in the grid that must be seen on both dates; it tells nothing with less."""

    def blend(
        self,
        dates: tuple[Stored, Stored],
        table: Picture,
        corner: tuple[int, int],
        shape: tuple[int, int],
        judge: Callable[[Sequence[Pair]], Sequence[Steps]],
    ) -> tuple[Steps, npt.NDArray[np.bool_]]:
        """Return what windows come to, blended, for the pixels that lie a window's side from all borders.

        Parameters
        ----------
        dates
            Two images of three bands, (band, y, x), uint16, 0 = no data.
        table
            Grey values, from `stretch_table`.
        corner
            Row and column of their first pixel in the grid.
        shape
            The grid's.
        judge
            Gets pairs of pictures, (3, window, window) each, and returns an image in whole steps for each.

        Returns
        -------
        np.ndarray, (y, x), uint16
            0 where nothing is known; beside it, whether something is.
        """
        side = self.window
        height, width = (length - 2 * side for length in dates[0].shape[1:])
        seen = (dates[0] != 0).all(0) & (dates[1] != 0).all(0)
        total = np.zeros((height, width), np.int64)
        weight = np.zeros((height, width), np.int64)
        first, last = (corner[0] + side, corner[1] + side), (corner[0] + side + height, corner[1] + side + width)
        places, pairs = [], []
        pictures = _pictures(dates, table, seen)
        for row in starts(shape[0], side, self.overlap):
            for col in starts(shape[1], side, self.overlap):
                if not (row < last[0] and row + side > first[0] and col < last[1] and col + side > first[1]):
                    continue
                own = slice(row - corner[0], row - corner[0] + side), slice(col - corner[1], col - corner[1] + side)
                inside = [min(at + side, length) - max(at, 0) for at, length in zip((row, col), shape, strict=True)]
                known = int(np.count_nonzero(seen[own]))
                if not known or known < self.least_seen * inside[0] * inside[1]:
                    continue
                places.append((row - first[0], col - first[1]))
                pairs.append((pictures[0][:, *own], pictures[1][:, *own]))
        weights = ramp(side, self.overlap)
        for (row, col), steps in zip(places, judge(pairs) if pairs else (), strict=True):
            rows, cols = slice(max(row, 0), min(row + side, height)), slice(max(col, 0), min(col + side, width))
            part = slice(rows.start - row, rows.stop - row), slice(cols.start - col, cols.stop - col)
            mine = weights[part[0], None] * weights[None, part[1]]
            total[rows, cols] += mine * steps[part]
            weight[rows, cols] += mine
        known_there = (weight > 0) & seen[side : side + height, side : side + width]
        blended = (total + weight // 2) // np.maximum(weight, 1)
        return np.where(known_there, blended, 0).astype(np.uint16), known_there


def _pictures(dates: tuple[Stored, Stored], table: Picture, seen: npt.NDArray[np.bool_]) -> Pair:
    """Return both dates in grey values; where one isn't seen, the other's in both, so that nothing changes there."""
    before, after = (table[one] for one in dates)
    hidden = ~seen
    if hidden.any():
        is_there = [(one != 0).all(0)[hidden] for one in dates]
        filled = np.where(is_there[0], before[:, hidden], np.where(is_there[1], after[:, hidden], 0))
        before[:, hidden] = after[:, hidden] = filled
    return before, after
