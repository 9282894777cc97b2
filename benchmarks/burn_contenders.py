"""Ways to map one fire, each a process of its own: ``python -m benchmarks.burn_contenders JOB.json``.

`script` is the analysis as one would write it with odc-stac, xarray and rioxarray. `ours` is our application through
its Python door, for a block size that its command line doesn't offer. `bound` reads and decodes every source tile
that holds a needed pixel once, and writes the output images once, and computes nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.job import SavedJob

BANDS = ("red", "nir", "swir22", "scl")
HIDDEN = (0, 1, 3, 6, 8, 9, 10, 11)
EDGES = (-0.25, -0.1, 0.1, 0.27, 0.44, 0.66)

IMAGES = {
    "bai": ("bai_pre", "bai_post", "dbai"),
    "nbr": ("nbr_pre", "nbr_post"),
    "dnbr": ("dnbr",),
    "rdnbr": ("rdnbr",),
    "rbr": ("rbr",),
    "severity": ("severity",),
    "visual-pre": ("pre_red", "pre_green", "pre_blue"),
    "visual-post": ("post_red", "post_green", "post_blue"),
}


@dataclass(frozen=True)
class BurnJob(SavedJob):
    """What is to be made, and how."""

    contender: str
    before: str
    """URL of the item."""
    after: str
    crs: str
    shape: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]
    output: str
    """Directory for what is made."""
    archive: str = ""
    """For `bound`: where the source files are."""
    product: str = ""
    """For `bound`: the unit's directory that holds the images which are encoded once more."""
    aoi: str = ""
    """For `ours`: the area; empty for what both scenes show."""
    block: int = 2048
    """For `ours`."""
    workers: int = 2
    threads: int = 4


