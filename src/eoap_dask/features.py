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
