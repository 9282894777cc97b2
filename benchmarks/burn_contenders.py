"""Ways to map one fire, each a process of its own: ``python -m benchmarks.burn_contenders JOB.json``.

`script` is the analysis as one would write it with odc-stac, xarray and rioxarray. `ours` is our application through
its Python door, for a block size that its command line doesn't offer. `bound` does nothing but what nobody can do
without: it decodes every source tile that holds a needed pixel once, and encodes the output images once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
class BurnJob:
    """What is to be made, and how."""

    contender: str
    before: str
    """URL of the item."""
    after: str
    crs: str
    shape: tuple[int, int]
    transform: tuple[float, ...]
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

    def save(self, path: Path) -> Path:
        """Write the job to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> BurnJob:
        """Read a job."""
        content = json.loads(path.read_text())
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


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
    """Decode the needed source tiles and encode the output images; return the processor time of each.

    What is encoded comes from the files of the product, whose decoding isn't counted. That the work is the same is
    seen from the bytes: each tile must come out as it is in the file. The same tiles are encoded once more by
    libdeflate at level 1, as GDAL's wheels have it: what one can't do without who hasn't a quicker encoder.
    """
    items = {i["id"]: i for i in json.loads((Path(job.archive) / "items.json").read_text())["features"]}
    wanted = [items[url.rsplit("/", 1)[1]] for url in (job.before, job.after)]
    decoding = [_decode(Path(job.archive) / item["assets"][band]["href"], job) for item in wanted for band in BANDS]
    encoding = [_encode(Path(job.product) / f"{name}.tif") for name in IMAGES]
    return {
        "decode_s": round(sum(seconds for seconds, _ in decoding), 3),
        "source_tiles": sum(tiles for _, tiles in decoding),
        "encode_s": round(sum(one.seconds for one in encoding), 3),
        "encode_libdeflate_s": round(sum(one.libdeflate_seconds for one in encoding), 3),
        "output_tiles": sum(one.tiles for one in encoding),
        "output_bytes": sum(one.size for one in encoding),
        "libdeflate_bytes": sum(one.libdeflate_size for one in encoding),
    }


@dataclass
class _Encoding:
    """What encoding an image with all its levels takes: processor seconds and bytes, and the same of libdeflate."""

    tiles: int = 0
    seconds: float = 0.0
    size: int = 0
    libdeflate_seconds: float = 0.0
    libdeflate_size: int = 0


def _decode(path: Path, job: BurnJob) -> tuple[float, int]:
    """Return processor time and number of the tiles of a source that the grid needs; it is on the same CRS."""
    import tifffile

    started = time.process_time()
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        scale, tie = page.tags[33550].value, page.tags[33922].value
        left, top = job.transform[2], job.transform[5]
        right, bottom = left + job.transform[0] * job.shape[1], top + job.transform[4] * job.shape[0]
        side = page.tilewidth
        rows, cols = -(-page.imagelength // side), -(-page.imagewidth // side)
        across = _range(left - tie[3], right - tie[3], scale[0] * side, cols)
        down = _range(tie[4] - top, tie[4] - bottom, scale[1] * side, rows)
        tiles = [row * cols + col for row in down for col in across]
        handle = tiff.filehandle
        for index in tiles:
            handle.seek(page.dataoffsets[index])
            page.decode(handle.read(page.databytecounts[index]), index)
    return time.process_time() - started, len(tiles)


def _range(start: float, stop: float, size: float, number: int) -> range:
    return range(max(int(start // size), 0), min(-int(-stop // size), number))


def _encode(path: Path) -> _Encoding:
    import imagecodecs
    import numpy as np
    import tifffile

    from eoap_dask.cog import deflate, predicted

    found = _Encoding()
    with tifffile.TiffFile(path) as tiff:
        handle = tiff.filehandle
        levels: Sequence[Any] = [page for page in tiff.pages if page.is_tiled]
        for page in levels:
            shape = (page.tilelength, page.tilewidth, page.samplesperpixel)
            floating = page.dtype.kind == "f"
            undo = imagecodecs.floatpred_decode if floating else imagecodecs.delta_decode
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                handle.seek(offset)
                stored = handle.read(size)
                raw = np.frombuffer(imagecodecs.deflate_decode(stored), page.dtype).reshape(shape)
                tile = np.ascontiguousarray(undo(raw, axis=1))
                started = time.process_time()
                encoded = deflate(predicted(tile))
                found.seconds += time.process_time() - started
                if encoded != stored:
                    raise ValueError(f"{path.name} was encoded in another way.")
                started = time.process_time()
                other = imagecodecs.deflate_encode(predicted(tile), level=1)
                found.libdeflate_seconds += time.process_time() - started
                found.tiles += 1
                found.size += len(encoded)
                found.libdeflate_size += len(other)
    return found


CONTENDERS: dict[str, Callable[[BurnJob], dict[str, Any]]] = {"script": script, "ours": ours, "bound": bound}


def main() -> None:
    """Do the job of the argument; what it says about itself goes to ``job.json`` in its output."""
    job = BurnJob.load(Path(sys.argv[1]))
    (Path(job.output) / "job.json").write_text(json.dumps(CONTENDERS[job.contender](job)))


if __name__ == "__main__":
    main()
