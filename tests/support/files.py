"""Small TIFF files of all kinds, and sources that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.shutil import copy

from eoap_dask.scenes.model import Source

Pixels = np.ndarray[Any, np.dtype[Any]]


def source(href: str | Path, shape: tuple[int, int], nodata: int = 0) -> Source:
    """A source that says no more than where its file is, and how large."""
    return Source("B04", str(href), "EPSG:32632", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6), shape, 0, nodata)


def ramp(height: int, width: int, dtype: Any = np.uint16, seed: int = 0) -> Pixels:
    """Pixels that are all about different, and compress a little."""
    steps = np.random.default_rng(seed).integers(-3, 40, (height, width)).cumsum(axis=1)
    return (steps + 7 * np.arange(height)[:, None]).astype(dtype)


def write_gdal(path: Path, pixels: Pixels, *, driver: str = "GTiff", levels: int = 0, **options: Any) -> Path:
    """Write with GDAL. With the driver COG it makes the overviews by itself; else at most one of them has one pixel."""
    profile = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32632",
        "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    }
    if driver == "COG":
        plain = path.with_suffix(".plain.tif")
        with rasterio.open(plain, "w", driver="GTiff", nodata=options.pop("nodata", None), **profile) as dataset:
            dataset.write(pixels, 1)
        copy(plain, path, driver="COG", **options)
        plain.unlink()
        return path
    with rasterio.open(path, "w", driver="GTiff", **profile, **options) as dataset:
        dataset.write(pixels, 1)
        if levels := min(levels, max(1, (max(pixels.shape) - 1).bit_length())):  # GDAL refuses more
            dataset.build_overviews([2**n for n in range(1, levels + 1)], rasterio.enums.Resampling.average)
    return path


def write_tifffile(path: Path, *levels: Pixels, bigtiff: bool = False, **options: Any) -> Path:
    """Write with tifffile: header parts lie between the images' tiles, and overviews are what they are told to be."""
    place = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 5e6, 0.0), True)]
    options = {"tile": (64, 64), "photometric": "minisblack", "metadata": None, "extratags": place, **options}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for number, level in enumerate(levels):
            tiff.write(np.ascontiguousarray(level), subfiletype=1 if number else 0, **options)
    return path


def needed(path: Path, level: int, rows: tuple[int, int], cols: tuple[int, int]) -> set[int]:
    """Return all bytes of the tiles that hold some pixels, as tifffile sees them."""
    out: set[int] = set()
    with tifffile.TiffFile(path) as tiff:
        page: Any = [p for p in tiff.pages if p.subfiletype in (0, 1)][level]
        across = -(-page.imagewidth // page.tilewidth)
        for row in range(rows[0] // page.tilelength, (rows[1] - 1) // page.tilelength + 1):
            for col in range(cols[0] // page.tilewidth, (cols[1] - 1) // page.tilewidth + 1):
                start, size = (v[row * across + col] for v in (page.dataoffsets, page.databytecounts))
                out |= set(range(start, start + size))
    return out
