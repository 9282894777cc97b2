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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.job import SavedJob

STARTED = time.perf_counter()


@dataclass(frozen=True)
class Job(SavedJob):
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
    def origin(self) -> str:
        """Scheme and place of the server."""
        return "/".join(self.url.split("/")[:3])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The grid's, in its CRS."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape[0], c + a * self.shape[1], f


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
    with _cluster(job, tuned=True) as client:
        phase("cluster")
        odc.stac.configure_rio(cloud_defaults=True, client=client)
        items = _search(job)
        phase("searched")
        months = {}
        for month, those in _by_month(items).items():
            cube = odc.stac.load(
                those,
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
            _write(job, month, image, tuned=True)
        phase("written")


def stackstac_tuned(job: Job, phase: Phases) -> None:
    """Use stackstac at its best: a month in one chunk of time, uint16 throughout, our median kernel, one compute."""
    import dask
    import numpy as np
    import rioxarray  # noqa: F401
    import stackstac

    phase("imported")
    with _cluster(job, tuned=True):
        phase("cluster")
        items = _search(job)
        for item in items:
            code = item.properties.get("proj:code") or ""
            item.properties.setdefault("proj:epsg", int(code.removeprefix("EPSG:")))
        phase("searched")
        months = {}
        for month, those in _by_month(items).items():
            stack = stackstac.stack(
                those,
                assets=list(job.bands),
                epsg=int(job.crs.removeprefix("EPSG:")),
                resolution=job.transform[0],
                bounds=job.bounds,
                snap_bounds=False,
                chunksize=(-1, 1, 2048, 2048),
                dtype=np.dtype(np.uint16),
                fill_value=np.uint16(0),
                rescale=False,
                sortby_date=False,
                xy_coords="center",
            )
            medians = stack.data.map_blocks(
                _median_of_passes, passes=_passes(those), dtype="uint16", drop_axis=0, meta=np.empty((0, 0, 0), "u2")
            )
            months[month] = stack.isel(time=0, drop=True).copy(data=medians)
        (computed,) = dask.compute(months)
        phase("computed")
        for month, image in computed.items():
            _write(job, month, image, tuned=True)
        phase("written")


def lazycogs_tuned(job: Job, phase: Phases) -> None:
    """Use lazycogs at its best: its own day mosaics, a month in one chunk of time, uint16, our median kernel.

    Dask's threads in one process: lazycogs 0.7 can't be sent to other processes (its DuckDB client can't be pickled).
    """
    import asyncio

    import dask

    _duckdb_extensions(Path(job.output))
    import lazycogs
    import rioxarray  # noqa: F401
    import rustac
    from obstore.store import HTTPStore

    from eoap_dask.kernels.composites import median

    phase("imported")
    parquet = str(Path(job.output) / "items.parquet")

    async def search() -> None:
        dates = f"{job.start}T00:00:00Z/{job.end}T23:59:59Z"
        await rustac.search_to(parquet, job.url, collections=[job.collection], bbox=job.bbox, datetime=dates)

    asyncio.run(search())
    items = _search(job)  # only to know the months
    phase("searched")
    store = HTTPStore.from_url(job.origin, client_options={"allow_http": True})
    months = {}
    for month, those in _by_month(items).items():
        first, last = those[0].datetime, those[-1].datetime
        cube = lazycogs.open(
            parquet,
            datetime=f"{first:%Y-%m-%d}T00:00:00Z/{last:%Y-%m-%d}T23:59:59Z",
            bbox=job.bounds,
            crs=job.crs,
            resolution=job.transform[0],
            bands=list(job.bands),
            chunks={"band": 1, "time": -1, "y": 2048, "x": 2048},
            sortby="id",
            dtype="uint16",
            nodata=0,
            store=store,
        ).transpose("band", "time", "y", "x")
        medians = cube.data.map_blocks(_over_time, kernel=median, drop_axis=1, dtype="uint16")
        months[month] = cube.isel(time=0, drop=True).copy(data=medians)
    with dask.config.set(scheduler="threads", num_workers=job.workers * job.threads):
        (computed,) = dask.compute(months)
    phase("computed")
    for month, image in computed.items():
        _write(job, month, image, tuned=True)
    phase("written")


def rasteret_tuned(job: Job, phase: Phases) -> None:
    """Use rasteret as it is meant for time series: an index of the headers first, then one read per month, no Dask."""
    import numpy as np
    import rasteret
    import rioxarray  # noqa: F401
    import xarray as xr
    from obstore.store import HTTPStore
    from rasteret.cloud import ObstoreBackend

    phase("imported")
    store = HTTPStore.from_url(job.origin, client_options={"allow_http": True})
    backend = ObstoreBackend(store, url_prefix=job.origin + "/")
    collection = rasteret.build_from_stac(
        name="suite",
        stac_api=job.url,
        collection=job.collection,
        band_map={band: band for band in job.bands},
        bbox=tuple(job.bbox),
        date_range=(job.start, job.end),
        workspace_dir=Path(job.output) / "index",
        backend=backend,
    )
    phase("indexed")
    items = _search(job)  # only to know the months
    phase("searched")
    a, _, c, _, e, f = job.transform
    y, x = f + e * (np.arange(job.shape[0]) + 0.5), c + a * (np.arange(job.shape[1]) + 0.5)
    for month, those in _by_month(items).items():
        cube = collection.read_window(
            record_ids=[item.id for item in those],
            bounds=job.bounds,
            res=(a, -e),
            bands=list(job.bands),
            target_crs=int(job.crs.removeprefix("EPSG:")),
            group_by="id",
            backend=backend,
        )
        image = _median_of_passes(cube, _passes(those))
        _write(job, month, xr.DataArray(image, {"y": y, "x": x}, ("band", "y", "x")), tuned=True)
    phase("written")


def _duckdb_extensions(home: Path) -> None:
    """Give DuckDB its extensions from packages that hold them: it would fetch them from its own server."""
    import os
    from importlib.util import find_spec

    system = "linux" if sys.platform == "linux" else "osx"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    for name in ("icu", "parquet", "spatial"):
        spec = find_spec(f"duckdb_extension_{name}")
        for found in Path(str(spec.origin)).parent.glob(f"extensions/*/{name}.duckdb_extension") if spec else ():
            place = home / ".duckdb" / "extensions" / found.parent.name / f"{system}_{machine}"
            place.mkdir(parents=True, exist_ok=True)
            (place / found.name).symlink_to(found)
            os.environ["HOME"] = str(home)  # of the workers as well


def _over_time(block: Any, kernel: Any) -> Any:
    """Apply a kernel to every band of (band, time, y, x)."""
    import numpy as np

    return np.stack([kernel(np.ascontiguousarray(band)) for band in block])


def _passes(items: list[Any]) -> list[list[int]]:
    """Return the numbers of the items of each pass, in their order: two tiles that saw the same pass are one."""
    passes: dict[Any, list[int]] = {}
    for number, item in enumerate(items):
        passes.setdefault(item.datetime.date(), []).append(number)
    return list(passes.values())


def _median_of_passes(block: Any, passes: list[list[int]]) -> Any:
    """Return the median over passes of (item, band, y, x); of a pass the first item with data supplies a pixel."""
    import numpy as np

    from eoap_dask.kernels.composites import median

    out = np.empty(block.shape[1:], np.uint16)
    for band in range(block.shape[1]):
        layers = []
        for first, *others in passes:
            layer = block[first, band]
            for other in others:
                layer = np.where(layer == 0, block[other, band], layer)
            layers.append(layer)
        out[band] = median(np.stack(layers))
    return out


def _by_month(items: list[Any]) -> dict[int, list[Any]]:
    months: dict[int, list[Any]] = {}
    for item in items:
        months.setdefault(item.datetime.month, []).append(item)
    return months


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
    "stackstac-tuned": stackstac_tuned,
    "lazycogs": lazycogs_tuned,
    "rasteret": rasteret_tuned,
    "ours": ours,
}


@contextmanager
def _cluster(job: Job, *, tuned: bool = False) -> Iterator[Any]:
    """Start a local cluster; a tuned one's workers keep their heap as ours do, which Dask doesn't let them."""
    import dask
    from distributed import Client, LocalCluster

    from eoap_dask.cluster.environment import HEAP

    heap = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in HEAP.items()} if tuned else {}
    with (
        dask.config.set(heap),
        LocalCluster(
            n_workers=job.workers, threads_per_worker=job.threads, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
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


def _write(job: Job, month: int, image: Any, *, tuned: bool = False) -> None:
    """Write one month: rounded, half up, 0 where there is nothing.

    Tuned is with all threads, and with the level of compression that is ours.
    """
    import numpy as np

    if image.dtype != "uint16":
        image = np.floor(image + 0.5).fillna(0).astype("uint16")
    image = image.drop_vars([name for name in image.coords if name not in image.dims])
    image = image.transpose("band", "y", "x").rio.write_crs(job.crs).rio.write_nodata(0)
    path = Path(job.output) / f"{month:02d}.tif"
    options = {"level": 1, "num_threads": "all_cpus"} if tuned else {}
    image.rio.to_raster(path, driver="COG", compress="deflate", predictor="yes", **options)


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
