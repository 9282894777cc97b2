"""A synthetic archive of farmland: field polygons as EuroCrops has them, and Sentinel-2 scenes of May and June 2023."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from eoap_dask.cluster.guard import guarded_directory
from eoap_dask.demo import weather
from eoap_dask.demo.archive import ITEMS_FILE, whole_or_nothing, write_cog
from eoap_dask.demo.farmland import CASTILE, CROPS, FARM_BANDS, Farmland, Place, lay_farmland
from eoap_dask.demo.items import BANDS, COARSE, DIALECTS, Dialect, make_item
from eoap_dask.demo.scenes import Pass, Scene, Tile, ground_xy
from eoap_dask.errors import BandError, OutputError, UsageError

FIELDS_FILE = "fields.gpkg"
LAYER = "fields"

_SKIES = (
    (date(2023, 5, 18), 0.07, 61),
    (date(2023, 5, 28), 0.04, 62),
    (date(2023, 6, 7), 0.35, 63),
    (date(2023, 6, 17), 0.08, 64),
    (date(2023, 6, 27), 0.05, 66),
)
"""Days, their share of clouds and the seed of their sky."""


@dataclass(frozen=True, eq=False)
class FieldsArchive:
    """Files and items of farmland, and the truth behind them."""

    root: Path
    """Directory of the files."""
    items: list[dict[str, Any]]
    """STAC items, hrefs relative to `root`."""
    collection: str
    """Id of the collection that the items are of."""
    aoi_bbox: tuple[float, float, float, float]
    """Around all fields: west, south, east, north in degrees."""
    dialect: Dialect
    """Which catalogue's conventions the items and files follow."""
    scenes: tuple[Scene, ...]
    """Scenes, in the order of `items`."""
    farmland: Farmland
    """The ground."""

    @property
    def fields(self) -> Path:
        """The GeoPackage of the fields."""
        return self.root / FIELDS_FILE

    @property
    def tile(self) -> Tile:
        """Where the scenes lie."""
        return self.farmland.tile

    def truth(
        self, bands: Sequence[str], day: date, crs: Any, transform: Affine, shape: tuple[int, int]
    ) -> NDArray[np.uint16]:
        """Return what files without clouds would have at the pixel centres of a grid in any CRS, by nearest pixel.

        uint16 (band, y, x), reflectance × 10000, at least 1; 0 outside of the tile. Of bands with pixels of 20 m it is
        the value of the large pixel. `BandError` for a band that isn't there.
        """
        unknown = [band for band in bands if band not in FARM_BANDS]
        if unknown:
            raise BandError(f"The demo's fields have no bands {unknown}.", f"They have {', '.join(FARM_BANDS)}.")
        row, col, inside = self._places(crs, transform, shape)
        layers = []
        for band in bands:
            step = 2 if band in COARSE else 1
            layers.append(np.where(inside, self.farmland.stored(band, day)[row // step, col // step], 0))
        return np.stack(layers).astype(np.uint16)

    def codes(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.str_]:
        """Return `EC_hcat_c` of the field at the pixel centres of a grid, by nearest pixel of 10 m; "" for none."""
        known = np.array([crop.code for crop in CROPS] + [""])
        return known[self._crops(crs, transform, shape)]

    def classes(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the class of `codes`, as `farmland.Crop.kind` numbers it; 0 where there is no field."""
        known = np.array([crop.kind for crop in CROPS] + [0], np.uint8)
        return known[self._crops(crs, transform, shape)]

    def _crops(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.intp]:
        row, col, inside = self._places(crs, transform, shape)
        ground = self.farmland
        crops = np.full(len(ground.cover), -1, np.intp)
        crops[: len(ground.crop)] = np.where(ground.declared, ground.crop, -1)
        return np.where(inside, crops[ground.cells[row, col]], -1)

    def _places(
        self, crs: Any, transform: Affine, shape: tuple[int, int]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Row and column of the cell at the pixel centres, clipped, and whether they lie on the tile."""
        tile = self.tile
        x, y = ground_xy(crs, transform, shape, tile.epsg)
        row, col = np.floor((tile.north - y) / tile.resolution_m), np.floor((x - tile.west) / tile.resolution_m)
        inside = (row >= 0) & (col >= 0) & (row < tile.size_px) & (col < tile.size_px)
        rows, cols = (place.clip(0, tile.size_px - 1).astype(np.intp) for place in (row, col))
        return rows, cols, inside


def make_fields(
    root: Path | str,
    *,
    size_px: int = 1536,  # pixels of 10 m along a side of the tile, even, at least 256; a smaller one has fewer fields
    seed: int = 28,  # of the ground; the sky stays
    place: Place = CASTILE,  # where it lies; the ground is the same
    dialect: Dialect = "earth-search-v1",  # whose keys, baselines and offsets to follow
    workers: int = 2,  # threads
) -> FieldsArchive:
    """Make an archive of fields, in Castile by default, and five dates over them.

    The same arguments give the same bytes. The fields are in `FIELDS_FILE`, as EuroCrops has them; four of the dates
    have less than 10 % of clouds. Raises `OutputError` when `root` isn't empty, `UsageError` when an argument is out of
    range.
    """
    if size_px < 256 or size_px % 2:
        raise UsageError(f"A tile of {size_px} pixels was asked for.", "It is an even number, at least 256.")
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise OutputError(f"{root} isn't empty.", "A demo archive needs an empty directory.", "Choose another one.")
    farmland = lay_farmland(size_px, seed, place)
    rules = DIALECTS[dialect]
    scenes = tuple(Scene(farmland.tile, flight, flight.baseline) for flight in _passes(farmland.tile, rules.recent))
    with guarded_directory("eoap-demo-", also=[root]), whole_or_nothing(root):
        box = _write_fields(root / FIELDS_FILE, farmland)
        with ThreadPoolExecutor(workers) as pool:
            items = list(pool.map(lambda scene: _make_scene(root, farmland, scene, dialect), scenes))
        (root / ITEMS_FILE).write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    return FieldsArchive(root, items, rules.collection, box, dialect, scenes, farmland)


def _passes(tile: Tile, baseline: str) -> list[Pass]:
    passes = []
    for number, (day, cover, seed) in enumerate(_SKIES):
        sky = weather.Sky(seed, cover, 1500.0, cirrus=False, swath="whole", edge_x=tile.west, edge_y=tile.north)
        when = datetime(day.year, day.month, day.day, 11, 6, 21, 24_000, tzinfo=UTC)
        passes.append(Pass(number, when, "AB"[number % 2], baseline, sky))
    return passes


def _write_fields(path: Path, farmland: Farmland) -> tuple[float, float, float, float]:
    """Write the fields that are declared, and return their bounds."""
    import geopandas

    crops = [CROPS[number] for number in farmland.crop[farmland.declared]]
    table = geopandas.GeoDataFrame(
        {
            "id": np.arange(1, len(crops) + 1, dtype=np.int32),
            "EC_trans_n": [crop.translated for crop in crops],
            "EC_hcat_n": [crop.name for crop in crops],
            "EC_hcat_c": [crop.code for crop in crops],
        },
        geometry=farmland.degrees[farmland.declared],
        crs=4326,
    )
    table.to_file(path, layer=LAYER, driver="GPKG", engine="pyogrio")
    with closing(sqlite3.connect(path)) as database, database:  # it says when it was written
        database.execute("UPDATE gpkg_contents SET last_change = '2023-07-01T00:00:00.000Z'")
    west, south, east, north = (float(edge) for edge in table.total_bounds)
    return west, south, east, north


def _make_scene(root: Path, farmland: Farmland, scene: Scene, dialect: Dialect) -> dict[str, Any]:
    """Write the files of a scene, and describe it."""
    tile, day = scene.tile, scene.flight.when.date()
    sky = weather.evaluate(scene.flight.sky, *tile.classes.axes(), tile.classes.resolution_m)
    flagged = sky.classify()
    scl = np.where(flagged == 0, farmland.scl(day), flagged)
    cell = np.arange(flagged.size).reshape(flagged.shape)
    shift = np.uint16(DIALECTS[dialect].shift(scene))
    folder = Path(scene.name)
    (root / folder).mkdir()
    files = {}
    for band in FARM_BANDS:
        stored = farmland.stored(band, day)
        over = cell if band in COARSE else cell.repeat(2, 0).repeat(2, 1)
        covered = flagged.ravel()[over] > 0
        stored[covered] = weather.shade(stored[covered], sky.take(over[covered]), band)
        files[band] = folder / f"{BANDS[band][0]}.tif"
        write_cog(root / files[band], stored + shift, tile.classes if band in COARSE else tile)
    files["scl"] = folder / "SCL.tif"
    write_cog(root / files["scl"], scl, tile.classes)
    return make_item(scene, dialect, root, files, np.bincount(scl.ravel(), minlength=12))
