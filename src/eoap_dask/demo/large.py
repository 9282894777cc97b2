"""The fire in a tile of any size, a full one of 10980 × 10980 pixels too: made strip by strip, in little memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eoap_dask.cluster.guard import end_with_parent, guarded_directory
from eoap_dask.demo import weather
from eoap_dask.demo.archive import ITEMS_FILE, Archive, cover, whole_or_nothing, write_cog
from eoap_dask.demo.fire import FIRE_BANDS, POST_FIRE, PRE_FIRE
from eoap_dask.demo.items import BANDS, COARSE, DIALECTS, Dialect, make_item
from eoap_dask.demo.landscape import Landscape
from eoap_dask.demo.scenes import Scene, Tile, default_bbox, lay_tiles, plan_fire_passes
from eoap_dask.errors import BandError, OutputError, UsageError

STRIP_PX = 256


def make_fire_pair(
    root: Path | str,
    *,
    size_px: int = 10_980,  # even, at least 128; a real tile has 10980
    resolution_m: float = 10.0,
    bands: Sequence[str] = FIRE_BANDS,
    seed: int = 7,
    dialect: Dialect = "planetary-computer",
    strip_px: int = STRIP_PX,  # rows at a time, even: 256 of a full tile take about 0.9 GB in each process
    workers: int = 2,
) -> Archive:
    """Make an archive of two scenes of one tile, before and after the fire; memory hardly grows with the tile.

    The archive is of the western tile alone. Ask `fire_pair`, `burned_ha` and `burn_truth` of it; its other truths are
    of the whole landscape at once, and for a full tile need tens of gigabytes.
    """
    unknown = [band for band in bands if band not in FIRE_BANDS]
    if unknown or not bands:
        raise BandError(f"The demo's fire has no bands {unknown}.", f"It has {', '.join(FIRE_BANDS)}.")
    if size_px < 128 or size_px % 2 or strip_px < 2 or strip_px % 2:
        raise UsageError(
            f"A tile of {size_px} pixels in strips of {strip_px} was asked for.",
            "Both are even numbers, the first at least 128.",
        )
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise OutputError(f"{root} isn't empty.", "A demo archive needs an empty directory.", "Choose another one.")
    tile = lay_tiles(size_px, resolution_m)[0]  # in the CRS of the ground: its pixels are cells
    landscape = cover([tile], seed, resolution_m, (), True)
    flights = [f for f in plan_fire_passes(0, DIALECTS[dialect].fire) if f.when.date() in (PRE_FIRE, POST_FIRE)]
    scenes = tuple(Scene(tile, flight, flight.baseline) for flight in flights)
    with whole_or_nothing(root), guarded_directory("eoap-demo-", root, also=[root]) as scratch:
        made = _Making(root, scratch, tile, landscape, scenes, tuple(bands), dialect)
        made.lay_out()
        strips = [(made, row, min(row + strip_px, size_px)) for row in range(0, size_px, strip_px)]
        names = [(made, scene, name) for scene in scenes for name in (*bands, "scl")]
        # spawned processes, as in `make_archive`
        with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
            run = pool.map if workers > 1 else map
            _drain(run(_make_strip, *zip(*strips, strict=True)))
            _drain(run(_make_file, *zip(*names, strict=True)))
        items = [made.describe(scene) for scene in scenes]
    (root / ITEMS_FILE).write_text(json.dumps({"type": "FeatureCollection", "features": items}, indent=1))
    return Archive(
        root=root,
        items=items,
        collection=DIALECTS[dialect].collection,
        aoi_bbox=default_bbox(size_px, resolution_m),
        dialect=dialect,
        tiles=(tile,),
        scenes=scenes,
        bands=tuple(bands),
        landscape=landscape,
    )


@dataclass(frozen=True)
class _Making:
    """What all processes get."""

    root: Path
    scratch: Path
    tile: Tile
    landscape: Landscape
    scenes: tuple[Scene, ...]
    bands: tuple[str, ...]
    dialect: Dialect

    def grid(self, name: str) -> Tile:
        return self.tile.classes if name in COARSE else self.tile

    def raw(self, scene: Scene, name: str) -> Path:
        return self.scratch / f"{scene.name}-{name}.npy"

    def file(self, scene: Scene, name: str) -> Path:
        return Path(scene.name) / f"{'SCL' if name == 'scl' else BANDS[name][0]}.tif"

    def lay_out(self) -> None:
        """Make the files that strips are written into."""
        for scene in self.scenes:
            (self.root / scene.name).mkdir()
            for name in (*self.bands, "scl"):
                side = self.grid(name).size_px
                dtype = np.uint8 if name == "scl" else np.uint16
                np.lib.format.open_memmap(self.raw(scene, name), "w+", dtype, (side, side)).flush()

    def describe(self, scene: Scene) -> dict[str, Any]:
        counts = np.zeros(12, np.int64)
        classes = np.load(self.raw(scene, "scl"), mmap_mode="r")
        for row in range(0, len(classes), STRIP_PX):
            counts += np.bincount(classes[row : row + STRIP_PX].ravel(), minlength=12)
        files = {name: self.file(scene, name) for name in (*self.bands, "scl")}
        return make_item(scene, self.dialect, self.root, files, counts)


def _make_strip(made: _Making, row: int, row_stop: int) -> None:
    """Fill these rows of all bands of both scenes."""
    tile, whole = made.tile, made.landscape
    top = round((whole.north - tile.north) / whole.cell_m)
    left = round((tile.west - whole.west) / whole.cell_m)
    ground = whole.crop(top + row - 1, top + row_stop + 1, 0, whole.shape[1])  # a row more on either side, for relief
    inside = (slice(1, 1 + row_stop - row), slice(left, left + tile.size_px))
    index = np.arange(ground.shape[0] * ground.shape[1]).reshape(ground.shape)[inside]
    half = slice(row // 2, row_stop // 2)
    x, y = tile.classes.axes()
    for scene in made.scenes:
        flight = scene.flight
        level = weather.cloud_level(flight.sky, x, y)
        sky = weather.evaluate(flight.sky, x, y[half], tile.classes.resolution_m, level)
        flagged = sky.classify()
        # the centre of a large pixel is the corner of four cells, and belongs to the lower right one
        scl = np.where(flagged == 0, ground.scl(index[1::2, 1::2], flight.month), flagged)
        _write_rows(made.raw(scene, "scl"), half, scl)
        shift = np.uint16(DIALECTS[made.dialect].shift(scene))
        wide = flagged.repeat(2, 0).repeat(2, 1)
        for band in made.bands:
            stored = ground.layer(band, flight.month)[inside]
            if band in COARSE:
                stored, rows, covered = stored[1::2, 1::2].ravel(), half, np.flatnonzero(flagged)
                over = sky.take(covered)
            else:
                stored, rows, covered = stored.ravel(), slice(row, row_stop), np.flatnonzero(wide)
                over = sky.take(_cell_of(covered, tile.size_px))
            stored[covered] = weather.shade(stored[covered], over, band)
            _write_rows(made.raw(scene, band), rows, stored + shift)


def _cell_of(pixels: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """Return which large pixel each of these pixels lies in, as flat indices."""
    row, col = np.divmod(pixels, width)
    cell: NDArray[np.intp] = (row // 2) * (width // 2) + col // 2
    return cell


def _make_file(made: _Making, scene: Scene, name: str) -> None:
    """Turn a whole band into its file."""
    pixels = np.load(made.raw(scene, name), mmap_mode="r")
    write_cog(made.root / made.file(scene, name), pixels, made.grid(name))


def _write_rows(path: Path, rows: slice, pixels: NDArray[Any]) -> None:
    target = np.load(path, mmap_mode="r+")
    target[rows] = pixels.reshape(-1, target.shape[1])
    target.flush()


def _drain(results: Iterable[None]) -> None:
    for _ in results:
        pass
