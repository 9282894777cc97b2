"""Other ways to make the same monthly medians, each a script: ``python -m benchmarks.contenders JOB.json``.

They are written as their public examples and documentation have them, on the grid that `cloudless-mosaic` chose, and
write uint16 GeoTIFFs named by month. `ours` is our application through its Python door, for options that its command
line doesn't have. What a run says about itself, such as when it did what, is written to ``job.json`` in its output.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


@dataclass(frozen=True)
class Job:
    """What is to be made, and how."""

    contender: str
    url: str
    collection: str
    aoi: str
    start: str
    end: str
    bands: tuple[str, ...]
    crs: str
    shape: tuple[int, int]
    transform: tuple[float, ...]
    output: str
    workers: int = 2
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    """For ours: fields of `MosaicParams` and `RunOptions`."""

    @property
    def bbox(self) -> list[float]:
        """The area's bounding box in degrees."""
        return [float(edge) for edge in self.aoi.split(",")]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The grid's, in its CRS."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape[0], c + a * self.shape[1], f

    def save(self, path: Path) -> Path:
        """Write the job to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job."""
        content = json.loads(path.read_text())
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


class Phases:
    """Seconds since the process started, by what was reached."""

    def __init__(self) -> None:
        self.reached: dict[str, float] = {}

    def __call__(self, name: str) -> None:
        """Take note that something is reached now."""
        self.reached[name] = round(time.perf_counter() - STARTED, 3)


def peer(job: Job, phase: Phases) -> None:
    """Go the public peer's way: stackstac in float64, everything persisted, groupby, median, to_raster."""
    import rioxarray  # noqa: F401 - adds .rio
    import stackstac

    phase("imported")
    with _cluster(job):
        phase("cluster")
        items = _search(job)
        for item in items:  # stackstac knows the older way to say it only
            code = item.properties.get("proj:code") or ""
            item.properties.setdefault("proj:epsg", int(code.removeprefix("EPSG:")))
        phase("searched")
        stack = stackstac.stack(
            items,
            assets=list(job.bands),
            epsg=int(job.crs.removeprefix("EPSG:")),
            resolution=job.transform[0],
            bounds=job.bounds,
            chunksize=(10, 3, 512, 512),
            rescale=False,  # stored numbers, as everybody here
            xy_coords="center",  # what rioxarray takes them for; by default the product is shifted by half a pixel
        )
        stack = stack.persist()
        monthly = stack.groupby("time.month").median("time", skipna=True)
        for month in monthly.month.values.tolist():
            _write(job, month, monthly.sel(month=month))
        phase("written")


def odc_documented(job: Job, phase: Phases) -> None:
    """Use odc-stac as its documentation shows it: chunks of 2048, groupby, xarray's median."""
    import odc.stac
    import rioxarray  # noqa: F401
    import xarray as xr

    phase("imported")
    with _cluster(job) as client:
        phase("cluster")
        odc.stac.configure_rio(cloud_defaults=True, client=client)
        items = _search(job)
        phase("searched")
        cube = odc.stac.load(
            items,
            bands=list(job.bands),
            geobox=_geobox(job),
            chunks={"x": 2048, "y": 2048},
            groupby="solar_day",
            preserve_original_order=True,
        )
        data = cube.to_dataarray("band")
        monthly = xr.where(data > 0, data, float("nan")).groupby("time.month").median("time", skipna=True)
        for month in monthly.month.values.tolist():
            _write(job, month, monthly.sel(month=month))
        phase("written")


def odc_tuned(job: Job, phase: Phases) -> None:
    """Use odc-stac at its best: a month in one chunk of time, uint16 throughout, our median kernel, one compute."""
    import dask
    import odc.stac
    import rioxarray  # noqa: F401
    import xarray as xr

    from eoap_dask.kernels.composites import median

    phase("imported")
    with _cluster(job) as client:
        phase("cluster")
        odc.stac.configure_rio(cloud_defaults=True, client=client)
        items = _search(job)
        phase("searched")
        months = {}
        for month in sorted({item.datetime.month for item in items}):
            cube = odc.stac.load(
                [item for item in items if item.datetime.month == month],
                bands=list(job.bands),
                geobox=_geobox(job),
                chunks={"time": -1, "x": 2048, "y": 2048},
                groupby="solar_day",
                preserve_original_order=True,
                dtype="uint16",
                nodata=0,
            )
            bands = [
                cube[band]
                .isel(time=0, drop=True)
                .copy(data=cube[band].data.map_blocks(median, drop_axis=0, dtype="uint16"))
                for band in job.bands
            ]
            months[month] = xr.concat(bands, "band")
        (computed,) = dask.compute(months)
        phase("computed")
        for month, image in computed.items():
            _write(job, month, image)
        phase("written")


def ours(job: Job, phase: Phases) -> None:
    """Call our application from Python."""
    from eoap_dask import cloudless_mosaic

    phase("imported")
    cloudless_mosaic(
        stac=job.url,
        collection=job.collection,
        aoi=job.aoi,
        start_date=job.start,
        end_date=job.end,
        bands=job.bands,
        resolution=job.transform[0],
        output_dir=Path(job.output) / "mosaic",
        **job.options,
    )
    phase("written")


CONTENDERS: dict[str, Callable[[Job, Phases], None]] = {
    "peer": peer,
    "odc-documented": odc_documented,
    "odc-tuned": odc_tuned,
    "ours": ours,
}


@contextmanager
def _cluster(job: Job) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=job.workers, threads_per_worker=job.threads, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        yield client


def _search(job: Job) -> list[Any]:
    import pystac_client

    search = pystac_client.Client.open(job.url).search(
        collections=[job.collection], bbox=job.bbox, datetime=f"{job.start}/{job.end}"
    )
    # by day, then id: which of two tiles wins where both show a pass is then as in ours, for those who take one
    return sorted(search.items(), key=lambda item: (item.datetime.date(), item.id))


def _geobox(job: Job) -> Any:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox(job.shape, Affine(*job.transform), job.crs)


def _write(job: Job, month: int, image: Any) -> None:
    """Write one month: rounded, half up, 0 where there is nothing."""
    import numpy as np

    if image.dtype != "uint16":
        image = np.floor(image + 0.5).fillna(0).astype("uint16")
    image = image.drop_vars([name for name in image.coords if name not in image.dims])
    image = image.transpose("band", "y", "x").rio.write_crs(job.crs).rio.write_nodata(0)
    image.rio.to_raster(Path(job.output) / f"{month:02d}.tif", driver="COG", compress="deflate", predictor="yes")


def main() -> None:
    """Do the job of the argument."""
    job = Job.load(Path(sys.argv[1]))
    phase = Phases()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        CONTENDERS[job.contender](job, phase)
    (Path(job.output) / "job.json").write_text(json.dumps(phase.reached))


if __name__ == "__main__":
    main()
