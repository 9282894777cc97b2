"""The ground of the demo: water, fields, forest, town and hills as a function of position.

A position has exactly the reflectance of its cell on one grid in EPSG:32610, so that two tiles in two projections show
the same ground and a test knows every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eoap_dask.demo.fire import HIGH, Fire, factors
from eoap_dask.demo.noise import Floats, fractal_noise, unit_hash, value_noise
from eoap_dask.errors import BandError

GROUND_EPSG = 32610
"""The CRS in which the ground is described."""

CENTRE_X, CENTRE_Y = 566_227.0, 5_277_369.0
"""The middle of the landscape: 122.118 W 47.647 N."""

STEP = 10
"""Stored values are multiples of this (reflectance 0.001): finer steps aren't seen and grow the files."""

GROUND_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
"""Bands that the ground is known in."""

_Bands = tuple[int, int, int, int, int, int]

# Cover types: SCL class, the bands in full green, the same when dry; reflectance × 1000.
_COVERS: dict[str, tuple[int, _Bands, _Bands]] = {
    "deep water": (6, (62, 58, 32, 14, 8, 5), (60, 55, 32, 14, 8, 5)),
    "shallow water": (6, (76, 92, 52, 22, 12, 8), (74, 86, 52, 22, 12, 8)),
    "river": (6, (70, 84, 64, 30, 18, 12), (72, 82, 66, 30, 18, 12)),
    "sand": (5, (118, 142, 162, 240, 300, 270), (118, 142, 162, 240, 300, 270)),
    "conifers": (4, (28, 53, 33, 250, 120, 60), (28, 50, 34, 235, 118, 60)),
    "young conifers": (4, (32, 62, 36, 300, 145, 75), (34, 60, 40, 270, 140, 75)),
    "broadleaf": (4, (32, 74, 38, 360, 180, 90), (44, 62, 70, 230, 190, 110)),
    "clear-cut": (5, (46, 76, 64, 230, 240, 150), (56, 80, 80, 190, 230, 150)),
    "fresh clear-cut": (5, (72, 92, 104, 190, 230, 170), (74, 92, 106, 180, 225, 170)),
    "lush crop": (4, (36, 98, 44, 440, 190, 95), (42, 104, 54, 400, 185, 95)),
    "grass": (4, (48, 102, 66, 370, 200, 105), (58, 104, 84, 320, 205, 115)),
    "young crop": (4, (60, 100, 84, 290, 220, 140), (66, 100, 96, 260, 215, 140)),
    "ripe crop": (5, (92, 148, 172, 300, 320, 230), (94, 138, 166, 270, 310, 225)),
    "stubble": (5, (112, 146, 176, 270, 330, 260), (108, 138, 168, 250, 320, 255)),
    "ploughed": (5, (66, 80, 98, 150, 180, 150), (62, 74, 90, 140, 175, 145)),
    "red soil": (5, (74, 92, 132, 200, 260, 220), (72, 88, 126, 190, 250, 210)),
    "track": (5, (112, 126, 142, 220, 280, 245), (108, 122, 136, 210, 270, 240)),
    "road": (5, (112, 116, 122, 150, 170, 160), (112, 116, 122, 150, 170, 160)),
    "houses": (5, (88, 98, 96, 220, 210, 180), (92, 100, 102, 205, 205, 178)),
    "garden suburb": (4, (60, 82, 66, 290, 190, 130), (66, 82, 74, 250, 190, 135)),
    "leafy suburb": (4, (42, 68, 46, 320, 170, 95), (46, 66, 54, 270, 170, 100)),
    "commerce": (5, (128, 134, 138, 220, 230, 210), (128, 134, 138, 220, 230, 210)),
    "bright roofs": (7, (216, 220, 224, 290, 280, 250), (216, 220, 224, 290, 280, 250)),
    "rock": (5, (104, 112, 118, 160, 190, 165), (104, 112, 118, 160, 190, 165)),
    "alpine meadow": (4, (58, 92, 74, 280, 210, 130), (72, 92, 92, 220, 205, 130)),
    "deep shade": (2, (26, 38, 25, 110, 55, 28), (26, 37, 26, 100, 52, 27)),
}
_ID = {name: number for number, name in enumerate(_COVERS)}
_SCL = np.array([scl for scl, _, _ in _COVERS.values()], np.uint8)
_WATER = _SCL == 6

