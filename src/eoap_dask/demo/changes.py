"""A synthetic archive of change: cells of land in the Augusts of some years.

A settlement is built in some, a wood is cleared in others, and in the rest only seasons pass.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from eoap_dask.cluster.guard import guarded_directory
from eoap_dask.demo import weather
from eoap_dask.demo.archive import ITEMS_FILE, whole_or_nothing, write_cog
from eoap_dask.demo.items import BANDS, COARSE, DIALECTS, Dialect, make_item
from eoap_dask.demo.noise import Floats, fractal_noise, unit_hash, value_noise
from eoap_dask.demo.scenes import Pass, Scene, Tile, ground_xy
from eoap_dask.errors import OutputError, UsageError

CELLS_FILE = "cells.gpkg"
LAYER = "cells"
FIRST_ID = 463
"""Of the cells, which are numbered from north and west."""
CHANGE_BANDS = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
YEARS = (2022, 2023, 2024)

NOISE = 0.004
"""Standard deviation of a pixel's reflectance from pass to pass."""
SEASON_GAIN, SEASON_OFFSET = 0.02, 0.004
"""By how much the reflectance of a whole year differs at most, per band: a share, and beside it reflectance."""

# Reflectance × 1000 in `CHANGE_BANDS`: what there is, what is built, and what a clearing leaves.
_COVERS = {
    "wood": (26, 44, 34, 206, 214, 128, 66),
    "meadow": (46, 88, 62, 300, 312, 206, 112),
    "field": (60, 92, 90, 262, 274, 250, 158),
    "stubble": (96, 126, 150, 246, 258, 316, 250),
    "village": (104, 118, 132, 206, 214, 224, 196),
    "roofs": (136, 148, 160, 212, 220, 246, 232),
    "streets": (112, 116, 124, 156, 162, 182, 176),
    "clearing": (84, 102, 128, 208, 220, 292, 232),
}
_ID = {name: number for number, name in enumerate(_COVERS)}
_COLOURS = np.array(list(_COVERS.values()), np.float32) * np.float32(0.001)
_PLANTS = np.array([name in {"wood", "meadow", "field"} for name in _COVERS])
_EPSG, _MGRS, _CENTRE = 32633, "33TWM", (550_400.0, 5_139_200.0)
_DAYS = (5, 12, 20, 27)
"""Of August, of the passes."""


@dataclass(frozen=True, eq=False)
class ChangingLand:
    """Known ground on the cells of a tile: (y, x), 10 m."""

    tile: Tile
    cell_px: int
    seed: int
    years: tuple[int, ...]
    covers: dict[int, NDArray[np.uint8]]
    """What there is in each year."""

    @cached_property
    def texture(self) -> Floats:
        """How bright the ground is in itself: the same in all years."""
        x, y = self.tile.axes()
        return 1 + np.float32(0.06) * value_noise(x, y, 60, self.seed + 5)

    def reflectance(self, band: str, year: int) -> Floats:
        """Return the reflectance of a band without noise and clouds."""
        number = CHANGE_BANDS.index(band)
        gain, offset = self.season(band, year)
        ground: Floats = _COLOURS[self.covers[year], number] * self.texture * gain + offset
        return ground

    def season(self, band: str, year: int) -> tuple[np.float32, np.float32]:
        """Return the share and the reflectance by which a year is brighter in a band."""
        place = np.array([CHANGE_BANDS.index(band)]), np.array([year])
        by = [2 * float(unit_hash(*place, self.seed + step)[0]) - 1 for step in (11, 12)]
        return np.float32(1 + SEASON_GAIN * by[0]), np.float32(SEASON_OFFSET * by[1])

    def stored(self, band: str, year: int, number: int) -> NDArray[np.uint16]:
        """Return a band as files of a pass without clouds have it, in pixels of 20 m where it is one of these."""
        step = 2 if band in COARSE else 1
        ground = self.reflectance(band, year)[step - 1 :: step, step - 1 :: step]
        row, col = np.arange(ground.shape[0])[:, None], np.arange(ground.shape[1])[None, :]
        seed = self.seed + 1009 * (101 * year + number) + CHANGE_BANDS.index(band)
        # four uniform numbers add up to about a normal one, whose variance is a third
        noise = sum(unit_hash(row, col, seed + 7919 * part) for part in range(4)) - np.float32(2)
        values = ground + np.float32(NOISE * math.sqrt(3)) * noise
        stored: NDArray[np.uint16] = np.clip(np.rint(values * 10_000), 1, 10_000).astype(np.uint16)
        return stored

    def scl(self, year: int) -> NDArray[np.uint8]:
        """Return the scene classification without clouds, in pixels of 20 m: plants or bare ground."""
        return np.where(_PLANTS[self.covers[year]], 4, 5).astype(np.uint8)[1::2, 1::2]

    def changed(self, before: int, year: int) -> NDArray[np.bool_]:
        """Tell which cells of the ground became another."""
        found: NDArray[np.bool_] = self.covers[before] != self.covers[year]
        return found


