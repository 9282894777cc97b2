"""The demo's farmland in Castile: parcels between tracks, what grows on each, and how that looks in May and June.

It lies on the 10 m grid of Sentinel-2 in EPSG:32630, or elsewhere (`Place`). A pixel of 20 m shows the cell to the
lower right of its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from eoap_dask.demo.items import COARSE
from eoap_dask.demo.landscape import STEP
from eoap_dask.demo.noise import Floats, fractal_noise, value_noise
from eoap_dask.demo.scenes import Tile, projected

FARM_BANDS = ("blue", "green", "red", "nir", "rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")
"""Bands that the farmland is known in."""


@dataclass(frozen=True)
class Place:
    """Where on earth a tile lies."""

    mgrs: str
    """Name of the tile, such as 30TUM."""
    epsg: int
    """Of its UTM zone."""
    centre: tuple[float, float]
    """Its middle, in metres."""


CASTILE = Place("30TUM", 32630, (358_000.0, 4_606_000.0))
"""4.704 W 41.593 N."""

_GREEN, _RIPE = date(2023, 5, 10), date(2023, 6, 30)
_VEGA, _PLAIN, _SLOPE, _WILD, _VILLAGE = range(5)
"""Zones: irrigated land along the river, fields of cereals, vines and trees, land without fields, houses."""
_SQUARES = 96
"""Along a side, each of one zone."""
_MOST_HA = (10.0, 15.0, 14.0, 60.0, 0.8)
"""Parcels of a zone are smaller than this."""
_LEAST_HA = 1.0


class Crop(NamedTuple):
    """What is grown, as EuroCrops calls it."""

    code: str
    """Its HCAT3 code: `EC_hcat_c`."""
    name: str
    """HCAT3 name: `EC_hcat_n`."""
    translated: str
    """The original name in English: `EC_trans_n`."""
    kind: int
    """Number of its class, 0 for none: olives, vineyards, fruit, other trees, cereals, legumes, vegetables, fallow."""
    cover: str
    """How it looks."""
    early_days: int
    """How far it is ahead of others that look so."""
    shares: tuple[int, int, int]
    """Of the parcels along the river, on the plain and on the slopes; to be divided by their sums."""


CROPS = (
    Crop("3303050000", "olive_plantations", "OLIVE", 1, "olives", 0, (0, 2, 12)),
    Crop("3303050100", "olives_for_oil_production", "OLIVE FOR OIL", 1, "olives", 0, (0, 0, 8)),
    Crop("3303060000", "vineyards_wine_vine_rebland_grapes", "VINEYARD", 2, "vines", 0, (0, 5, 26)),
    Crop("3303060000", "vineyards_wine_vine_rebland_grapes", "TABLE GRAPES", 2, "vines", 4, (2, 0, 4)),
    Crop("3303040000", "citrus_plantations", "ORANGE TREE", 3, "citrus", 0, (5, 0, 4)),
    Crop("3303010200", "apples", "APPLE TREE", 3, "fruit-trees", 0, (5, 0, 0)),
    Crop("3303011200", "pears", "PEAR TREE", 3, "fruit-trees", 5, (4, 0, 0)),
    Crop("3303030100", "almond", "ALMOND", 4, "almonds", 0, (0, 1, 14)),
    Crop("3303030400", "pistachio", "PISTACHIO", 4, "almonds", -6, (0, 2, 7)),
    Crop("3306070000", "populus", "POPLAR", 4, "poplars", 0, (9, 0, 0)),
    Crop("3301010100", "common_soft_wheat", "SOFT WHEAT", 5, "cereal", -2, (8, 18, 3)),
    Crop("3301010400", "barley", "BARLEY", 5, "cereal", 5, (4, 24, 6)),
    Crop("3301010500", "oats", "OAT", 5, "cereal", 0, (0, 4, 2)),
    Crop("3301010800", "triticale", "TRITICALE", 5, "cereal", 1, (0, 3, 0)),
    Crop("3301020600", "peas", "PEA", 6, "legume", 0, (3, 6, 0)),
    Crop("3301020500", "lentils", "LENTIL", 6, "legume", 2, (0, 4, 2)),
    Crop("3301020200", "chickpeas", "CHICKPEA", 6, "legume", -4, (0, 3, 2)),
    Crop("3301280000", "tomato", "TOMATO", 7, "vegetables", -4, (7, 0, 0)),
    Crop("3301030000", "potatoes", "POTATO", 7, "vegetables", 3, (11, 0, 0)),
    Crop("3301220400", "onions", "ONION", 7, "vegetables", 0, (5, 0, 0)),
    Crop("3301290300", "carrots_daucus", "CARROT", 7, "vegetables", 1, (4, 0, 0)),
    Crop("3301110000", "fallow_land_not_crop", "TRADITIONAL FALLOW", 8, "fallow", 0, (2, 13, 4)),
    Crop("3301000000", "arable_crops", "BARE ARABLE LAND", 8, "fallow", 0, (0, 3, 1)),
    Crop("3301010600", "grain_maize_corn_popcorn", "CORN", 0, "maize", 0, (16, 0, 0)),
    Crop("3301060500", "sunflower", "SUNFLOWER", 0, "sunflower", 0, (3, 8, 0)),
    Crop("3301090301", "alfalfa_lucerne", "ALFALFA", 0, "alfalfa", 0, (9, 1, 0)),
    Crop("3302000000", "pasture_meadow_grassland_grass", "GRASSLAND 5 OR MORE YEARS", 0, "grass", 0, (2, 4, 4)),
    Crop("3388000000", "", "SOMETHING NEW", 0, "sunflower", -5, (2, 1, 1)),  # in no table
)
"""What the parcels grow."""

# How many per cent of bare soil show in patches; `FARM_BANDS` in the middle of May and at the end of June, × 1000.
_LOOKS = """
olives       25    66  92 108 258 134 194 222 272 262 200    72 100 122 256 146 198 224 272 288 228
vines        30    76 104 152 262 180 220 244 276 326 270    62 100 112 352 148 264 314 366 268 190
citrus       10    26  50  32 318  66 226 290 332 142  64    28  52  36 326  70 232 298 340 150  70
fruit-trees   8    40  84  50 372 104 268 334 386 214 112    36  80  46 392  98 280 350 406 204 104
almonds      20    46  72  72 300 106 212 258 312 204 136    50  78  80 292 114 210 254 304 218 152
poplars      10    26  56  32 436  80 318 402 452 160  68    24  52  30 450  76 326 416 466 152  64
cereal        6    30  68  36 420  82 300 385 435 175  85    88 128 160 300 180 222 250 310 340 235
legume       12    50 100  62 380 112 282 340 392 222 122    84 130 124 292 162 226 260 302 322 232
vegetables   10    58 120  74 420 134 326 390 430 212 122    42 116  46 530 116 396 486 540 188  88
fallow       10    96 128 168 246 192 214 230 256 336 296   108 142 184 266 208 232 248 276 362 322
maize        10    78  98 120 214 142 176 194 224 270 232    40  84  48 430  98 300 384 444 214 108
sunflower    12    92 116 146 228 168 192 208 238 312 268    64 104  92 350 140 262 312 362 288 190
alfalfa       5    34  84  38 500  92 350 452 512 206  92    36  86  42 486  96 342 440 498 214  98
grass        20    62  94  88 290 126 216 252 302 260 176    86 118 138 272 166 208 232 282 326 246
pines        30    26  44  34 206  58 142 178 214 128  66    27  45  36 204  59 141 176 212 132  69
scrub        40    54  76  82 220 108 162 188 230 226 156    62  84  98 218 120 166 190 228 250 182
grove        10    30  62  36 392  82 286 362 410 176  82    29  60  35 398  80 288 366 416 172  80
hedge        30    48  76  68 284 100 204 246 296 204 130    54  82  82 272 112 202 240 284 224 150
track        15   116 142 170 248 190 212 230 258 330 288   122 150 180 258 200 222 240 268 344 302
houses       40   118 132 150 214 164 186 202 224 252 230   122 136 156 218 170 192 206 228 262 240
river         0    46  58  44  24  38  30  27  22  13   9    48  62  46  26  40  31  28  23  14  10
"""
_ROWS = [row.split() for row in _LOOKS.strip().splitlines()]
_ID = {name: number for number, (name, *_) in enumerate(_ROWS)}
_BARE, _EARLY, _LATE = np.split(np.array([row[1:] for row in _ROWS], np.float32), (1, 11), axis=1)
_OUTSIDE = ("track", "hedge", "river", "grove")
"""What lies between parcels."""


@dataclass(frozen=True, eq=False)
class Farmland:
    """Known ground on the cells of a tile."""

    tile: Tile
    """Where, and the grid of its cells."""
    degrees: NDArray[np.object_]
    """Outlines of the parcels in EPSG:4326, corners rounded to a millimetre."""
    crop: NDArray[np.int16]
    """What of `CROPS` each grows, -1 for nothing."""
    declared: NDArray[np.bool_]
    """Whether it is a field that is known to others."""
    cover: NDArray[np.uint8]
    """How each looks; then what lies outside of all parcels."""
    tone: Floats
    """How bright each is."""
    ahead_days: Floats
    """How far each is ahead of the season."""
    cells: NDArray[np.int32]
    """Which parcel the centre of each cell lies in, or which of what lies outside: (y, x)."""
    grain: Floats
    """Texture of all ground: (y, x)."""

    def layer(self, band: str, day: date) -> NDArray[np.uint16]:
        """Return a band over all cells: (y, x), reflectance × 10000, at least 1."""
        plants = self._colours(band, day, self.cover)
        soil = self._colours(band, day, np.full_like(self.cover, _ID["fallow"]))
        bare = np.float32(0.01) * _BARE[self.cover, 0] * (soil - plants)
        steps = np.rint(plants[self.cells] + bare[self.cells] * self.grain)
        stored: NDArray[np.uint16] = np.clip(steps, 1, 10_000 // STEP).astype(np.uint16) * np.uint16(STEP)
        return stored

    def stored(self, band: str, day: date) -> NDArray[np.uint16]:
        """Return a band as files without clouds have it: (y, x), in pixels of 20 m where it is one of these."""
        layer = self.layer(band, day)
        return layer[1::2, 1::2] if band in COARSE else layer

    def scl(self, day: date) -> NDArray[np.uint8]:
        """Return the scene classification without clouds, in pixels of 20 m: plants, bare ground or water."""
        red, nir = (self._colours(band, day, self.cover) for band in ("red", "nir"))
        classes = np.where(nir - red > np.float32(0.4) * (nir + red), 4, 5).astype(np.uint8)
        classes[self.cover == _ID["river"]] = 6
        return classes[self.cells[1::2, 1::2]]

    def _colours(self, band: str, day: date, cover: NDArray[np.uint8]) -> Floats:
        """Reflectance × 1000 of the parcels, if they looked like this."""
        column = FARM_BANDS.index(band)
        passed = np.clip(((day - _GREEN).days + self.ahead_days) / np.float32((_RIPE - _GREEN).days), 0, 1)
        colours: Floats = _EARLY[cover, column] + (_LATE - _EARLY)[cover, column] * passed
        return self.tone * colours


def lay_farmland(size_px: int, seed: int, place: Place = CASTILE) -> Farmland:
    """Return farmland on a tile of so many pixels of 10 m; a smaller one has the same zones with fewer parcels."""
    half = 5 * size_px
    west, north = (round(edge / 20) * 20 for edge in (place.centre[0] - half, place.centre[1] + half))
    tile = Tile(place.mgrs, place.epsg, west, north, size_px, 10.0)
    rng = np.random.default_rng(seed)
    zones = _zones(seed)
    corners = list(_divide(tile, zones, rng))
    zone = np.array([_zone_of(tile, zones, parcel) for parcel in corners])
    arable = zone <= _SLOPE
    arable &= np.array([_area_ha(parcel) >= _LEAST_HA and _is_dry(tile, seed, parcel) for parcel in corners])
    declared = arable & np.array([_is_inside(tile, parcel) for parcel in corners])
    crop = np.full(len(corners), -1, np.int16)
    for among in (declared, arable & ~declared):
        for number in (_VEGA, _PLAIN, _SLOPE):
            chosen = np.flatnonzero(among & (zone == number))
            crop[chosen] = _deal(number, len(chosen), rng)
    cover = np.array([_ID[crop.cover] for crop in CROPS] + [_ID["grass"]], np.uint8)[crop]
    woods = np.where(rng.uniform(size=len(corners)) < 0.65, _ID["pines"], _ID["scrub"])
    cover = np.where(zone == _WILD, woods, np.where(zone == _VILLAGE, _ID["houses"], cover))
    cover = np.append(cover, [_ID[name] for name in _OUTSIDE]).astype(np.uint8)
    early = np.append(np.array([crop.early_days for crop in CROPS] + [0])[crop], [0] * len(_OUTSIDE))
    degrees = projected(np.array([shapely.Polygon(parcel) for parcel in corners]), tile.epsg, 4326)
    degrees = shapely.transform(degrees, lambda corners: np.round(corners, 8))
    x, y = tile.axes()
    grain = np.float32(0.7) * value_noise(x, y, 110, seed + 6) + np.float32(0.3) * value_noise(x, y, 40, seed + 7)
    return Farmland(
        tile,
        degrees,
        crop,
        declared,
        cover,
        rng.uniform(0.95, 1.05, len(cover)).astype(np.float32),
        (early + rng.uniform(-4, 4, len(cover))).astype(np.float32),
        _fill_cells(tile, seed, degrees, declared, grain),
        grain,
    )


def _fill_cells(
    tile: Tile, seed: int, degrees: NDArray[np.object_], declared: NDArray[np.bool_], grain: Floats
) -> NDArray[np.int32]:
    """Return which parcel each cell lies in, by its centre, and what lies between them."""
    track, hedge, river, grove = range(len(degrees), len(degrees) + len(_OUTSIDE))
    cells: NDArray[np.int32] = rasterize(
        zip(projected(degrees, 4326, tile.epsg), range(len(degrees)), strict=True),  # the outlines that others get
        out_shape=(tile.size_px, tile.size_px),
        transform=tile.transform,
        fill=track,
        dtype="int32",
    )
    x, y = tile.axes()
    cells[(cells == track) & (value_noise(x, y, 300, seed + 5) > 0.25)] = hedge
    free = ~np.append(declared, [False] * len(_OUTSIDE))[cells]
    from_river = np.abs(_from_river_m(tile, seed, x, y[:, None]))
    cells[(from_river < 70 + 40 * grain) & free] = grove
    cells[(from_river < 25) & free] = river
    return cells


def _zones(seed: int) -> NDArray[np.uint8]:
    """Which zone each square of a tile lies in: (y, x), north up."""
    down = across = (np.arange(_SQUARES) + 0.5) / _SQUARES
    zones = np.full((_SQUARES, _SQUARES), _PLAIN, np.uint8)
    zones[fractal_noise(across, down, 0.35, 2, seed + 2) > 0.20] = _SLOPE
    zones[fractal_noise(across, down, 0.30, 3, seed + 3) > 0.40] = _WILD
    from_river = np.abs(down[:, None] - _river(seed, across))
    zones[from_river < 0.10 + 0.04 * value_noise(across, down, 0.2, seed + 4)] = _VEGA
    for x, y, radius in ((0.34, 0.40, 0.030), (0.71, 0.70, 0.022), (0.82, 0.20, 0.016)):
        zones[(across - x) ** 2 + (down[:, None] - y) ** 2 < radius**2] = _VILLAGE
    return zones


def _river(seed: int, across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far below the top of the tile the river is, at distances from its left, all as shares of a side."""
    here = np.zeros(1)
    bends = 0.14 * value_noise(across, here, 0.5, seed + 8) + 0.04 * value_noise(across, here, 0.14, seed + 9)
    river: NDArray[np.float64] = 0.56 + bends[0].astype(np.float64)
    return river


