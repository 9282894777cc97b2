"""Pixels to shapes and back with rasterio, from any number of threads, one call at a time.

rasterio hides a warning with `warnings.catch_warnings`, which changes the whole process: with two threads in it, a
warning may be shown, and the process's filters may stay changed.
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


_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # the thread that held it wasn't forked
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def shapes(
    labels: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_], transform: Affine
) -> list[tuple[dict[str, Any], float]]:
    """Return the outline, as GeoJSON, and the label of each 4-connected part of (y, x) int32 labels.

    Pixels where `mask` is False belong to none.
    """
    from rasterio import features

    with _lock:
        return list(features.shapes(labels, mask=mask, connectivity=4, transform=transform))


def rasterize(parts: Sequence[BaseGeometry], shape: tuple[int, int], transform: Affine) -> npt.NDArray[np.uint8]:
    """Return (y, x) uint8, 1 where a pixel's centre lies in one of the parts, in the transform's coordinates."""
    return paint([(part, 1) for part in parts], shape, transform)


def paint(
    parts: Sequence[tuple[BaseGeometry, int]], shape: tuple[int, int], transform: Affine
) -> npt.NDArray[np.uint8]:
    """Return (y, x) uint8, the value of the last part that holds a pixel's centre, 0 where none does."""
    from rasterio import features

    if not parts:
        return np.zeros(shape, np.uint8)
    with _lock:
        painted: npt.NDArray[np.uint8] = features.rasterize(parts, shape, transform=transform, dtype="uint8")
    return painted


def rasterize_window(shape: shapely.Geometry | None, geobox: GeoBox, window: Window) -> npt.NDArray[np.bool_] | None:
    """Return (y, x) bool, True where a pixel's centre lies inside a shape in the grid's CRS; None where nothing is cut.

    Painted tile by tile on the grid's lattice, so that the result doesn't depend on the windows. No shape means no cut.
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