def script(job: BurnJob) -> dict[str, Any]:
    """Write the analysis down with odc-stac and xarray, compute it once on a local cluster, and write the results.

    It makes all that `bai` makes but the pictures with captions, checksums and STAC.
    """
    import numpy as np
    import odc.stac
    import pystac
    import rioxarray  # noqa: F401 - adds .rio
    import xarray as xr
    from affine import Affine
    from distributed import Client, LocalCluster
    from odc.geo.geobox import GeoBox

    geobox = GeoBox(job.shape, Affine(*job.transform), job.crs)
    cluster = LocalCluster(
        n_workers=job.workers, threads_per_worker=job.threads, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        odc.stac.configure_rio(cloud_defaults=True, client=client)
        scenes = []
        for url in (job.before, job.after):
            cube = odc.stac.load(
                [pystac.Item.from_file(url)], bands=list(BANDS), geobox=geobox, chunks={"x": 2048, "y": 2048}
            )
            scenes.append(cube.isel(time=0, drop=True))
        before, after = scenes
        seen = ~(before.scl.isin(HIDDEN) | after.scl.isin(HIDDEN))
        for scene in scenes:
            for band in BANDS[:3]:
                seen = seen & (scene[band] > 0)
        first, last = ((scene[list(BANDS[:3])].astype("float32") * 1e-4).where(seen) for scene in scenes)
        bai = [1 / np.maximum((0.1 - s.red) ** 2 + (0.06 - s.nir) ** 2, 1e-8) for s in (first, last)]
        nbr = [(s.nir - s.swir22) / (s.nir + s.swir22) for s in (first, last)]
        dnbr = nbr[0] - nbr[1]
        rdnbr = (dnbr / np.sqrt(np.abs(nbr[0]))).where(np.abs(nbr[0]) >= 1e-3)
        severity = sum((dnbr >= edge).astype("uint8") for edge in (-np.inf, *EDGES))
        results = xr.Dataset(
            {
                "bai_pre": bai[0],
                "bai_post": bai[1],
                "dbai": bai[1] - bai[0],
                "nbr_pre": _steps(nbr[0], 1e4),
                "nbr_post": _steps(nbr[1], 1e4),
                "dnbr": _steps(dnbr, 1e4),
                "rdnbr": _steps(rdnbr, 500),
                "rbr": _steps(dnbr / (nbr[0] + 1.001), 1e4),
                "severity": severity,
                **_picture("pre", before),
                **_picture("post", after),
            }
        )
        results = results.compute()
    output = Path(job.output)
    for name, bands in IMAGES.items():
        image = results[list(bands)].to_dataarray("band")
        image = image.astype(results[bands[0]].dtype).drop_vars([c for c in image.coords if c not in image.dims])
        nodata = np.nan if image.dtype == "float32" else -32768 if image.dtype == "int16" else 0
        image = image.rio.write_crs(job.crs).rio.write_nodata(nodata)
        image.rio.to_raster(output / f"{name}.tif", driver="COG", compress="deflate", predictor="yes")
    _report(results.severity.to_numpy(), results.dnbr.to_numpy(), job, output)
    return {}


def _steps(values: Any, per_unit: float) -> Any:
    return (values * per_unit).round().clip(-32767, 32767).fillna(-32768).astype("int16")


def _picture(name: str, scene: Any) -> dict[str, Any]:
    seen = (scene.red > 0) & (scene.nir > 0) & (scene.swir22 > 0)
    return {
        f"{name}_{colour}": (1 + (scene[band].astype("float32") / 3000 * 254).clip(0, 254).round())
        .where(seen, 0)
        .astype("uint8")
        for colour, band in (("red", "swir22"), ("green", "nir"), ("blue", "red"))
    }


def _report(severity: Any, dnbr: Any, job: BurnJob, output: Path) -> None:
    """Write hectares per class, and perimeters of 1 ha and more."""
    import geopandas
    import numpy as np
    from affine import Affine
    from rasterio.features import shapes
    from scipy import ndimage
    from shapely.geometry import shape

    transform = Affine(*job.transform)
    pixel_ha = abs(transform.a * transform.e) / 10_000
    counts = np.bincount(severity.reshape(-1), minlength=8)
    (output / "areas.csv").write_text("".join(f"{c},{n},{n * pixel_ha}\n" for c, n in enumerate(counts)))
    labels, number = ndimage.label(severity >= 4)
    numbers = np.arange(number + 1)
    sizes = np.bincount(labels.reshape(-1), minlength=number + 1)
    means = ndimage.mean(dnbr / 10_000, labels, numbers)
    large = (sizes * pixel_ha >= 1) & (numbers > 0)
    found = [
        (shape(outline), sizes[int(label)] * pixel_ha, means[int(label)])
        for outline, label in shapes(labels.astype("int32"), large[labels], 4, transform)
    ]
    table = geopandas.GeoDataFrame(
        {"area_ha": [f[1] for f in found], "dnbr_mean": [f[2] for f in found]},
        geometry=[f[0] for f in found],
        crs=job.crs,
    )
    table.to_parquet(output / "perimeters.parquet")
    table.to_crs(4326).to_file(output / "perimeters.geojson", driver="GeoJSON")


def ours(job: BurnJob) -> dict[str, Any]:
    """Call our application from Python."""
    from eoap_dask import RunOptions, burned_area_map

    burned_area_map(
        options=RunOptions(output_dir=Path(job.output) / "product", block=job.block),
        pre_fire_url=job.before,
        post_fire_url=job.after,
        aoi=job.aoi,
    )
    return {}


def bound(job: BurnJob) -> dict[str, Any]:
    """Read and decode what is needed of the sources, and encode the product's images; return the processor time of it.

    As `benchmarks.bound` does for mosaics; what a fire is computed with is left out. The images come from the product,
    whose decoding isn't counted. That the work is the same is seen from the files: each must come out byte by byte.
    Beside it, what predictors and DEFLATE alone take for the same tiles: what is left of encoding without overviews,
    statistics, putting bands beside each other, checksums and writing.
    """
    import hashlib

    import rasterio
    from odc.geo.geobox import GeoBox

    from benchmarks.archive import Grid, needed_tiles
    from benchmarks.bound import Costs, Tiles, write_cog

    wanted = {url.rsplit("/", 1)[1] for url in (job.before, job.after)}
    grid = Grid(job.crs, (job.shape[0], job.shape[1]), job.transform)
    tiles = [tile for tile in needed_tiles(Path(job.archive), grid, bands=BANDS) if tile.item in wanted]
    costs = Costs()
    with Tiles(costs) as reader:
        for tile in tiles:
            reader.decode(tile)
    output_bytes, coding_s = 0, 0.0
    for name in IMAGES:
        path = Path(job.product) / f"{name}.tif"
        with rasterio.open(path) as made:
            image, spec, geobox = made.read(), _spec_of(name, made), GeoBox.from_rio(made)
            tags = {tag: text for tag, text in made.tags().items() if tag.startswith("TIFFTAG_")}
        size, checksum = write_cog(image, spec, geobox, Path(job.output), costs, tags)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                raise ValueError(f"{path.name} was encoded in another way.")
        output_bytes += size
        del image
        coding_s += _coding_of(path)
    return {
        **costs.to_dict(),
        "coding_cpu_s": round(coding_s, 4),
        "source_tiles": len(tiles),
        "output_bytes": output_bytes,
    }


def _coding_of(path: Path) -> float:
    """Return the processor time of predictors and DEFLATE of all tiles of a file."""
    import imagecodecs
    import numpy as np
    import tifffile

    from eoap_dask.render.encode import deflate, predicted

    seconds = 0.0
    with tifffile.TiffFile(path) as tiff:
        pages: list[Any] = [page for page in tiff.pages if page.is_tiled]
        for page in pages:
            shape = (page.tilelength, page.tilewidth, page.samplesperpixel)
            undo = imagecodecs.floatpred_decode if page.dtype.kind == "f" else imagecodecs.delta_decode
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                tiff.filehandle.seek(offset)
                raw = imagecodecs.deflate_decode(tiff.filehandle.read(size))
                tile = np.ascontiguousarray(undo(np.frombuffer(raw, page.dtype).reshape(shape), axis=1))
                started = time.thread_time()
                deflate(predicted(tile))
                seconds += time.thread_time() - started
    return seconds


def _spec_of(name: str, made: Any) -> Any:
    """Return what an image was encoded as."""
    from rasterio.enums import ColorInterp

    from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec

    has_classes = made.colorinterp[0] == ColorInterp.palette
    colours = made.colormap(1).items() if has_classes else ()
    scale = None if made.scales[0] == 1 else made.scales[0]
    names = made.tags(1)
    classes = tuple(ClassSpec(value, names.get(f"CLASS_{value}", ""), colour=colour[:3]) for value, colour in colours)
    return ImageSpec(
        name,
        tuple(BandSpec(band, scale=scale, classes=classes) for band in made.descriptions),
        made.dtypes[0],
        "nearest" if has_classes else "mean",
        made.nodata,
        roles=("visual",) if made.colorinterp[0] == ColorInterp.red else ("data",),
    )


CONTENDERS: dict[str, Callable[[BurnJob], dict[str, Any]]] = {"script": script, "ours": ours, "bound": bound}


def main() -> None:
    """Do the job of the argument; what it says about itself goes to ``job.json`` in its output."""
    job = BurnJob.load(Path(sys.argv[1]))
    (Path(job.output) / "job.json").write_text(json.dumps(CONTENDERS[job.contender](job)))


if __name__ == "__main__":
    main()
