"""Outlines of burned areas: cut block by block on workers, joined by the client, the same whatever the blocks.

An area is what hangs together by the sides of its pixels. Outlines run along pixels' edges; until the end they are in
whole pixels of the grid, so that joining them is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely


@dataclass(frozen=True, slots=True)
class Piece:
    """What a block sees of a burned area."""

    wkb: bytes
    """Its outline, in columns and rows of the grid."""
    pixels: int
    weight: int
    """Sum of a number that every pixel has."""


@dataclass(frozen=True, slots=True)
class Perimeter:
    """A whole burned area."""

    outline: shapely.Polygon
    """In columns and rows of the grid; without needless corners, and in a normal form."""
    pixels: int
    weight: int


def cut_pieces(
    burned: npt.NDArray[np.bool_], weights: npt.NDArray[np.integer], row: int, col: int, min_pixels: int = 0
) -> tuple[Piece, ...]:
    """Return the outlines of what burned in a block.

    Parameters
    ----------
    burned : np.ndarray, (y, x), bool
    weights : np.ndarray, (y, x), integers
        Summed over each area.
    row, col
        Of the block's first pixel in the grid.
    min_pixels
        Smaller areas are left out, where no other block can hold more of them.
    """
    from affine import Affine
    from rasterio.features import shapes
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
    found = []
    place = Affine.translation(col + int(left), row + int(top))
    for outline, label in shapes(labels, mask=kept, connectivity=4, transform=place):
        one = int(label)
        rings = outline["coordinates"]
        found.append(Piece(shapely.to_wkb(shapely.Polygon(rings[0], rings[1:])), int(pixels[one]), int(totals[one])))
    return tuple(found)


def join_pieces(pieces: Iterable[Piece], min_pixels: int = 0) -> tuple[Perimeter, ...]:
    """Return whole areas, the largest first; of equal ones, the one that begins further up and to the left.

    Parameters
    ----------
    pieces
        Of all blocks, in any order.
    min_pixels
        Smaller areas are left out.
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
    found = [
        Perimeter(shapely.normalize(without_needless_corners(outline)), int(n), int(w))
        for outline, n, w in zip(areas, pixels, weights, strict=True)
        if n >= min_pixels
    ]
    return tuple(sorted(found, key=lambda p: (-p.pixels, p.outline.bounds[1], p.outline.bounds[0], p.outline.wkb)))


def without_needless_corners(outline: shapely.Polygon) -> shapely.Polygon:
    """Return a polygon without the points at which its edge runs straight on: blocks leave such where they met."""
    return shapely.Polygon(_corners(outline.exterior), [_corners(ring) for ring in outline.interiors])


def _corners(ring: shapely.LinearRing) -> npt.NDArray[np.float64]:
    points = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: npt.NDArray[np.float64] = points[turns]
    return corners
