"""What chips must show, read by rasterio from the archive's files and put together by numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio

from eoap_dask.demo.farmland import FARM_BANDS
from eoap_dask.demo.fields import FieldsArchive

DROPPED = (0, 1, 3, 8, 9, 10)
"""Classes of pixels that aren't seen clearly."""


def observed(
    farm: FieldsArchive, days: Sequence[str], dataset: Any, bands: Sequence[str] = FARM_BANDS
) -> np.ndarray[Any, Any]:
    """Return (day, band, y, x) of a chip's place, read by rasterio and repeated, 0 where the ground isn't seen."""
    stack = []
    for item in farm.items:
        if item["properties"]["datetime"][:10] not in days:
            continue
        layers = []
        for band in (*bands, "scl"):
            with rasterio.open(farm.root / item["assets"][band]["href"]) as source:
                side = source.transform.a
                grown = source.read(1).repeat(side // 10, axis=0).repeat(side // 10, axis=1)
                row = round((source.transform.f - dataset.transform.f) / 10)
                col = round((dataset.transform.c - source.transform.c) / 10)
                whole = np.zeros((dataset.height, dataset.width), grown.dtype)
                rows = slice(max(row, 0), min(row + dataset.height, grown.shape[0]))
                cols = slice(max(col, 0), min(col + dataset.width, grown.shape[1]))
                whole[rows.start - row : rows.stop - row, cols.start - col : cols.stop - col] = grown[rows, cols]
                layers.append(whole)
        pixels, classes = np.array(layers[:-1]), layers[-1]
        pixels[:, np.isin(classes, DROPPED) | (pixels == 0).any(axis=0)] = 0
        stack.append(pixels)
    return np.array(stack)


def median_of(seen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the median of what is seen, (band, y, x), half up; 0 where it never is."""
    values = np.where(seen == 0, np.nan, seen.astype(float))
    with np.errstate(all="ignore"):
        middle = np.floor(np.nanmedian(values, axis=0) + 0.5)
    found: np.ndarray[Any, Any] = np.nan_to_num(middle).astype(np.uint16)
    return found