@dataclass(frozen=True, eq=False)
class ChangesArchive:
    """Files and items of land that changes, and the truth behind them."""

    root: Path
    """Directory of the files."""
    items: list[dict[str, Any]]
    """STAC items, hrefs relative to `root`."""
    collection: str
    dialect: Dialect
    scenes: tuple[Scene, ...]
    """In the order of `items`."""
    land: ChangingLand
    """The ground."""

    @property
    def cells(self) -> Path:
        """The GeoPackage of the cells."""
        return self.root / CELLS_FILE

    def truth(self, before: int, year: int, transform: Affine, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a grid in the CRS of the tile changed between two years, by nearest pixel of 10 m."""
        tile = self.land.tile
        x, y = ground_xy(tile.epsg, transform, shape, tile.epsg)
        row = np.floor((tile.north - y) / tile.resolution_m).astype(int)
        col = np.floor((x - tile.west) / tile.resolution_m).astype(int)
        found: NDArray[np.bool_] = self.land.changed(before, year)[row, col]
        return found


def make_changes(
    root: Path | str,
    *,
    rows: int = 2,  # of cells
    cols: int = 3,
    cell_px: int = 256,  # pixels of 10 m along a side of a cell, a multiple of 4, at least 64
    years: Sequence[int] = YEARS,
    passes: int = 3,  # of each August, at most 4
    clouds: float = 0.15,  # share of each pass, but for the middle one of an August, which has a fifth of that
    seed: int = 33,  # of ground, noise and sky
    dialect: Dialect = "earth-search-v1",  # whose keys, baselines and offsets to follow
    workers: int = 2,  # threads
) -> ChangesArchive:
    """Make an archive of cells of land in Styria, for the Augusts of some years.

    Of every three cells the first gets a settlement in the second year, the third loses a wood in the last year, and
    the second only has seasons and noise (`NOISE`, `SEASON_GAIN`, `SEASON_OFFSET`), as all have. The same arguments
    give the same bytes. Raises `OutputError` when `root` isn't empty, `UsageError` when an argument is out of range.
    """
    if cell_px < 64 or cell_px % 4 or rows < 1 or cols < 1 or not 1 <= passes <= len(_DAYS):
        raise UsageError(
            f"{rows} × {cols} cells of {cell_px} pixels and {passes} passes were asked for.",
            f"Expected one cell at least, of a multiple of 4 pixels from 64 on, and 1 to {len(_DAYS)} passes.",
        )
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise OutputError(f"{root} isn't empty.", "A demo archive needs an empty directory.", "Choose another one.")
    land = lay_land(rows, cols, cell_px, tuple(years), seed)
    rules = DIALECTS[dialect]
    flights = _passes(land, passes, clouds, rules.recent)
    scenes = tuple(Scene(land.tile, flight, flight.baseline) for flight in flights)
    with guarded_directory("eoap-demo-", also=[root]), whole_or_nothing(root):
        _write_cells(root / CELLS_FILE, land, rows, cols)
        with ThreadPoolExecutor(workers) as pool:
            items = list(pool.map(lambda scene: _make_scene(root, land, scene, dialect), scenes))
        (root / ITEMS_FILE).write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    return ChangesArchive(root, items, rules.collection, dialect, scenes, land)


def lay_land(rows: int, cols: int, cell_px: int, years: tuple[int, ...], seed: int) -> ChangingLand:
    """Return the ground of so many cells, whose corners lie at multiples of their size from the tile's."""
    side = max(rows, cols) * cell_px
    step = 10 * cell_px
    west, north = (round(edge / step) * step for edge in (_CENTRE[0] - 5 * side, _CENTRE[1] + 5 * side))
    tile = Tile(_MGRS, _EPSG, west, north, side, 10.0)
    x, y = tile.axes()
    first = np.full((side, side), _ID["meadow"], np.uint8)
    land = fractal_noise(x, y, 1400, 3, seed)
    parcel = np.floor(value_noise(x, y, 500, seed + 1) * 2.5).astype(int)
    first[(land > 0.05) & (parcel % 2 == 0)] = _ID["field"]
    first[(land > 0.05) & (parcel % 3 == 0)] = _ID["stubble"]
    first[land < -0.15] = _ID["wood"]
    first[fractal_noise(x, y, 700, 2, seed + 2) > 0.85] = _ID["village"]
    covers = {year: first.copy() for year in years}
    edge = 0.35 * fractal_noise(x, y, 25 * cell_px / 64 * 6, 2, seed + 3)
    houses = unit_hash(np.arange(side)[:, None] // 2, np.arange(side)[None, :] // 2, seed + 4) < 0.6
    for number in range(rows * cols):
        row, col = divmod(number, cols)
        place = slice(row * cell_px, (row + 1) * cell_px), slice(col * cell_px, (col + 1) * cell_px)
        at = (np.arange(cell_px) + 0.5) / cell_px - 0.5
        far = np.hypot(at[:, None], at[None, :]) + 0.25 * edge[place]
        if number % 3 == 0:
            grown = far < 0.2
            for year in years:
                here = covers[year][place]
                here[grown & np.isin(here, (_ID["village"],))] = _ID["meadow"]
                if year >= years[1]:
                    here[grown] = np.where(houses[place][grown], _ID["roofs"], _ID["streets"])
        if number % 3 == 2:
            for year in years:
                here = covers[year][place]
                here[far < 0.33] = _ID["wood"]
                if year >= years[-1]:
                    here[far < 0.19] = _ID["clearing"]
    return ChangingLand(tile, cell_px, seed, years, covers)


def _passes(land: ChangingLand, count: int, clouds: float, baseline: str) -> list[Pass]:
    tile = land.tile
    found: list[Pass] = []
    for year in land.years:
        for number, day in enumerate(_DAYS[:count]):
            seed = land.seed + 31 * (year - land.years[0]) + number
            cover = clouds / 5 if number == count // 2 else clouds  # or a whole August may hide what changed
            sky = weather.Sky(seed, cover, 1500.0, cirrus=False, swath="whole", edge_x=tile.west, edge_y=tile.north)
            when = datetime(year, 8, day, 10, 6, 1, 24_000, tzinfo=UTC)
            found.append(Pass(len(found), when, "AB"[number % 2], baseline, sky))
    return found


def _write_cells(path: Path, land: ChangingLand, rows: int, cols: int) -> None:
    import geopandas

    step, tile = 10.0 * land.cell_px, land.tile
    shapes = [
        shapely.box(
            tile.west + col * step,
            tile.north - (row + 1) * step,
            tile.west + (col + 1) * step,
            tile.north - row * step,
        )
        for row in range(rows)
        for col in range(cols)
    ]
    ids = np.arange(FIRST_ID, FIRST_ID + len(shapes), dtype=np.int32)
    table = geopandas.GeoDataFrame({"id": ids}, geometry=shapes, crs=tile.epsg)
    table.to_file(path, layer=LAYER, driver="GPKG", engine="pyogrio")
    with closing(sqlite3.connect(path)) as database, database:  # it says when it was written
        database.execute("UPDATE gpkg_contents SET last_change = '2023-07-01T00:00:00.000Z'")


def _make_scene(root: Path, land: ChangingLand, scene: Scene, dialect: Dialect) -> dict[str, Any]:
    """Write the files of a scene, and describe it."""
    tile, flight = scene.tile, scene.flight
    year = flight.when.year
    sky = weather.evaluate(flight.sky, *tile.classes.axes(), tile.classes.resolution_m)
    flagged = sky.classify()
    scl = np.where(flagged == 0, land.scl(year), flagged)
    cell = np.arange(flagged.size).reshape(flagged.shape)
    shift = np.uint16(DIALECTS[dialect].shift(scene))
    folder = Path(scene.name)
    (root / folder).mkdir()
    files = {}
    for band in CHANGE_BANDS:
        stored = land.stored(band, year, flight.number)
        over = cell if band in COARSE else cell.repeat(2, 0).repeat(2, 1)
        covered = flagged.ravel()[over] > 0
        stored[covered] = weather.shade(stored[covered], sky.take(over[covered]), band)
        files[band] = folder / f"{BANDS[band][0]}.tif"
        write_cog(root / files[band], stored + shift, tile.classes if band in COARSE else tile)
    files["scl"] = folder / "SCL.tif"
    write_cog(root / files["scl"], scl, tile.classes)
    return make_item(scene, dialect, root, files, np.bincount(scl.ravel(), minlength=12))
