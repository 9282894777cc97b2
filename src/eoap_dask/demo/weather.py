"""The sky of the demo: clouds, their shadows, cirrus and the edge of the swath, by pass and position.

It is known per cell of the classification, twice the pixel of the data: a cell is either wholly clear or flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eoap_dask.demo.noise import fractal_noise

NODATA, SHADOW, CLOUD, DENSE_CLOUD, CIRRUS = 0, 3, 8, 9, 10
"""Classes of the scene classification that the sky decides; the ground decides the others."""

FULL = 256
"""An opacity of one."""

SHADOW_EAST_M, SHADOW_NORTH_M = -640.0, 1585.0
"""From a cloud 1200 m up to its shadow, under a sun at azimuth 158 degrees and elevation 35 degrees."""

CLOUD_COLOUR = {"blue": 1.02, "green": 1.0, "red": 1.0, "nir": 1.05}
"""Brightness of cloud by band; other bands count as 1."""

_SAMPLED = 4
"""Step between the cells, along either axis, that are looked at to find how much lies above a level."""

Swath = Literal["whole", "west", "east"]


@dataclass(frozen=True)
class Sky:
    """The sky of one pass."""

    seed: int
    """Seed of the noise."""
    cover: float
    """Share of the ground under dense or medium cloud, 0 to 1."""
    blob_m: float
    """Size of the largest clouds."""
    cirrus: bool
    """Whether there is thin cirrus too."""
    swath: Swath
    """Which side of the swath's edge has data."""
    edge_x: float
    """Where the edge crosses `edge_y`."""
    edge_y: float
    """EPSG:32610 coordinates, metres."""

    EDGE_SLOPE = 0.21
    """Metres east per metre north: the inclination of the orbit."""

    def inside(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell whether positions (EPSG:32610, metres) lie in the swath."""
        if self.swath == "whole":
            return np.ones(np.shape(x), bool)
        east_of_edge = x - self.edge_x - (y - self.edge_y) * self.EDGE_SLOPE
        inside: NDArray[np.bool_] = east_of_edge > 0 if self.swath == "east" else east_of_edge < 0
        return inside


@dataclass(frozen=True, eq=False)
class SkyGrid:
    """A sky, evaluated on a grid of cells: integers, so that everything made of them is exact."""

    opacity: NDArray[np.uint16]
    """Opacity of dense and medium cloud, 0 to `FULL`."""
    thin: NDArray[np.uint16]
    """Opacity of cirrus."""
    shadow: NDArray[np.uint16]
    """Share of the light that is missing."""
    brightness: NDArray[np.uint16]
    """Reflectance × 10000 of what covers the ground."""

    def classify(self) -> NDArray[np.uint8]:
        """Return the scene classes that the sky decides (3, 8, 9, 10), 0 where the ground is seen clearly."""
        classes = np.where(self.shadow > 0, SHADOW, 0).astype(np.uint8)
        classes[self.thin > 0] = CIRRUS
        classes[self.opacity > 0] = CLOUD
        classes[self.opacity > 0.55 * FULL] = DENSE_CLOUD
        return classes

    def take(self, index: NDArray[np.intp]) -> SkyGrid:
        """Return the cells of a flat index, in its shape."""
        return SkyGrid(*(a.ravel()[index] for a in (self.opacity, self.thin, self.shadow, self.brightness)))


def cloud_level(sky: Sky, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the value of a sky's noise above which there are clouds, so that they cover their share of a rectangle."""
    sample = fractal_noise(x[::_SAMPLED], y[::_SAMPLED], sky.blob_m, 5, sky.seed, gain=0.55)
    return _level(sample, sky.cover, 1)


def evaluate(
    sky: Sky, x: NDArray[np.float64], y: NDArray[np.float64], cell_m: float, level: float | None = None
) -> SkyGrid:
    """Return a sky over columns `x` and rows `y` (EPSG:32610, metres), `cell_m` apart, as (y, x).

    For a part of a larger rectangle, `level` is that of the whole; cirrus then isn't that of the whole.
    """
    # The shadow is the cloud field, shifted; so evaluate it on a margin to the south and to the east.
    right, down = round(-SHADOW_EAST_M / cell_m), round(SHADOW_NORTH_M / cell_m)
    rows, cols = len(y), len(x)
    wide_x = np.concatenate([x, x[-1] + cell_m * np.arange(1, right + 1)])
    wide_y = np.concatenate([y, y[-1] - cell_m * np.arange(1, down + 1)])
    field = fractal_noise(wide_x, wide_y, sky.blob_m, 5, sky.seed, gain=0.55)

    if level is None:
        level = _level(field[:rows, :cols], sky.cover)
    dense = np.clip((field - np.float32(level)) * np.float32(4.5), 0, 1)
    if sky.cover >= 1:
        dense[:] = 1
    opacity = np.rint(np.sqrt(dense) * FULL).astype(np.uint16)
    shadow = (opacity[down:, right:] * np.uint16(5)) // np.uint16(9)
    billow = np.clip(0.35 + 0.5 * (field - np.float32(max(level, -1.5))), 0, 1)[:rows, :cols]
    thin = np.zeros((rows, cols), np.uint16)
    if sky.cirrus:
        # Streaks: the same noise, squeezed across the wind.
        veil = fractal_noise(x + 0.0, 3.5 * y, 2.5 * sky.blob_m, 4, sky.seed + 7, gain=0.6)
        thin = np.rint(np.clip(0.45 * (veil - np.float32(_level(veil, 0.12))), 0, 0.35) * FULL).astype(np.uint16)
    return SkyGrid(
        opacity=opacity[:rows, :cols],
        thin=thin,
        shadow=shadow,
        brightness=np.rint(4200 + 3400 * billow).astype(np.uint16),
    )


def shade(truth: NDArray[np.uint16], sky: SkyGrid, band: str) -> NDArray[np.uint16]:
    """Return the ground (reflectance × 10000) under the sky, at least 1."""
    lit = truth.astype(np.uint32) * (FULL - sky.shadow)
    cover = (FULL - sky.opacity.astype(np.uint32)) * (FULL - sky.thin)  # what is left of the ground, of 2**16
    white = (sky.brightness * np.float32(CLOUD_COLOUR.get(band, 1.0))).astype(np.uint32)
    mixed = ((lit >> np.uint32(8)) * cover + white * (np.uint32(FULL * FULL) - cover)) >> np.uint32(16)
    stored: NDArray[np.uint16] = np.maximum(mixed, 1).astype(np.uint16)
    return stored


def _level(field: NDArray[np.float32], share: float, step: int = _SAMPLED) -> float:
    """Find the value that this share of the field lies above."""
    if share <= 0:
        return float("inf")
    if share >= 1:
        return float(field.min()) - 1
    sample = np.sort(field[::step, ::step], axis=None)
    return float(sample[min(len(sample) - 1, int(len(sample) * (1 - share)))])
