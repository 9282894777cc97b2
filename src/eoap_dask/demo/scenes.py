"""Tiles on the ground, satellite passes over them, and the scenes that result."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from eoap_dask.demo.fire import POST_FIRE, PRE_FIRE
from eoap_dask.demo.landscape import CENTRE_X, CENTRE_Y, GROUND_EPSG
from eoap_dask.demo.weather import Sky, Swath

BOA_SHIFT = 1000
"""What processing baselines from 04.00 add to stored reflectance (ESA, since 25 January 2022)."""

OLD_PROCESSING_ERROR = 500
"""How far the pixels of the superseded product are off, so that nobody mistakes it for the right one."""

RECENT_BASELINE = "05.09"
"""The one in use while passes of 2023 were made, so that nothing was reprocessed."""

_FIRST_ORBIT = 27_541
_RELATIVE_ORBIT = 113
_CENTRE_LON, _CENTRE_LAT = -122.118, 47.646


@dataclass(frozen=True)
class Tile:
    """A square of pixels in one UTM zone."""

    mgrs: str
    """Name in the military grid, like 10TET."""
    epsg: int
    """EPSG code of the UTM zone."""
    west: float
    """Left edge, metres in the tile's CRS."""
    north: float
    """Upper edge."""
    size_px: int
    """Pixels per side."""
    resolution_m: float
    """Side of a pixel."""

    @property
    def transform(self) -> Affine:
        """From pixels of the data to the tile's CRS."""
        return Affine(self.resolution_m, 0, self.west, 0, -self.resolution_m, self.north)

    @property
    def classes(self) -> Tile:
        """The same tile with the pixels of the scene classification: half as many, twice as large."""
        return Tile(self.mgrs, self.epsg, self.west, self.north, self.size_px // 2, self.resolution_m * 2)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north in the tile's CRS."""
        side = self.size_px * self.resolution_m
        return self.west, self.north - side, self.west + side, self.north

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x of the columns' centres and y of the rows', in the tile's CRS."""
        steps = (np.arange(self.size_px, dtype=np.float64) + 0.5) * self.resolution_m
        return self.west + steps, self.north - steps

    def ground_xy(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the pixel centres in EPSG:32610, metres, both (rows, columns)."""
        return ground_xy(self.epsg, self.transform, (self.size_px, self.size_px))

    def footprint(self, sky: Sky | None = None) -> BaseGeometry:
        """Return the outline, in degrees, of the tile or of its part in a sky's swath; empty where that misses it."""
        outline = box(*self.bounds).segmentize(self.size_px * self.resolution_m / 8)
        if sky is not None and sky.swath != "whole":
            far = 500_000.0
            # A cell of tolerance: a pixel belongs to the swath by its centre.
            reach = far if sky.swath == "east" else -far
            nearby = -2 * self.resolution_m if sky.swath == "east" else 2 * self.resolution_m
            top, bottom = sky.edge_y + far / 5, sky.edge_y - far / 5
            x_top, x_bottom = (sky.edge_x + (y - sky.edge_y) * sky.EDGE_SLOPE for y in (top, bottom))
            half = Polygon(
                [
                    (x_top + nearby, top),
                    (x_top + reach, top),
                    (x_bottom + reach, bottom),
                    (x_bottom + nearby, bottom),
                ]
            )
            outline = outline.intersection(projected(half, GROUND_EPSG, self.epsg))
        return projected(outline, self.epsg, 4326)


@dataclass(frozen=True)
class Pass:
    """One datatake: a satellite over all tiles, under one sky."""

    number: int
    """Counted from 0 over the archive."""
    when: datetime
    """Start of the datatake."""
    satellite: str
    """A or B."""
    baseline: str
    """Processing baseline of its products, like 02.12."""
    sky: Sky
    """Clouds and swath."""

    @property
    def month(self) -> str:
        """The month that the truth is of, as YYYY-MM."""
        return f"{self.when:%Y-%m}"

    @property
    def orbit(self) -> int:
        """Absolute orbit number."""
        return _FIRST_ORBIT + round((self.when - datetime(2020, 9, 29, tzinfo=UTC)).days * 14.3)


@dataclass(frozen=True)
class Scene:
    """One product: a pass over a tile, as one processing baseline made it."""

    tile: Tile
    """Where."""
    flight: Pass
    """When, and under which sky."""
    baseline: str
    """Processing baseline, like 05.00."""
    superseded: bool = False
    """Whether a newer processing of the same exists, and this one's pixels are off."""
    sequence: int = 0
    """Counts the processings of one tile and pass."""

    @property
    def generated(self) -> datetime:
        """When the product was made: soon after the pass, or in a later reprocessing."""
        if self.baseline < "04.00" or self.baseline == RECENT_BASELINE:
            return self.flight.when + timedelta(days=4 + 33 * self.sequence, hours=2, minutes=43, seconds=31)
        day = 45 if self.baseline == "05.11" else 0
        return datetime(2023, 3, 14, 7, 11, 52, tzinfo=UTC) + timedelta(days=self.flight.number + day)

    @property
    def name(self) -> str:
        """Product name without the baseline, as the Planetary Computer forms its ids."""
        flight = self.flight
        return (
            f"S2{flight.satellite}_MSIL2A_{flight.when:%Y%m%dT%H%M%S}_R{_RELATIVE_ORBIT}"
            f"_T{self.tile.mgrs}_{self.generated:%Y%m%dT%H%M%S}"
        )

    @property
    def product_uri(self) -> str:
        """Name of the SAFE product, with the baseline."""
        short = self.baseline.replace(".", "")
        return f"{self.name.replace('_R113', f'_N{short}_R113')}.SAFE"

    @property
    def datatake_id(self) -> str:
        """Satellite, start, absolute orbit and baseline."""
        flight = self.flight
        return f"GS2{flight.satellite}_{flight.when:%Y%m%dT%H%M%S}_{flight.orbit:06d}_N{self.baseline}"


def ground_xy(
    crs: Any, transform: Affine, shape: tuple[int, int], ground: int = GROUND_EPSG
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of a grid's pixel centres in the CRS of the ground, metres, both (rows, columns)."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x = transform.c + cols * transform.a + rows * transform.b
    y = transform.f + cols * transform.d + rows * transform.e
    if crs != ground:
        x, y = _transformer(crs, ground).transform(x, y)
    return x, y


def lay_tiles(size_px: int, resolution_m: float) -> list[Tile]:
    """Return two tiles that share most of their ground: the western in EPSG:32610, the eastern in EPSG:32611."""
    side = size_px * resolution_m
    snap = 2 * resolution_m
    tiles = []
    for mgrs, epsg, shift in (("10TET", 32610, -0.18), ("11TJN", 32611, 0.18)):
        x, y = _transformer(GROUND_EPSG, epsg).transform(CENTRE_X + shift * side, CENTRE_Y)
        west, north = (round(edge / snap) * snap for edge in (x - side / 2, y + side / 2))
        tiles.append(Tile(mgrs, epsg, west, north, size_px, resolution_m))
    return tiles


def default_bbox(size_px: int, resolution_m: float) -> tuple[float, float, float, float]:
    """Return an area in the middle of both tiles, in degrees: 23.5 × 22 km, or less where the tiles are small."""
    full = (-122.27508544921875, 47.54687159892238, -121.96128845214844, 47.745787772920934)
    scale = size_px * resolution_m / 30_000
    if scale >= 1:
        return full
    return (
        round(_CENTRE_LON + (full[0] - _CENTRE_LON) * scale, 6),
        round(_CENTRE_LAT + (full[1] - _CENTRE_LAT) * scale, 6),
        round(_CENTRE_LON + (full[2] - _CENTRE_LON) * scale, 6),
        round(_CENTRE_LAT + (full[3] - _CENTRE_LAT) * scale, 6),
    )


def plan_passes(
    months: Sequence[str],
    dates_per_month: int,
    *,
    seed: int,
    cloudiness: float,
    empty_months: Sequence[str],
    side_m: float,
    baselines: tuple[str, str],  # of two passes out of three, and of the third
) -> list[Pass]:
    """Return all passes of an archive, in order of time."""
    rng = np.random.default_rng(seed)
    passes: list[Pass] = []
    for month in months:
        year, number = int(month[:4]), int(month[5:7])
        days = calendar.monthrange(year, number)[1]
        covers = rng.permutation(_covers(dates_per_month, cloudiness))
        for i, cover in enumerate(covers):
            n = len(passes)
            day = 1 + int((i + 0.5) * days / dates_per_month)
            swath: Swath = "whole" if n % 5 != 4 else ("east", "west")[n // 5 % 2]
            sky = Sky(
                seed=int(rng.integers(1 << 20)),
                cover=1.0 if month in empty_months else float(cover),
                blob_m=float(rng.uniform(0.12, 0.36)) * min(side_m, 30_000),
                cirrus=n % 4 == 2,
                swath=swath,
                edge_x=CENTRE_X + float(rng.uniform(-0.2, 0.2)) * side_m,
                edge_y=CENTRE_Y,
            )
            when = datetime(year, number, day, 19, 3, 21 + 2 * (n % 7), 24_000, tzinfo=UTC)
            passes.append(Pass(n, when, "AB"[n % 2], baselines[n % 3 == 2], sky))
    return passes


def plan_fire_passes(first: int, baselines: tuple[str, str]) -> list[Pass]:
    """Return four passes around the fire, the same in every archive, in order of time.

    On `PRE_FIRE` and `POST_FIRE` no cloud is over the fire; five days before and after these a part of it is hidden.
    """
    passes = []
    before, after = PRE_FIRE - timedelta(5), POST_FIRE + timedelta(5)
    # Chosen by looking: skies that leave the fire clear, or hide a part of it, in archives of all sizes.
    skies = ((before, 0.3, 5008), (PRE_FIRE, 0.02, 5190), (POST_FIRE, 0.02, 5191), (after, 0.4, 5000))
    for i, (day, cover, seed) in enumerate(skies):
        sky = Sky(
            seed=seed,
            cover=cover,
            blob_m=2600.0,
            cirrus=False,
            swath="whole",
            edge_x=CENTRE_X,
            edge_y=CENTRE_Y,
        )
        when = datetime(day.year, day.month, day.day, 19, 3, 25, 24_000, tzinfo=UTC)
        passes.append(Pass(first + i, when, "ABBA"[i], baselines[i // 2], sky))
    return passes


def plan_scenes(tiles: Sequence[Tile], passes: Sequence[Pass], twice: tuple[str, str] | None) -> list[Scene]:
    """Return all products, in order of time, then of tiles: each pass over each tile that it covers.

    `twice` are the baselines of the two processings of one scene, if one shall have two.
    """
    # The one with two processings is a clear one, so that a search by cloud cover finds both.
    clearest = min((p for p in passes if p.sky.swath == "whole"), key=lambda p: p.sky.cover, default=None)
    scenes = []
    for flight in passes:
        for tile in tiles:
            if tile.footprint(flight.sky).is_empty:
                continue
            if twice is not None and flight is clearest and tile is tiles[0]:
                scenes.append(Scene(tile, flight, twice[0], superseded=True))
                scenes.append(Scene(tile, flight, twice[1], sequence=1))
            else:
                scenes.append(Scene(tile, flight, flight.baseline))
    return scenes


def _covers(count: int, mean: float) -> list[float]:
    """Return cloud covers with this mean: many clear dates and a few bad ones."""
    if mean <= 0 or mean >= 1:
        return [float(mean >= 1)] * count
    return [((i + 0.5) / count) ** ((1 - mean) / mean) for i in range(count)]


def projected(geometry: Any, source: int, target: int) -> Any:
    """Return a geometry, or an array of them, with its corners in another CRS."""

    def corners(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(_transformer(source, target).transform(xy[:, 0], xy[:, 1]))

    return shapely.transform(geometry, corners)


@lru_cache(maxsize=16)
def _transformer(source: Any, target: Any) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
