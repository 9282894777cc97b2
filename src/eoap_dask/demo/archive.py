"""A synthetic Sentinel-2 L2A archive, made on the spot: real COGs and STAC items over ground that is known.

Every pixel that the scene classification doesn't flag has exactly the value of the ground in its month, so that what a
mosaic should be is known to the last digit.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from eoap_dask.cluster.guard import end_with_parent, guarded_directory
from eoap_dask.demo import weather
from eoap_dask.demo.fire import FIRE_BANDS, POST_FIRE, PRE_FIRE, default_fire, fire_pair
from eoap_dask.demo.items import BANDS, COARSE, DIALECTS, Dialect, make_item
from eoap_dask.demo.landscape import CENTRE_X, CENTRE_Y, GROUND_BANDS, GROUND_EPSG, Event, Landscape
from eoap_dask.demo.scenes import (
    OLD_PROCESSING_ERROR,
    Pass,
    Scene,
    Tile,
    default_bbox,
    ground_xy,
    lay_tiles,
    plan_fire_passes,
    plan_passes,
    plan_scenes,
)
from eoap_dask.errors import BandError, DateError, OutputError, UsageError
from eoap_dask.text import show_bytes

ITEMS_FILE = "items.json"
"""Written last: an archive without it isn't complete."""


@dataclass(frozen=True, eq=False)
class Archive:
    """Files and items of a demo archive, and the truth behind them."""

    root: Path
    """Directory of the files."""
    items: list[dict[str, Any]]
    """STAC items, hrefs relative to `root`."""
    collection: str
    """Id of the collection that the items are of."""
    aoi_bbox: tuple[float, float, float, float]
    """An area that spans both tiles: west, south, east, north in degrees."""
    dialect: Dialect
    """Which catalogue's conventions the items and files follow."""
    tiles: tuple[Tile, ...]
    """Tiles on which the scenes lie."""
    scenes: tuple[Scene, ...]
    """Scenes, in the order of `items`."""
    bands: tuple[str, ...]
    """Common names of the bands in the files."""
    landscape: Landscape
    """The ground."""

    def surface(
        self, bands: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64], month: str
    ) -> NDArray[np.uint16]:
        """Return the cloud-free surface at positions in EPSG:32610, metres: uint16 (band, …), reflectance × 10000.

        At least 1 everywhere. `BandError` when the ground isn't known in a band.
        """
        index = self.landscape.index(x, y)
        return np.stack([self.landscape.layer(band, month).ravel()[index] for band in bands])

    def truth(
        self, bands: Sequence[str], month: str, crs: Any, transform: Affine, shape: tuple[int, int]
    ) -> NDArray[np.uint16]:
        """Return the cloud-free surface at the pixel centres of a grid in any CRS: (band, y, x), as `surface`.

        A product of nearest resampling shows the ground at the centre of the *source* pixel, up to half of one away;
        for those see `tile_truth`. Outside of the landscape it is the value of its edge.
        """
        return self.surface(bands, *ground_xy(crs, transform, shape), month)

    def tile_truth(self, tile: Tile, bands: Sequence[str], month: str) -> NDArray[np.uint16]:
        """Return the cloud-free surface at every pixel of a tile, before any shift: (band, y, x), as `surface`.

        Short-wave infrared, whose pixels are twice as large, is repeated.
        """
        grids = {coarse: tile.classes if coarse else tile for coarse in {band in COARSE for band in bands}}
        places = {coarse: grid.ground_xy() for coarse, grid in grids.items()}
        layers = []
        for band in bands:
            layer = self.surface([band], *places[band in COARSE], month)[0]
            layers.append(layer.repeat(2, 0).repeat(2, 1) if band in COARSE else layer)
        return np.stack(layers)

    def burn_truth(self, month: str, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return burn severity at the pixel centres of a grid in any CRS: uint8 (y, x), 4 (low) to 7 (high), else 0."""
        part = self.landscape.around_fire()  # its outermost cells never burn, and stand for all beyond
        return part.burn_severity(month).ravel()[part.index(*ground_xy(crs, transform, shape))]

    def burned_ha(self, month: str) -> float:
        """Return the hectares of the whole fire without the water in it; 0 in months before it."""
        burned = int((self.landscape.around_fire().burn_severity(month) > 0).sum())
        return burned * self.landscape.cell_m**2 / 10_000

    def fire_pair(self, tile: str = "10TET") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the clear scenes before and after the fire; see `eoap_dask.demo.fire.fire_pair`."""
        return fire_pair(self.items, tile)


@contextmanager
def whole_or_nothing(root: Path) -> Iterator[None]:
    """Empty a directory that was empty before, where what was to be made in it isn't finished."""
    try:
        yield
    except BaseException:
        for path in root.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def make_archive(
    root: Path | str,
    *,
    # the ground is constant within a month and fades with the season; may be empty where there is a fire
    months: Sequence[str] = ("2020-10", "2020-11", "2020-12"),
    dates_per_month: int = 6,  # 1 to 28
    bands: Sequence[str] = ("blue", "green", "red", "nir"),  # also swir16 and swir22, with pixels of twice the side
    # side of a tile, even, at least 128; multiples of 512 have overviews of every second pixel of the level below
    size_px: int = 1536,
    resolution_m: float = 20.0,
    seed: int = 7,  # of the sky, and of the texture of the ground
    cloudiness: float = 0.3,  # mean cloud cover; the dates of a month go from almost clear to almost covered
    empty_months: Sequence[str] = (),  # every pass in them is wholly cloudy
    reprocessed: bool = True,  # the clearest pass has two products of the first tile, the older one 500 too bright
    dialect: Dialect = "planetary-computer",  # whose keys, baselines and offsets to follow
    events: Sequence[Event] = (),  # what changes the ground; picklable when `workers` > 1
    # four passes of July and August 2021 in all bands around a fire, hardly a cloud on 13 July and 12 August
    fire: bool = False,
    workers: int = 2,  # processes; with more than one, a script must guard its entry by `__name__ == "__main__"`
) -> Archive:
    """Make an archive of two overlapping tiles in two UTM zones; the same arguments give the same bytes.

    Raises `OutputError` when `root` isn't empty, `UsageError` or a subclass when an argument is out of range.
    """
    _check(months, dates_per_month, bands, size_px, cloudiness, fire)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise OutputError(f"{root} isn't empty.", "A demo archive needs an empty directory.", "Choose another one.")
    rules = DIALECTS[dialect]
    tiles = lay_tiles(size_px, resolution_m)
    passes = plan_passes(
        months,
        dates_per_month,
        seed=seed,
        cloudiness=cloudiness,
        empty_months=empty_months,
        side_m=size_px * resolution_m,
        baselines=rules.baselines,
    )
    scenes = plan_scenes(tiles, passes, rules.twice if reprocessed else None)
    if fire:
        around = plan_fire_passes(len(passes), rules.fire)
        passes = sorted(passes + around, key=lambda flight: flight.when)
        scenes = sorted(scenes + plan_scenes(tiles, around, None), key=lambda scene: scene.flight.when)
    landscape = cover(tiles, seed, resolution_m, events, fire)
    _check_room(root, len(scenes), len({flight.month for flight in passes}) * len(tiles), size_px, len(bands))
    with guarded_directory("eoap-demo-", also=[root]) as scratch, whole_or_nothing(root):
        jobs = _jobs(root, scratch, landscape, tiles, passes, scenes, bands, dialect)
        items = list(_run(jobs, workers))
    (root / ITEMS_FILE).write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    return Archive(
        root=root,
        items=items,
        collection=rules.collection,
        aoi_bbox=default_bbox(size_px, resolution_m),
        dialect=dialect,
        tiles=tuple(tiles),
        scenes=tuple(scenes),
        bands=tuple(bands),
        landscape=landscape,
    )


@dataclass(frozen=True)
class _SkyCells:
    """Cells on which a sky is evaluated: two by two of the landscape's."""

    west: float
    north: float
    cell_m: float
    shape: tuple[int, int]

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = self.west + (np.arange(self.shape[1], dtype=np.float64) + 0.5) * self.cell_m
        return x, self.north - (np.arange(self.shape[0], dtype=np.float64) + 0.5) * self.cell_m


@dataclass(frozen=True)
class _Job:
    """All products of one pass, as input for a process that makes them."""

    root: Path
    scratch: Path
    flight: Pass
    scenes: tuple[Scene, ...]
    bands: tuple[str, ...]
    dialect: Dialect
    cells: _SkyCells


def _check(
    months: Sequence[str], dates: int, bands: Sequence[str], size_px: int, cloudiness: float, fire: bool
) -> None:
    """Refuse arguments that are out of range."""
    if not months and not fire:
        raise DateError("No month was asked for.", "An archive without a fire has at least one.")
    for month in months:
        digits = month.replace("-", "", 1)
        if not (len(month) == 7 and month[4] == "-" and digits.isdigit() and 1 <= int(digits[4:]) <= 12):
            raise DateError(f"{month!r} isn't a month.", "A month looks like 2020-10.")
    unknown = [band for band in bands if band not in GROUND_BANDS]
    if unknown or not bands:
        raise BandError(f"The demo has no bands {unknown}.", f"It has {', '.join(GROUND_BANDS)}.")
    if not 1 <= dates <= 28:
        raise UsageError(f"{dates} dates a month were asked for.", "A month has 1 to 28.")
    if size_px < 128 or size_px % 2:
        raise UsageError(f"A tile of {size_px} pixels was asked for.", "It is an even number, at least 128.")
    if not 0 <= cloudiness <= 1:
        raise UsageError(f"A cloudiness of {cloudiness} was asked for.", "It lies between 0 and 1.")


def _check_room(root: Path, scenes: int, grounds: int, size_px: int, bands: int) -> None:
    """Raise `OutputError` where a disk has too little room: for the files, or for the ground while they are made."""
    pixels = size_px**2 * bands
    # a pixel of a file takes 0.9 to 1.1 bytes, compressed and with overviews; of the ground two
    needs = {root: scenes * pixels, Path(tempfile.gettempdir()): 2 * grounds * pixels}
    for place, needed in needs.items():
        free = shutil.disk_usage(place).free
        if free < needed:
            raise OutputError(
                f"{place} has {show_bytes(free)} free; the archive takes about {show_bytes(needed)} there.",
                "",
                "Make room, or set TMPDIR to a directory with more.",
            )


def cover(tiles: Iterable[Tile], seed: int, resolution_m: float, events: Sequence[Event], fire: bool) -> Landscape:
    """Return a landscape under all tiles, with a margin, on whole cells of the scene classification."""
    edges = []
    side_m = 0.0
    for tile in tiles:
        side_m = tile.size_px * resolution_m
        west, south, east, north = tile.bounds
        to_ground = Transformer.from_crs(tile.epsg, GROUND_EPSG, always_xy=True)
        edges.append(to_ground.transform_bounds(west, south, east, north, densify_pts=21))
    west, south, east, north = (
        pick(column) for pick, column in zip((min, min, max, max), zip(*edges, strict=True), strict=True)
    )
    snap = 2 * resolution_m
    west, north = np.floor(west / snap) * snap - snap, np.ceil(north / snap) * snap + snap
    rows, cols = np.ceil((north - south) / snap) + 1, np.ceil((east - west) / snap) + 1
    return Landscape(
        seed,
        float(west),
        float(north),
        resolution_m,
        (2 * int(rows), 2 * int(cols)),
        tuple(events),
        default_fire((CENTRE_X, CENTRE_Y), side_m) if fire else None,
    )


def _jobs(
    root: Path,
    scratch: Path,
    landscape: Landscape,
    tiles: Sequence[Tile],
    passes: Sequence[Pass],
    scenes: Sequence[Scene],
    bands: Sequence[str],
    dialect: Dialect,
) -> Iterator[_Job]:
    """Yield jobs in order of time; the truth of a month is written to `scratch` before its first."""
    rows, cols = landscape.shape
    cells = _SkyCells(landscape.west, landscape.north, 2 * landscape.cell_m, (rows // 2, cols // 2))
    pixels = {tile: landscape.index(*tile.ground_xy()) for tile in tiles}
    coarse = {tile: landscape.index(*tile.classes.ground_xy()) for tile in tiles}
    fire_months = {f"{day:%Y-%m}" for day in (PRE_FIRE, POST_FIRE)} if landscape.fire else set()
    all_bands = (*bands, *(band for band in FIRE_BANDS if band not in bands))
    done = set()
    for flight in passes:
        made = all_bands if flight.month in fire_months else tuple(bands)
        if flight.month not in done:
            done.add(flight.month)
            for tile in tiles:
                np.save(_ground_file(scratch, tile, f"{flight.month}-scl"), landscape.scl(coarse[tile], flight.month))
            for band in made:
                layer = landscape.layer(band, flight.month).ravel()
                for tile in tiles:
                    index = (coarse if band in COARSE else pixels)[tile]
                    np.save(_ground_file(scratch, tile, f"{flight.month}-{band}"), layer[index])
        mine = tuple(scene for scene in scenes if scene.flight is flight)
        yield _Job(root, scratch, flight, mine, made, dialect, cells)


def _run(jobs: Iterator[_Job], workers: int) -> Iterator[dict[str, Any]]:
    """Yield the items of all jobs, in order."""
    if workers <= 1:
        for job in jobs:
            yield from _make_pass(job)
        return
    # Processes, because GDAL writes a COG while rasterio holds the interpreter's lock; spawned, because a
    # fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        for future in [pool.submit(_make_pass, job) for job in jobs]:
            yield from future.result()


def _make_pass(job: _Job) -> list[dict[str, Any]]:
    """Write the files of all products of a pass, and describe them."""
    sky = weather.evaluate(job.flight.sky, *job.cells.axes(), job.cells.cell_m)
    return [_make_scene(job, scene, sky) for scene in job.scenes]


def _make_scene(job: _Job, scene: Scene, sky_grid: weather.SkyGrid) -> dict[str, Any]:
    tile = scene.tile
    sky = sky_grid.take(_sky_index(tile, job.cells))
    scl = sky.classify()
    clear = np.load(_ground_file(job.scratch, tile, f"{job.flight.month}-scl"), mmap_mode="r")
    scl = np.where(scl == 0, clear, scl)
    if job.flight.sky.swath != "whole":
        scl[~job.flight.sky.inside(*_class_xy(tile))] = weather.NODATA

    # Only the pixels that differ from the clear ground are computed.
    cell = np.arange(scl.size).reshape(scl.shape)
    wide = {False: np.repeat(np.repeat(cell, 2, 0), 2, 1).ravel(), True: cell.ravel()}  # by whether a band is coarse
    covered = np.isin(scl, (weather.SHADOW, weather.CLOUD, weather.DENSE_CLOUD, weather.CIRRUS)).ravel()
    flagged = {coarse: np.flatnonzero(covered[index]) for coarse, index in wide.items()}
    outside = {coarse: np.flatnonzero((scl == weather.NODATA).ravel()[index]) for coarse, index in wide.items()}
    over = {coarse: sky.take(index[flagged[coarse]]) for coarse, index in wide.items()}
    error = OLD_PROCESSING_ERROR if scene.superseded else 0
    shift = DIALECTS[job.dialect].shift(scene)

    folder = Path(scene.name)
    (job.root / folder).mkdir(parents=True)
    files = {}
    for band in job.bands:
        stored = np.load(_ground_file(job.scratch, tile, f"{job.flight.month}-{band}")).ravel()
        coarse = band in COARSE
        grid = tile.classes if coarse else tile
        stored[flagged[coarse]] = weather.shade(stored[flagged[coarse]], over[coarse], band)
        stored += np.uint16(error + shift)
        stored[outside[coarse]] = 0
        files[band] = folder / f"{BANDS[band][0]}.tif"
        write_cog(job.root / files[band], stored.reshape(grid.size_px, grid.size_px), grid)
    files["scl"] = folder / "SCL.tif"
    write_cog(job.root / files["scl"], scl, tile.classes)
    return make_item(scene, job.dialect, job.root, files, np.bincount(scl.ravel(), minlength=12))


def write_cog(path: Path, pixels: NDArray[Any], tile: Tile) -> None:
    """Write one band of a scene, (y, x) as stored."""
    size = tile.size_px
    profile = {
        "driver": "COG",
        "width": size,
        "height": size,
        "count": 1,
        "dtype": pixels.dtype,
        "crs": f"EPSG:{tile.epsg}",
        "transform": tile.transform,
        "nodata": 0,
        "compress": "DEFLATE",
        "predictor": 2,
        "level": 1,
        "blocksize": 512 if size >= 1024 else 256,
        "overview_count": max(1, (size // 192).bit_length() - 1),
        # Nearest, for the data as well, so that a pixel of an overview is a pixel of the ground.
        "overview_resampling": "NEAREST",
    }
    # GDAL makes the overviews in a temporary file first; compressing that one takes half of the time.
    with rasterio.Env(COG_TMP_COMPRESSION="NONE"), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels, 1)


def _ground_file(scratch: Path, tile: Tile, name: str) -> Path:
    return scratch / f"{tile.mgrs}-{name}.npy"


@lru_cache(maxsize=4)
def _sky_index(tile: Tile, cells: _SkyCells) -> NDArray[np.intp]:
    """Return which cell of the sky is over each pixel of the tile's scene classification."""
    x, y = _class_xy(tile)
    col = np.floor((x - cells.west) / cells.cell_m).astype(np.intp)
    row = np.floor((cells.north - y) / cells.cell_m).astype(np.intp)
    return np.asarray(row * cells.shape[1] + col, np.intp)


@lru_cache(maxsize=4)
def _class_xy(tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ground coordinates of the tile's scene classification, cached: projecting is slow."""
    return tile.classes.ground_xy()
