"""Outlines of burned areas: cut block by block on workers, joined by the client, whatever the blocks.

An area is 4-connected. Outlines run along pixel edges, in whole pixels of the grid, so that joining is exact. An area
that touches the grid's edge or an outside pixel is cut: it may go on beyond.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.geo.rasterize import shapes


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a burned area within a block."""

    wkb: bytes
    """Its outline, in columns and rows of the grid."""
    pixels: int
    weight: int
    """Sum of the pixels' weights."""
    cut: bool = False
    """Whether an outside pixel of the block lies beside it."""


Side = tuple[int, int, int, int]
"""A stretch of a block's side whose pixels are outside: column and row of its start and end."""


@dataclass(frozen=True, slots=True)
class Perimeter:
    """A whole burned area."""

    outline: shapely.Polygon
    """In columns and rows of the grid; without needless corners, normalised."""
    pixels: int
    weight: int
    cut: bool
    """Whether it touches the grid's edge or an outside pixel."""


def cut_pieces(
    burned: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.integer],
    row: int,
    col: int,
    min_pixels: int = 0,
    outside: npt.NDArray[np.bool_] | None = None,
) -> tuple[Piece, ...]:
    """Return the outlines of the burned areas in a block whose first pixel is at (row, col) of the grid.

    `burned`, `outside`: (y, x) bool, disjoint; `weights`: (y, x) integers, summed over each area. Areas of fewer than
    `min_pixels` are dropped unless they reach the block's edge.
    """
    from affine import Affine
    from scipy import ndimage

    rows, cols = np.flatnonzero(burned.any(axis=1)), np.flatnonzero(burned.any(axis=0))
    if not rows.size:
        return ()
    height, width = burned.shape
    top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
    labels, number = ndimage.label(burned[top:bottom, left:right])  # by the sides of pixels
    inside = labels != 0
    flat = labels[inside]
    pixels = np.bincount(flat, minlength=number + 1)
    # in floating point, but exact: whole numbers far below 2**53
    totals = np.bincount(flat, weights=weights[top:bottom, left:right][inside], minlength=number + 1)
    keep = pixels >= min_pixels
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    for is_edge, edge in zip((top == 0, bottom == height, left == 0, right == width), sides, strict=True):
        if is_edge:  # of the block: another may hold more of it
            keep[edge] = True
    keep[0] = False
    kept = keep[labels]
    touching = np.zeros(number + 1, bool)
    if outside is not None and outside.any():
        touching[labels[_beside(outside)[top:bottom, left:right]]] = True
    found = []
    place = Affine.translation(col + int(left), row + int(top))
    for outline, label in shapes(labels, kept, place):
        one = int(label)
        rings = outline["coordinates"]
        wkb = shapely.to_wkb(shapely.Polygon(rings[0], rings[1:]))
        found.append(Piece(wkb, int(pixels[one]), int(totals[one]), bool(touching[one])))
    return tuple(found)


def outside_sides(outside: npt.NDArray[np.bool_], row: int, col: int) -> tuple[Side, ...]:
    """Return where a block's sides are outside ((y, x) bool), for burned areas of the neighbouring blocks."""
    height, width = outside.shape
    found: list[Side] = []
    for line, x in ((outside[:, 0], col), (outside[:, -1], col + width)):
        found += [(x, row + start, x, row + stop) for start, stop in _runs(line)]
    for line, y in ((outside[0], row), (outside[-1], row + height)):
        found += [(col + start, y, col + stop, y) for start, stop in _runs(line)]
    return tuple(found)


def join_pieces(
    pieces: Iterable[Piece], shape: tuple[int, int], min_pixels: int = 0, sides: Iterable[Side] = ()
) -> tuple[Perimeter, ...]:
    """Join the pieces and sides of all blocks, in any order, into areas of at least `min_pixels`, the largest first.

    Of equal ones, the one that begins further up, then further left, comes first.
    """
    pieces = list(pieces)
    if not pieces:
        return ()
    outlines = shapely.from_wkb([p.wkb for p in pieces])
    areas = shapely.get_parts(shapely.union_all(outlines))
    pixels, weights = np.zeros(len(areas), np.int64), np.zeros(len(areas), np.int64)
    inside, area = shapely.STRtree(areas).query(shapely.point_on_surface(outlines), predicate="within")
    np.add.at(pixels, area, np.array([p.pixels for p in pieces])[inside])
    np.add.at(weights, area, np.array([p.weight for p in pieces])[inside])
    cut = _at_the_edge(areas, shape, sides)
    np.logical_or.at(cut, area, np.array([p.cut for p in pieces])[inside])
    found = [
        Perimeter(shapely.normalize(without_needless_corners(outline)), int(n), int(w), bool(c))
        for outline, n, w, c in zip(areas, pixels, weights, cut, strict=True)
        if n >= min_pixels
    ]
    return tuple(sorted(found, key=lambda p: (-p.pixels, p.outline.bounds[1], p.outline.bounds[0], p.outline.wkb)))


def without_needless_corners(outline: shapely.Polygon) -> shapely.Polygon:
    """Return a polygon without the vertices on straight edges that blocks leave where they met."""
    return shapely.Polygon(_corners(outline.exterior), [_corners(ring) for ring in outline.interiors])


def _corners(ring: shapely.LinearRing) -> npt.NDArray[np.float64]:
    points = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: npt.NDArray[np.float64] = points[turns]
    return corners


def _beside(outside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels that have a true one at one of their sides."""
    found = np.zeros_like(outside)
    found[1:] |= outside[:-1]
    found[:-1] |= outside[1:]
    found[:, 1:] |= outside[:, :-1]
    found[:, :-1] |= outside[:, 1:]
    return found


def _runs(line: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of the runs of true values in a line."""
    steps = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(stop)) for start, stop in steps.reshape(-1, 2)]


def _at_the_edge(areas: npt.NDArray[Any], shape: tuple[int, int], sides: Iterable[Side]) -> npt.NDArray[np.bool_]:
    """Tell which areas touch the edge of the grid, or outside pixels across a block's side."""
    left, top, right, bottom = shapely.bounds(areas).T
    found: npt.NDArray[np.bool_] = (left <= 0) | (top <= 0) | (right >= shape[1]) | (bottom >= shape[0])
    ends = np.array(list(sides), float).reshape(-1, 2, 2)
    # a bit shorter, so that corners don't count: edges run along whole numbers
    ends += 0.25 * np.sign(ends[:, ::-1] - ends)
    found[shapely.STRtree(shapely.linestrings(ends)).query(shapely.boundary(areas), predicate="intersects")[0]] = True
    return found
