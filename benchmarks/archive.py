"""The synthetic archive that is measured on: made once, kept, and known well enough to say what must be read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from pyproj import Transformer

from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.landscape import CENTRE_X, CENTRE_Y, GROUND_EPSG

BANDS = ("nir", "red", "green")
DIALECT = "earth-search-v1"
"""Its files carry no shift of reflectance: nobody has to correct, and so all do the same work."""

DEFAULT_CACHE = Path(tempfile.gettempdir()) / "eoap-dask-benchmarks"


@dataclass(frozen=True)
class Shape:
    """How large an archive is: two tiles in two UTM zones, each pass over both of them."""

    size_px: int
    """Pixels per side of a tile."""
    resolution_m: float = 10.0
    months: int = 3
    dates: int = 8
    """Passes a month."""

    @property
    def name(self) -> str:
        """A name for its directory."""
        return f"{self.size_px}px-{self.resolution_m:g}m-{self.months}x{self.dates}"

    @property
    def month_names(self) -> tuple[str, ...]:
        """As YYYY-MM, from October 2020."""
        return tuple(f"{2020 + (9 + i) // 12}-{1 + (9 + i) % 12:02d}" for i in range(self.months))


@dataclass(frozen=True)
class Grid:
    """The output grid, as the plan of `cloudless-mosaic` says it."""

    crs: str
    shape: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north in its CRS."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape[0], c + a * self.shape[1], f

    @classmethod
    def from_plan(cls, plan: dict[str, Any]) -> Grid:
        """Read it in a plan."""
        grid = plan["grid"]
        a, b, c, d, e, f = grid["transform"]
        return cls(grid["crs"], (grid["shape"][0], grid["shape"][1]), (a, b, c, d, e, f))

    def centres_in(self, crs: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return x and y of all pixel centres in another CRS, both (y, x)."""
        cols, rows = np.meshgrid(np.arange(self.shape[1]) + 0.5, np.arange(self.shape[0]) + 0.5)
        a, _, c, _, e, f = self.transform
        x, y = c + a * cols, f + e * rows
        if crs != self.crs:
            x, y = Transformer.from_crs(self.crs, crs, always_xy=True).transform(x, y)
        return x, y