def _from_river_m(tile: Tile, seed: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far north of the river positions are."""
    side = tile.size_px * tile.resolution_m
    return y - tile.north + side * _river(seed, (x - tile.west) / side)


def _divide(tile: Tile, zones: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield corners of convex parcels: the tile, cut across its longest side again and again, with a gap each time."""
    west, south, east, north = tile.bounds
    left = [np.array([(west, south), (east, south), (east, north), (west, north)])]
    while left:
        parcel = left.pop()
        hectares = _area_ha(parcel)
        if hectares < _MOST_HA[_zone_of(tile, zones, parcel)] * rng.uniform(0.75, 1):
            yield parcel
            continue
        sides = np.roll(parcel, -1, axis=0) - parcel
        longest = sides[np.argmax((sides**2).sum(axis=1))]
        turn = rng.uniform(-0.22, 0.22)
        along = longest / np.sqrt((longest**2).sum())
        along = along + turn * np.array([-along[1], along[0]])  # need not be a unit vector
        reach = (parcel * along).sum(axis=1)
        place = reach.min() + rng.uniform(0.38, 0.62) * (reach.max() - reach.min())
        gap = 14.0 if hectares > 500 else 6.0 if hectares > 60 else 2.5
        left += [_clipped(parcel, -along, -place - gap), _clipped(parcel, along, place - gap)]


def _clipped(parcel: NDArray[np.float64], along: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Return the part of a convex polygon that reaches no further than `most` along a direction."""
    beyond = (parcel * along).sum(axis=1) - most
    corners = []
    for last, here in zip(range(-1, len(parcel) - 1), range(len(parcel)), strict=True):
        if (beyond[last] > 0) != (beyond[here] > 0):
            share = beyond[last] / (beyond[last] - beyond[here])
            corners.append(parcel[last] + share * (parcel[here] - parcel[last]))
        if beyond[here] <= 0:
            corners.append(parcel[here])
    return np.array(corners)


def _area_ha(parcel: NDArray[np.float64]) -> float:
    x, y = (parcel - parcel[0]).T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 20_000


def _zone_of(tile: Tile, zones: NDArray[np.uint8], parcel: NDArray[np.float64]) -> int:
    x, y = parcel.mean(axis=0)
    square = tile.size_px * tile.resolution_m / _SQUARES
    row, col = (min(int(far // square), _SQUARES - 1) for far in (tile.north - y, x - tile.west))
    return int(zones[row, col])


def _is_dry(tile: Tile, seed: int, parcel: NDArray[np.float64]) -> bool:
    """Tell whether a parcel lies to one side of the river, and not at its banks."""
    above = _from_river_m(tile, seed, *parcel.T)
    return bool(above.min() > 120 or above.max() < -120)


def _is_inside(tile: Tile, parcel: NDArray[np.float64]) -> bool:
    """Tell whether a parcel lies so far inside that its surroundings are on the tile too, at least in part."""
    west, south, east, north = tile.bounds
    edge = 0.06 * (east - west)
    low, high = parcel.min(axis=0) - edge, parcel.max(axis=0) + edge
    return bool(low[0] > west and low[1] > south and high[0] < east and high[1] < north)


def _deal(zone: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return as many crops of a zone, in its shares, shuffled."""
    shares = np.cumsum([crop.shares[zone] for crop in CROPS])
    crops: NDArray[np.intp] = np.searchsorted(shares, (rng.permutation(count) + 0.5) / max(count, 1) * shares[-1])
    return crops
