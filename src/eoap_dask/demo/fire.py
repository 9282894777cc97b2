"""The demo's fire: where it burned, how badly, and what it did to the ground.

It multiplies bands by factors such that dNBR lies well within the intended class over all the demo's land, so that the
true class is known, also where a pixel of 10 m and one of 20 m show different fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eoap_dask.demo.noise import Floats, fractal_noise
from eoap_dask.errors import UsageError

PRE_FIRE, POST_FIRE = date(2021, 7, 13), date(2021, 8, 12)
"""The clear dates before and after."""

FIRE_BANDS = ("red", "green", "blue", "nir", "swir16", "swir22")
"""Bands of the scenes around the fire, whatever the other scenes have."""

LOW, MODERATE_LOW, MODERATE_HIGH, HIGH = 4, 5, 6, 7
"""Classes as `eoap_dask.kernels.severity` numbers them."""

# Per band: what is left, over ground burned at low, moderate-low, moderate-high and high severity. nir / swir22 become
# 0.6, 0.45, 0.28 and 0.15 times what they were.
_FACTORS: Mapping[str, tuple[float, float, float, float]] = {
    "blue": (1.00, 1.05, 1.10, 1.15),
    "green": (0.95, 0.90, 0.85, 0.80),
    "red": (1.20, 1.50, 1.90, 2.20),
    "nir": (0.75, 0.60, 0.40, 0.24),
    "swir16": (1.05, 1.05, 0.95, 0.85),
    "swir22": (1.25, 1.3333, 1.43, 1.60),
}

_REACH = 1.6
"""A fire burns up to this many radii from its middle."""


@dataclass(frozen=True)
class Fire:
    """A fire with a ragged edge, worst in its middle; the ground stays burned from its month on."""

    x: float
    """Position of its middle, EPSG:32610, metres."""
    y: float
    radius_m: float
    """About how far it reaches."""
    month: str = f"{POST_FIRE:%Y-%m}"
    """The first month that shows it, as YYYY-MM."""
    seed: int = 1910
    """Seed of its edge."""

    @property
    def reach_m(self) -> float:
        """No cell further than this from the middle, along either axis, burns."""
        return _REACH * self.radius_m

    def severity(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return how badly burnable ground burns: (y, x), `LOW` to `HIGH`, or 0 where the fire doesn't come."""
        out = np.zeros((len(y), len(x)), np.uint8)
        reach = self.reach_m
        cols = np.flatnonzero(np.abs(x - self.x) < reach)
        rows = np.flatnonzero(np.abs(y - self.y) < reach)
        if not (cols.size and rows.size):
            return out
        x, y = x[cols], y[rows]
        east = ((x - self.x) / self.radius_m).astype(np.float32)[None, :]
        north = ((y - self.y) / self.radius_m).astype(np.float32)[:, None]
        ragged = fractal_noise(x, y, 0.7 * self.radius_m, 3, self.seed)
        inside: Floats = 1 - np.sqrt(east * east + north * north) + np.float32(0.35) * ragged
        heat: Floats = inside + np.float32(0.3) * fractal_noise(x, y, 0.5 * self.radius_m, 2, self.seed + 1)
        classes = np.full(inside.shape, LOW, np.uint8)
        for limit in (0.22, 0.40, 0.58):
            classes += heat > np.float32(limit)
        classes[inside <= 0] = 0
        out[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = classes
        return out


def factors(band: str) -> Floats:
    """Return what a fire leaves of one of `FIRE_BANDS`, by class of severity: (8,), 1 for the classes below `LOW`."""
    return np.array([1] * LOW + list(_FACTORS[band]), np.float32)


def default_fire(centre: tuple[float, float], side_m: float) -> Fire:
    """Return a fire that both tiles hold: in the hills beside the small lake, or in small tiles astride the river."""
    if side_m >= 24_000:
        return Fire(centre[0] + 4900, centre[1] + 5900, 2000.0)
    return Fire(centre[0], centre[1] + 250, min(1100.0, 0.18 * side_m))


def fire_pair(items: Sequence[Mapping[str, Any]], tile: str = "10TET") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the items of `PRE_FIRE` and `POST_FIRE`, the clear scenes around the fire; `UsageError` if not there."""
    found = []
    for day in (PRE_FIRE, POST_FIRE):
        mine = _seen(items, day, tile)
        if len(mine) != 1:
            raise UsageError(
                f"The archive has {len(mine)} scenes of {tile} on {day}.",
                "Expected one, of an archive with a fire.",
                "Try make_archive(..., fire=True).",
            )
        found.append(dict(mine[0]))
    return found[0], found[1]


def has_fire(items: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether items are of an archive with a fire, so that `fire_pair` finds its scenes."""
    return all(len(_seen(items, day, "10TET")) == 1 for day in (PRE_FIRE, POST_FIRE))


def _seen(items: Sequence[Mapping[str, Any]], day: date, tile: str) -> list[Mapping[str, Any]]:
    return [i for i in items if tile in i["id"] and i["properties"]["datetime"].startswith(day.isoformat())]