def prepare(shape: Shape, cache: Path) -> Path:
    """Make the archive, or find it in the cache.

    Parameters
    ----------
    shape
        How large.
    cache
        Directory that archives are kept in.

    Returns
    -------
    Path
        Its directory.
    """
    root = cache / shape.name
    about = root.with_suffix(".json")
    if (root / "items.json").exists() and about.exists() and json.loads(about.read_text()) == asdict(shape):
        return root
    shutil.rmtree(root, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
        made = Path(scratch) / "archive"
        make_archive(
            made,
            months=shape.month_names,
            dates_per_month=shape.dates,
            bands=BANDS,
            size_px=shape.size_px,
            resolution_m=shape.resolution_m,
            reprocessed=False,
            dialect=DIALECT,
        )
        made.rename(root)
    about.write_text(json.dumps(asdict(shape)))
    return root


def warm(root: Path) -> int:
    """Read all files, so that nobody's run is the one that fetches them from disk; return their bytes."""
    total = 0
    for path in root.rglob("*.tif"):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                total += len(block)
    return total


def aoi(side_px: int, resolution_m: float) -> str:
    """Return an area in the middle of both tiles: a bounding box whose grid has at most `side_px` pixels a side."""
    to_degrees = Transformer.from_crs(GROUND_EPSG, 4326, always_xy=True)
    back = Transformer.from_crs(4326, GROUND_EPSG, always_xy=True)
    side = full = side_px * resolution_m
    for _ in range(4):
        box = to_degrees.transform_bounds(
            CENTRE_X - side / 2, CENTRE_Y - side / 2, CENTRE_X + side / 2, CENTRE_Y + side / 2
        )
        west, south, east, north = back.transform_bounds(*box)
        side *= (full - 2 * resolution_m) / max(east - west, north - south)
    return ",".join(f"{edge:.6f}" for edge in box)


@dataclass(frozen=True)
class NeededTile:
    """A compressed tile that holds a pixel which some output pixel shows."""

    path: str
    item: str
    band: str
    crs: str
    transform: tuple[float, ...]
    """Of its level: pixels to CRS."""
    dtype: str
    compression: int
    predictor: int
    offset: int
    size: int
    row: int
    col: int
    """Its place among the tiles of its level."""
    side: int
    """Pixels."""


def items_of(root: Path, crs: str | None = None) -> list[dict[str, Any]]:
    """Return the archive's items, or only those on tiles of one CRS."""
    items = json.loads((root / "items.json").read_text())["features"]
    return [item for item in items if crs in (None, item["properties"]["proj:code"])]


def needed_tiles(root: Path, grid: Grid, crs: str | None = None, bands: Sequence[str] = BANDS) -> list[NeededTile]:
    """Return the least that has to be read for a grid without skipping a scene.

    Of every file that is the coarsest level whose pixels aren't larger than the grid's, or else the finest, and of that
    the tiles which hold the source pixel of some output pixel: nearest neighbour, found by projecting every centre.

    Parameters
    ----------
    root
        Of the archive.
    grid : Grid
    crs
        Only items on tiles of this CRS; all by default.
    bands
        Assets of each item.
    """

    @cache
    def shown(crs: str, transform: tuple[float, ...], shape: tuple[int, int], tile: int) -> tuple[int, ...]:
        a, _, c, _, e, f = transform
        x, y = grid.centres_in(crs)
        col, row = np.floor((x - c) / a).astype(int), np.floor((y - f) / e).astype(int)
        inside = (col >= 0) & (col < shape[1]) & (row >= 0) & (row < shape[0])
        across = -(-shape[1] // tile)
        return tuple(np.unique(row[inside] // tile * across + col[inside] // tile).tolist())

    out = []
    for item in items_of(root, crs):
        code = item["properties"]["proj:code"]
        for band in bands:
            path = root / item["assets"][band]["href"]
            with tifffile.TiffFile(path) as tiff:
                pages: list[Any] = list(tiff.pages)
                scale, tie = pages[0].tags[33550].value, pages[0].tags[33922].value
                width = pages[0].shape[1]
                sizes = [scale[0] * width / page.shape[1] for page in pages]
                fine = [i for i, size in enumerate(sizes) if size <= grid.transform[0] * (1 + 1e-6)]
                level = max(fine, key=sizes.__getitem__, default=0)
                page = pages[level]
                down = scale[1] * pages[0].shape[0] / page.shape[0]
                transform = (sizes[level], 0.0, tie[3], 0.0, -down, tie[4])
                across = -(-page.shape[1] // page.tilewidth)
                for number in shown(code, transform, page.shape[:2], page.tilewidth):
                    out.append(
                        NeededTile(
                            *(str(path), item["id"], band, code, transform),
                            *(str(page.dtype), int(page.compression), int(page.predictor)),
                            *(page.dataoffsets[number], page.databytecounts[number]),
                            *(number // across, number % across, page.tilewidth),
                        )
                    )
    return out


def needed(root: Path, grid: Grid, crs: str | None = None) -> int:
    """Return the bytes of `needed_tiles`."""
    return sum(tile.size for tile in needed_tiles(root, grid, crs))


def scenes_over(root: Path, grid: Grid, crs: str | None = None) -> npt.NDArray[np.uint8]:
    """Return how many tiles, of all or of one CRS, cover each pixel of the grid, (y, x)."""
    covered = np.zeros(grid.shape, np.uint8)
    items = items_of(root, crs)
    tiles = Counter((i["properties"]["proj:code"], tuple(i["assets"][BANDS[0]]["proj:transform"][:6])) for i in items)
    height, width = items[0]["assets"][BANDS[0]]["proj:shape"]
    for code, (a, _, c, _, e, f) in tiles:
        x, y = grid.centres_in(code)
        covered += (x >= c) & (x < c + a * width) & (y <= f) & (y > f + e * height)
    return covered
