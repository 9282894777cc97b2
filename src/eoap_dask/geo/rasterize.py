"""Pixels to shapes and back by rasterio, in any number of threads.

rasterio hides a warning of its own with `warnings.catch_warnings`, which changes the whole process: of two threads at
once, one would show the warning, and what the process hides or shows may stay changed. So it is one call at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox

from eoap_dask.geo.window import TILE, Window, window_bounds

if TYPE_CHECKING:
    from affine import Affine
    from shapely.geometry.base import BaseGeometry


_one = threading.Lock()


def _after_fork() -> None:
    global _one  # who held it isn't here
    _one = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def shapes(
    labels: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_], transform: Affine
) -> list[tuple[dict[str, Any], float]]:
    """Return the outline of what hangs together by the sides of its pixels, as GeoJSON, with its label.

    Parameters
    ----------
    labels : np.ndarray, (y, x), int32
    mask : np.ndarray, (y, x), bool
        False where nothing is outlined.
    transform
        From columns and rows to coordinates.
    """
    from rasterio import features

    with _one:
        return list(features.shapes(labels, mask=mask, connectivity=4, transform=transform))


def rasterize(parts: Sequence[BaseGeometry], shape: tuple[int, int], transform: Affine) -> npt.NDArray[np.uint8]:
    """Return (y, x) uint8: 1 where the centre of a pixel lies in one of the parts, 0 elsewhere.

    Parameters
    ----------
    parts
        In the coordinates of the transform.
    shape
        Rows and columns.
    transform
        From columns and rows to coordinates.
    """
    from rasterio import features

    with _one:
        painted: npt.NDArray[np.uint8] = features.rasterize(parts, shape, transform=transform, dtype="uint8")
    return painted


def rasterize_window(shape: shapely.Geometry | None, geobox: GeoBox, window: Window) -> npt.NDArray[np.bool_] | None:
    """Tell which pixels of a window have their centre inside a shape.

    Parameters
    ----------
    shape
        In the CRS of the grid; None for "no cut".
    geobox : GeoBox
        The whole grid.
    window : Window
        The part that is asked for.

    Returns
    -------
    np.ndarray, (y, x), bool, True = inside; None where nothing is cut in this window. Painted tile by tile on
    the grid's lattice, so that it doesn't depend on how the grid was cut into windows.
    """
    if shape is None or shapely.contains(shape, shapely.box(*window_bounds(geobox, window))):
        return None
    from affine import Affine

    a, _, c, _, e, f = (float(v) for v in tuple(geobox.transform)[:6])
    out = np.zeros(window.shape, bool)
    for row in range(window.row - window.row % TILE, window.row_stop, TILE):
        for col in range(window.col - window.col % TILE, window.col_stop, TILE):
            tile = Window(row, row + TILE, col, col + TILE)
            part = shapely.clip_by_rect(shape, *_padded(window_bounds(geobox, tile), geobox))
            if part.is_empty:
                continue
            painted = rasterize([part], (TILE, TILE), Affine(a, 0.0, c + a * col, 0.0, e, f + e * row))
            top, left = max(row, window.row), max(col, window.col)
            bottom, right = min(row + TILE, window.row_stop), min(col + TILE, window.col_stop)
            out[top - window.row : bottom - window.row, left - window.col : right - window.col] = painted[
                top - row : bottom - row, left - col : right - col
            ]
    return out


def _padded(bounds: tuple[float, float, float, float], geobox: GeoBox) -> tuple[float, float, float, float]:
    pad = 4 * abs(geobox.transform.a)
    return bounds[0] - pad, bounds[1] - pad, bounds[2] + pad, bounds[3] + pad
