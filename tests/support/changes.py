"""What changes of the demo's land must be, worked out by numpy and scipy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from scipy import ndimage

import eoap_dask as eo
from eoap_dask.demo.changes import ChangesArchive

Array = np.ndarray[Any, Any]


def image_path(run: Path, cell: str, year: int, what: str = "") -> Path:
    return run / "images" / str(year) / f"sentinel2_grid_{cell}_{year}_08{what}{'.tif' if what else '.tiff'}"


def mask_path(run: Path, cell: str, year: int, what: str = ".tif") -> Path:
    return run / "masks" / str(year) / f"change_mask_grid_{cell}_{year}{what}"


def read(path: Path) -> Array:
    with rasterio.open(path) as dataset:
        found: Array = dataset.read()
    return found


def cva_score(before: Array, after: Array, least_mad: float = 20.0) -> Array:
    """Robust CVA of two images, (band, y, x), 0 = nodata, as the papers have it: (y, x), NaN where either is blind."""
    seen = (before > 0).all(axis=0) & (after > 0).all(axis=0)
    difference = after.astype(float) - before.astype(float)
    total = np.zeros(seen.shape)
    for band in difference:
        middle = np.median(band[seen])
        mad = np.median(np.abs(band[seen] - middle))
        total += ((band - middle) / (1.4826 * max(mad, least_mad))) ** 2
    return np.where(seen, np.sqrt(total), np.nan)


def large_patches(changed: Array, least: int) -> Array:
    """Patches of at least so many pixels, counted over edges and corners."""
    patches, count = ndimage.label(changed, np.ones((3, 3)))
    sizes = ndimage.sum_labels(changed, patches, np.arange(count + 1))
    found: Array = changed & (sizes[patches] >= least)
    return found


def truth_of(archive: ChangesArchive, path: Path, before: int, year: int) -> Array:
    with rasterio.open(path) as dataset:
        return archive.truth(before, year, dataset.transform, dataset.shape)


def f1(mask: Array, truth: Array) -> float:
    """F1 of change where both dates are seen."""
    found, real = mask[mask > 0] == 2, truth[mask > 0]
    return float(2 * (found & real).sum() / (found.sum() + real.sum()))


def keys_of(run: eo.Run) -> list[str]:
    return [item["properties"]["eoap:unit"] for item in run.items]
