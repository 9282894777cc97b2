"""Find change as a script would, in a process of its own: ``python -m benchmarks.change_contenders JOB.json``.

Cell by cell: search each year, load with odc-stac, drop clouds, take the median, write the image; then robust change
vector analysis of each pair with numpy, Otsu's threshold, patches with scipy, score and mask as COGs and the mask as
PNG. Nothing of ours is in it but the list of cells.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.job import SavedJob

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
HIDDEN = (0, 1, 3, 8, 9, 10)
LEAST = 4.1002


@dataclass(frozen=True)
class GridJob:
    """A cell: its id, and the grid over it."""

    id: str
    epsg: int
    bounds: tuple[float, float, float, float]
    """Left, bottom, right, top."""
    degrees: tuple[float, float, float, float]


@dataclass(frozen=True)
class ChangeJob(SavedJob):
    """What is to be made, and how."""

    url: str
    collection: str
    years: tuple[int, ...]
    month: int
    cloud_cover: float
    cells: tuple[GridJob, ...]
    output: str
    workers: int = 2
    threads: int = 4

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the job of some JSON."""
        cells = tuple(
            GridJob(**{**one, "bounds": tuple(one["bounds"]), "degrees": tuple(one["degrees"])})
            for one in content["cells"]
        )
        return cls(**{**content, "years": tuple(content["years"]), "cells": cells})


def script(job: ChangeJob) -> None:
    """Make all images and masks."""
    import pystac_client
    from distributed import Client, LocalCluster

    catalogue = pystac_client.Client.open(job.url)
    for year in job.years:
        for kind in ("images", "masks"):
            (Path(job.output) / kind / str(year)).mkdir(parents=True)
    cluster = LocalCluster(
        n_workers=job.workers, threads_per_worker=job.threads, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster):
        for cell in job.cells:
            before = None
            for year in job.years:
                image = _image(job, cell, catalogue, year)
                if before is not None:
                    _compare(job, cell, before, image, year)
                before = image


def _image(job: ChangeJob, cell: GridJob, catalogue: Any, year: int) -> Any:
    import odc.stac
    import rioxarray  # noqa: F401 - adds .rio
    from odc.geo.geobox import GeoBox

    items = catalogue.search(
        collections=[job.collection],
        bbox=cell.degrees,
        datetime=f"{year}-{job.month:02d}-01/{year}-{job.month:02d}-28",
        query={"eo:cloud_cover": {"lt": job.cloud_cover}},
    ).item_collection()
    grid = GeoBox.from_bbox(cell.bounds, f"EPSG:{cell.epsg}", resolution=10)
    cube = odc.stac.load(items, bands=[*BANDS, "scl"], geobox=grid, chunks={"x": 512, "y": 512}, groupby="solar_day")
    clear = ~cube["scl"].isin(HIDDEN)
    bands = cube[list(BANDS)].where(clear & (cube[list(BANDS)] != 0)).median("time").compute()
    image = bands.fillna(0).round().astype("uint16").to_dataarray("band").rio.write_crs(cell.epsg).rio.write_nodata(0)
    path = Path(job.output) / "images" / str(year) / f"sentinel2_grid_{cell.id}_{year}_{job.month:02d}.tiff"
    image.rio.to_raster(path, driver="COG", compress="deflate", predictor="standard")
    return image


def _compare(job: ChangeJob, cell: GridJob, before: Any, after: Any, year: int) -> None:
    from PIL import Image
    from scipy import ndimage

    first, last = before.to_numpy().astype(float), after.to_numpy().astype(float)
    seen = (first > 0).all(axis=0) & (last > 0).all(axis=0)
    total = np.zeros(seen.shape)
    for band in last - first:
        middle = np.median(band[seen])
        mad = np.median(np.abs(band[seen] - middle))
        total += ((band - middle) / (1.4826 * max(mad, 20))) ** 2
    score = np.sqrt(total)
    patches, count = ndimage.label(seen & (score > max(_otsu(score[seen]), LEAST)), np.ones((3, 3)))
    sizes = np.bincount(patches.ravel(), minlength=count + 1)
    sizes[0] = 0
    mask = np.where(seen, np.where(sizes[patches] >= 6, 2, 1), 0).astype("uint8")
    stored = np.where(seen, np.clip(np.round(score * 100), 1, 65535), 0).astype("uint16")
    stem = Path(job.output) / "masks" / str(year) / f"change_mask_grid_{cell.id}_{year}"
    for name, image in (("_score", stored), ("", mask)):
        out = before.isel(band=0).copy(data=image).rio.write_nodata(0)
        out.rio.to_raster(f"{stem}{name}.tif", driver="COG", compress="deflate")
    Image.fromarray(np.where(mask == 2, 255, 0).astype("uint8")).save(f"{stem}.png")


def _otsu(scores: Any) -> float:
    """Return the threshold with most variance between both sides, in steps of 1/32 up to 16.4."""
    counts, edges = np.histogram(np.minimum(scores, 4 * LEAST), bins=np.arange(0, 4 * LEAST + 1 / 16, 1 / 32))
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(all="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.argmax(np.nan_to_num(between))])


def main() -> None:
    """Do the job of the argument."""
    script(ChangeJob.load(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
