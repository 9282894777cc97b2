"""Cut chips as a script would, in a process of its own: ``python -m benchmarks.chip_contenders JOB.json``.

Cell by cell: search, stack what the cell's chips lie in with stackstac, drop clouds, take the median of the days, draw
the fields with geocube, and write every chip with rioxarray. Nothing of ours is in it but the list of chips.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.job import SavedJob

BANDS = ("blue", "green", "red", "nir", "rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")
HIDDEN = (0, 1, 3, 8, 9, 10)


@dataclass(frozen=True)
class CellJob:
    """A cell: the grid over its chips, and where each lies in it."""

    epsg: int
    bounds: tuple[float, float, float, float]
    """Of the grid: left, bottom, right, top."""
    degrees: tuple[float, float, float, float]
    """The same for a search."""
    chips: tuple[tuple[str, int, int], ...]
    """Name, first row and first column."""


@dataclass(frozen=True)
class ChipJob(SavedJob):
    """What is to be made, and how."""

    url: str
    collection: str
    dates: str
    cloud_cover: float
    fields: str
    """The vector file."""
    classes: dict[str, int]
    """Class of each code."""
    size_px: int
    cells: tuple[CellJob, ...]
    output: str
    workers: int = 2
    threads: int = 4

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the job of some JSON."""
        return cls(**{**content, "cells": tuple(CellJob(**cell) for cell in content["cells"])})


def script(job: ChipJob) -> None:
    """Make all images and masks."""
    import pystac_client
    from distributed import Client, LocalCluster

    for kind in ("images", "masks"):
        (Path(job.output) / kind).mkdir()
    catalogue = pystac_client.Client.open(job.url)
    cluster = LocalCluster(
        n_workers=job.workers, threads_per_worker=job.threads, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster):
        for cell in job.cells:
            items = catalogue.search(
                collections=[job.collection],
                bbox=cell.degrees,
                datetime=job.dates,
                query={"eo:cloud_cover": {"lt": job.cloud_cover}},
            ).item_collection()
            _cut(job, cell, items)


def _cut(job: ChipJob, cell: CellJob, items: Any) -> None:
    """Make the chips of a cell."""
    import geopandas
    import rioxarray  # noqa: F401 - adds .rio
    import shapely
    import stackstac
    from geocube.api.core import make_geocube

    for item in items:  # stackstac knows the older way to say it only
        code = item.properties.get("proj:code") or ""
        item.properties.setdefault("proj:epsg", int(code.removeprefix("EPSG:")))
    stack = stackstac.stack(
        items,
        assets=[*BANDS, "scl"],
        epsg=cell.epsg,
        resolution=10,
        bounds=cell.bounds,
        rescale=False,  # stored numbers, as ours
        xy_coords="center",  # what rioxarray takes them for; by default images are shifted by half a pixel
    )
    clear = ~stack.sel(band="scl").isin(HIDDEN)
    images = stack.sel(band=list(BANDS)).where(clear).median("time").compute()
    images = images.drop_vars([name for name in images.coords if name not in images.dims])
    images = images.fillna(0).astype("uint16").rio.write_crs(cell.epsg).rio.write_nodata(0)

    fields = geopandas.read_file(job.fields, bbox=shapely.box(*cell.degrees)).to_crs(cell.epsg)
    fields["class"] = fields["EC_hcat_c"].map(job.classes).fillna(0).astype("uint8")
    masks = make_geocube(fields, measurements=["class"], like=images, fill=0)["class"].astype("uint8")
    for name, row, col in cell.chips:
        window = {"y": slice(row, row + job.size_px), "x": slice(col, col + job.size_px)}
        for kind, cube in (("images", images), ("masks", masks)):
            path = Path(job.output) / kind / f"{name}.tif"
            cube.isel(window).rio.to_raster(path, driver="COG", compress="deflate", predictor="standard")


def main() -> None:
    """Do the job of the argument."""
    script(ChipJob.load(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
