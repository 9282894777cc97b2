"""How many pixels of a grid have their centre in a shape, without painting all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import shapely
from odc.geo.geobox import GeoBox

from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import TILE, Window, window_bounds


def holds_a_centre(shape: shapely.Geometry, geobox: GeoBox) -> bool:
    """Tell whether a shape in the grid's CRS holds the centre of a pixel."""
    return any(_counts(shape, geobox, _whole(geobox)))


@lru_cache(64)
def count_inside(wkb: bytes, geobox: GeoBox) -> int:
    """Return how many pixels have their centre in a shape in the grid's CRS, as `rasterize_window` has it."""
    return sum(_counts(shapely.from_wkb(wkb), geobox, _whole(geobox)))


def _whole(geobox: GeoBox) -> Window:
    return Window(0, int(geobox.shape[0]), 0, int(geobox.shape[1]))


def _counts(shape: shapely.Geometry, geobox: GeoBox, window: Window) -> Iterator[int]:
    """Yield the pixels inside, piece by piece: windows that the shape's outline crosses are quartered."""
    bounds = window_bounds(geobox, window)
    shape = _near(shape, bounds)
    height, width = window.shape
    if shape.is_empty:
        return
    if max(window.shape) <= TILE:
        inside = rasterize_window(shape, geobox, window)
        yield height * width if inside is None else int(inside.sum())
    elif shapely.contains(shape, shapely.box(*bounds)):
        yield height * width
    else:
        # on the lattice of tiles, so that each is painted once
        row = window.row + TILE * max(1, height // TILE // 2) if height > TILE else window.row_stop
        col = window.col + TILE * max(1, width // TILE // 2) if width > TILE else window.col_stop
        for top, bottom in ((window.row, row), (row, window.row_stop)):
            for left, right in ((window.col, col), (col, window.col_stop)):
                part = Window(top, bottom, left, right)
                if min(part.shape):
                    yield from _counts(shape, geobox, part)


def _near(shape: shapely.Geometry, bounds: tuple[float, float, float, float]) -> shapely.Geometry:
    """Return the parts of a shape whose own bounds touch some bounds: all that has pixels within them."""
    parts = shapely.get_parts(shape)
    left, bottom, right, top = shapely.bounds(parts).T
    near = (left <= bounds[2]) & (right >= bounds[0]) & (bottom <= bounds[3]) & (top >= bounds[1])
    return shape if near.all() else shapely.MultiPolygon(list(parts[near]))