_GREENNESS = (0.25, 0.28, 0.40, 0.62, 0.85, 1.0, 0.95, 0.82, 0.68, 0.52, 0.38, 0.28)
"""Share of the full green by month of the year; a month is one picture."""

_FIELDS = ("lush crop", "grass", "young crop", "ripe crop", "stubble", "ploughed", "red soil", "grass")


class Event(Protocol):
    """Something that changes the ground: a felling, a flood."""

    def apply(
        self,
        reflectance: Floats,
        *,
        band: str,
        month: str,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> Floats:
        """Return the reflectance after the event.

        Parameters
        ----------
        reflectance
            (y, x), before it.
        band
            Common name.
        month
            "YYYY-MM".
        x, y
            EPSG:32610 coordinates of the columns and rows, metres.

        Returns
        -------
        NDArray[np.float32]
            The same shape.
        """
        ...


@dataclass(frozen=True, eq=False)
class Landscape:
    """Known ground: cover and relief on a grid of square cells, and its reflectance in each month.

    A position outside of the grid has the value of the nearest cell.
    """

    seed: int
    """Seed of the noise; the large shapes stay."""
    west: float
    """Left edge of the grid, metres in EPSG:32610."""
    north: float
    """Upper edge."""
    cell_m: float
    """Side of a cell."""
    shape: tuple[int, int]
    """Rows and columns."""
    events: Sequence[Event] = field(default=())
    """What changed the ground, in order."""
    fire: Fire | None = None
    """What burned before that; water doesn't."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands that the ground is known in."""
        return GROUND_BANDS

    @property
    def x(self) -> NDArray[np.float64]:
        """Ground coordinates of the columns' centres."""
        return self.west + (np.arange(self.shape[1], dtype=np.float64) + 0.5) * self.cell_m

    @property
    def y(self) -> NDArray[np.float64]:
        """Ground coordinates of the rows' centres."""
        return self.north - (np.arange(self.shape[0], dtype=np.float64) + 0.5) * self.cell_m

    def index(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the flat index of the cell that each position (EPSG:32610, metres) lies in."""
        col = np.clip(np.floor((x - self.west) / self.cell_m).astype(np.intp), 0, self.shape[1] - 1)
        row = np.clip(np.floor((self.north - y) / self.cell_m).astype(np.intp), 0, self.shape[0] - 1)
        return row * self.shape[1] + col

    def crop(self, row: int, row_stop: int, col: int, col_stop: int) -> Landscape:
        """Return a part of the ground (cells, half open), at the cost of that part alone.

        Its outermost cells may differ from the whole's: the relief needs a neighbour.
        """
        row, col = max(row, 0), max(col, 0)
        row_stop, col_stop = min(row_stop, self.shape[0]), min(col_stop, self.shape[1])
        return replace(
            self,
            west=self.west + col * self.cell_m,
            north=self.north - row * self.cell_m,
            shape=(row_stop - row, col_stop - col),
        )

    def around_fire(self) -> Landscape:
        """Return the part of the ground that the fire can reach; 2 × 2 cells where there is no fire."""
        if self.fire is None:
            return self.crop(0, 2, 0, 2)
        reach = self.fire.reach_m
        col = int((self.fire.x - reach - self.west) // self.cell_m) - 2
        row = int((self.north - self.fire.y - reach) // self.cell_m) - 2
        side = int(2 * reach / self.cell_m) + 6
        return self.crop(row, row + side, col, col + side)

    def layer(self, band: str, month: str) -> NDArray[np.uint16]:
        """Return one band over the whole grid: (y, x), reflectance × 10000, at least 1; `BandError` if unknown."""
        reflectance = _palette(band, month)[self._cover]
        reflectance *= self._shade
        if self._burned_by(month):
            reflectance *= factors(band)[self._burn]
        for event in self.events:
            reflectance = event.apply(reflectance, band=band, month=month, x=self.x, y=self.y)
        steps = np.rint(reflectance * np.float32(10_000 / STEP))
        stored: NDArray[np.uint16] = np.clip(steps, 1, 10_000 // STEP).astype(np.uint16) * np.uint16(STEP)
        return stored

    def reflectance(self, band: str, x: NDArray[np.float64], y: NDArray[np.float64], month: str) -> NDArray[np.uint16]:
        """Return one band at positions in EPSG:32610, metres: reflectance × 10000; `BandError` if unknown."""
        return self.layer(band, month).ravel()[self.index(x, y)]

    def scl(self, index: NDArray[np.intp], month: str = "") -> NDArray[np.uint8]:
        """Return the scene classification (2, 4 to 7) of clear ground in cells; burned ground is bare, or dark."""
        classes: NDArray[np.uint8] = _SCL[self._cover.ravel()[index]]
        if self._burned_by(month):
            burn = self._burn.ravel()[index]
            classes[burn > 0] = 5
            classes[burn == HIGH] = 2
        return classes

    def burn_severity(self, month: str) -> NDArray[np.uint8]:
        """Return how badly every cell has burned by a month: (y, x), 4 (low) to 7 (high), 0 where nothing has."""
        return self._burn.copy() if self._burned_by(month) else np.zeros(self.shape, np.uint8)

    def _burned_by(self, month: str) -> bool:
        return self.fire is not None and month >= self.fire.month

    @cached_property
    def _burn(self) -> NDArray[np.uint8]:
        if self.fire is None:
            return np.zeros(self.shape, np.uint8)
        burn = self.fire.severity(self.x, self.y)
        burn[_WATER[self._cover]] = 0
        return burn

    @property
    def _cover(self) -> NDArray[np.uint8]:
        return self._ground[0]

    @property
    def _shade(self) -> Floats:
        return self._ground[1]

    @cached_property
    def _ground(self) -> tuple[NDArray[np.uint8], Floats]:
        return _compose(self.x, self.y, self.cell_m, self.seed)


@lru_cache(maxsize=64)
def _palette(band: str, month: str) -> Floats:
    """Reflectance of each cover type in a month."""
    if band not in GROUND_BANDS:
        raise BandError(
            f"The demo's ground has no band {band!r}.",
            f"It is known in {', '.join(GROUND_BANDS)}.",
            "Choose among these.",
        )
    column = GROUND_BANDS.index(band)
    green = _GREENNESS[int(month[5:7]) - 1]
    mixed = [full[column] * green + dry[column] * (1 - green) for _, full, dry in _COVERS.values()]
    palette: Floats = (np.array(mixed) / 1000).astype(np.float32)
    palette.setflags(write=False)
    return palette


def _compose(
    x: NDArray[np.float64], y: NDArray[np.float64], cell_m: float, seed: int
) -> tuple[NDArray[np.uint8], Floats]:
    """Cover type and brightness of every cell: the shape of the land, then what grows and stands on it."""
    east = (x - CENTRE_X).astype(np.float32)[None, :]
    north = (y - CENTRE_Y).astype(np.float32)[:, None]
    ripple = fractal_noise(x, y, 900, 3, seed + 11)

    lakes, island = _lakes(y, east, north, ripple, seed)
    river_y = -1800 + 0.10 * east + 1700 * value_noise(x, np.zeros(1), 5200, seed + 21)
    meander = 620 * value_noise(x, np.zeros(1), 1300, seed + 22) + 190 * value_noise(x, np.zeros(1), 480, seed + 23)
    from_river = np.abs(north - river_y - meander - 60 * ripple)
    width = 3300 + 1300 * value_noise(x, np.zeros(1), 6100, seed + 24)
    valley = _smoothstep(1400, -1400, np.abs(north - river_y) + 800 * ripple - width)

    # Relief: low in the west and in the valley, mountains towards the east.
    ridges = 1 - np.abs(fractal_noise(x, y, 6400, 4, seed + 31, gain=0.45))
    spurs = 1 - np.abs(fractal_noise(x, y, 1900, 4, seed + 32, gain=0.5))
    wild = (0.09 + 0.91 * _smoothstep(-1500, 12_000, east)) * (1 - 0.97 * valley)
    height = wild * (640 * ridges + 250 * spurs)
    slope_y, slope_x = np.gradient(height, np.float32(cell_m))
    # The sun of the passes: azimuth 158 degrees, elevation 35 degrees; rows run southward.
    light = (0.5736 - 0.3069 * slope_x - 0.7595 * slope_y) / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    relief = np.clip(light * np.float32(1 / 0.5736), 0.40, 1.8)

    people = 0.85 * fractal_noise(x, y, 3600, 4, seed + 41) + _near_lake(east) - 1.2 * valley - 0.9 * wild
    woods = _forest(x, y, ripple, wild, seed)
    cover, field_tone = _fields(woods, (valley > 0.45) & ~island, x, y, cell_m, seed)
    cover = _town(cover, np.where(island & (ripple < 0.1), 0, people), east, north, cell_m, seed)
    cover[(height > 700) & (ripple > -0.2)] = _ID["alpine meadow"]
    cover[(height > 745) & (ripple > 0.0)] = _ID["rock"]
    cover[(relief < 0.43) & (height > 150)] = _ID["deep shade"]
    wooded = np.isin(cover, [_ID[n] for n in ("conifers", "young conifers", "broadleaf", "leafy suburb")])

    river = (from_river < 75) & (lakes > 0) & ~island
    cover[(from_river < 150) & (ripple > 0.45) & ~island] = _ID["sand"]
    cover[river] = _ID["river"]
    cover[(lakes > 0) & (lakes < 45) & (ripple > 0.5)] = _ID["sand"]
    cover[lakes <= 0] = _ID["shallow water"]
    cover[lakes < -220] = _ID["deep water"]

    grain = value_noise(x, y, max(70.0, 2 * cell_m), seed + 51)
    shade = relief * np.where(wooded, 1 + 0.22 * grain, 1 + 0.04 * grain) * field_tone
    water = river | (lakes <= 0)
    shade[water] = 1 + 0.05 * ripple[water]
    return cover, shade.astype(np.float32)


def _lakes(
    y: NDArray[np.float64], east: Floats, north: Floats, ripple: Floats, seed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Metres to the shore, negative on the water, of two lakes; and the island in the long one."""
    wander = fractal_noise(np.zeros(1), y, 6200, 3, seed + 1)
    width = fractal_noise(np.zeros(1), y, 4200, 2, seed + 2)
    reach = np.minimum(np.abs(north - 1500) / 15_500, 1)
    taper = np.sqrt(1 - reach * reach)
    long_lake = np.abs(east + 7600 - 1500 * wander) - (2100 + 950 * width) * taper + 60 * (1 - taper)
    island = np.sqrt(((east + 7300 - 1500 * wander) / 800) ** 2 + ((north + 3600) / 2300) ** 2)
    long_lake = np.maximum(long_lake, (1 - island) * 750)
    lean = 0.35 * north
    small = np.sqrt(((east - 4300 + lean) / 850) ** 2 + ((north - 5600) / 3100) ** 2)
    shore: Floats = np.minimum(long_lake, (small - 1) * 850) + 170 * ripple
    return shore.astype(np.float32), island < 1


def _near_lake(east: Floats) -> Floats:
    """Pull of the lake's shores on people."""
    pull: Floats = 0.50 * _smoothstep(-500, -4500, east) - 0.35 * _smoothstep(1000, 6000, east)
    return pull


def _forest(
    x: NDArray[np.float64], y: NDArray[np.float64], ripple: Floats, wild: Floats, seed: int
) -> NDArray[np.uint8]:
    """Woods with broadleaf stands in the lowland and clear-cuts in the hills."""
    mix = fractal_noise(x, y, 2400, 3, seed + 61)
    cover = np.full(mix.shape, _ID["conifers"], np.uint8)
    cover[mix + 0.5 * ripple > 0.35] = _ID["young conifers"]
    cover[(mix < -0.30) & (wild < 0.5)] = _ID["broadleaf"]
    east = (x - CENTRE_X).astype(np.float32)[None, :]
    north = (y - CENTRE_Y).astype(np.float32)[:, None]
    chance, edge = _parcels(east + 90 * ripple, north, 0.94, 0.34, 640, 520, seed + 62)
    cut = (edge > 25) & (wild > 0.18)
    cover[cut & (chance < 0.17)] = _ID["young conifers"]
    cover[cut & (chance < 0.09)] = _ID["clear-cut"]
    cover[cut & (chance < 0.03)] = _ID["fresh clear-cut"]
    return cover


def _fields(
    cover: NDArray[np.uint8],
    where: NDArray[np.bool_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    cell_m: float,
    seed: int,
) -> tuple[NDArray[np.uint8], Floats]:
    """Lay a patchwork with crisp borders, tracks between, and a tone of its own per field."""
    east = (x - CENTRE_X).astype(np.float32)[None, :]
    north = (y - CENTRE_Y).astype(np.float32)[:, None]
    chance, edge = _parcels(east, north, 0.9135, 0.4067, 470, 300, seed + 71)
    # Here and there the land was divided another way.
    other = value_noise(x, y, 2700, seed + 72) > 0.12
    other_chance, other_edge = _parcels(east, north, 0.9781, -0.2079, 290, 640, seed + 73)
    chance, edge = np.where(other, other_chance, chance), np.where(other, other_edge, edge)
    crop = np.array([_ID[name] for name in _FIELDS], np.uint8)[(chance * len(_FIELDS)).astype(np.intp)]
    tone = np.where(where, 0.86 + 0.28 * ((chance * 977) % 1), 1).astype(np.float32)
    crop[edge < 0.5 * max(cell_m, 14)] = _ID["track"]
    return np.where(where, crop, cover), tone


def _town(
    cover: NDArray[np.uint8], people: Floats, east: Floats, north: Floats, cell_m: float, seed: int
) -> NDArray[np.uint8]:
    """Blocks of houses, gardens, commerce and parks, denser where there are more people, with streets between."""
    chance, edge = _parcels(east, north, 0.9986, 0.0523, 170, 110, seed + 81)
    dense = np.clip(1.25 * people - 0.25, 0, 1)
    block = np.full(cover.shape, _ID["garden suburb"], np.uint8)
    block[chance < 0.30 - 0.35 * dense] = _ID["leafy suburb"]
    block[chance < 0.05] = _ID["grass"]
    block[chance > 1.02 - 0.85 * dense] = _ID["houses"]
    block[chance > 1.05 - 0.60 * dense * dense * dense] = _ID["commerce"]
    block[chance > 1.02 - 0.04 * dense * dense] = _ID["bright roofs"]
    block[(edge < 0.5 * cell_m) & (chance > 0.35)] = _ID["road"]
    return np.where(people > 0.2, block, cover)


def _parcels(
    east: Floats, north: Floats, cos: float, sin: float, width: float, height: float, seed: int
) -> tuple[Floats, Floats]:
    """Lay turned bricks: a hash in [0, 1) of the parcel, and the metres to its nearest side."""
    across = (east * np.float32(cos) + north * np.float32(sin)) / np.float32(width)
    along = (north * np.float32(cos) - east * np.float32(sin)) / np.float32(height)
    row = np.floor(along)
    rows = row.astype(np.int64)
    shifts = unit_hash(np.arange(rows.min(), rows.max() + 1), np.zeros(1, np.int64), seed + 1)
    across = across + shifts[rows - rows.min()]
    col = np.floor(across)
    in_col, in_row = across - col, along - row
    edge = np.minimum(np.minimum(in_col, 1 - in_col) * np.float32(width), np.minimum(in_row, 1 - in_row) * height)
    return unit_hash(rows, col.astype(np.int64), seed), edge.astype(np.float32)


def _smoothstep(start: float, stop: float, value: Floats) -> Floats:
    """0 at `start`, 1 at `stop`, smooth between; `start` may be the larger one."""
    t = np.clip((value - np.float32(start)) * np.float32(1 / (stop - start)), 0, 1)
    smooth: Floats = t * t * (3 - 2 * t)
    return smooth
