"""Shapes on the globe: longitudes without jumps, poles, and parts within ±180 degrees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

_DECIMALS = 10
"""1e-10 degrees are a hundredth of a millimetre: hides what adding and subtracting 360 did to a number."""
_PIECES = 64
"""Pieces of the longest side: edges that are straight in a projection bend in degrees."""


def to_degrees(geometry: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Return a shape in longitude and latitude (EPSG:4326), as `within_180` has it where 180° runs through it.

    Raises `pyproj.exceptions.ProjError` where there is no way from the CRS to EPSG:4326.
    """
    geometry = shapely.force_2d(geometry)
    transform = _to_degrees(crs).transform
    if not crs.is_geographic:
        longest = float(np.ptp(np.reshape(geometry.bounds, (2, 2)), axis=0).max())
        if np.isfinite(longest) and longest > 0:
            geometry = shapely.segmentize(geometry, longest / _PIECES)

    def move(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(transform(coordinates[:, 0], coordinates[:, 1]))

    return within_180(shapely.transform(geometry, move), is_dense=not crs.is_geographic)


@lru_cache(64)
def _to_degrees(crs: CRS) -> Transformer:
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def past_180(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return degrees whose longitudes go on past 180 instead of beginning anew at -180."""
    return np.column_stack([xy[:, 0] % 360, xy[:, 1]])


def within_180(geometry: BaseGeometry, *, is_dense: bool) -> BaseGeometry:
    """Return a shape in degrees whose edges go the short way round, in parts within ±180.

    Parameters
    ----------
    geometry
        Any shape with longitudes within ±180; it stays as it is unless a ring has an edge of more than 180°.
    is_dense
        Whether each edge is short on the globe, as of a projected shape. Its rings may go round a pole, and may be of
        any width. Otherwise a ring is taken as it stands if it would go round a pole or be more than 180° wide, and
        so is an edge from -180 to 180.

    Returns
    -------
    BaseGeometry
        A MultiPolygon where something changed: what isn't a polygon is left out of it.
    """
    west, _, east, _ = geometry.bounds
    if not east - west > 180:
        return geometry
    found = polygons(geometry)
    if not any(_jumps(ring, is_dense).any() for one in found for ring in (one.exterior, *one.interiors)):
        return geometry
    parts: list[Polygon] = []
    for one in found:
        walked = _walked(one, is_dense)
        parts += [one] if walked is None else polygons(split(walked))
    return MultiPolygon(parts)


def polygons(geometry: BaseGeometry) -> list[Polygon]:
    """Return the polygons in any geometry, nested collections included."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    if hasattr(geometry, "geoms"):
        return [polygon for part in geometry.geoms for polygon in polygons(part)]
    return []


def shifted(geometry: BaseGeometry, degrees: float) -> BaseGeometry:
    """Return a shape with so much added to its longitudes."""
    if not degrees:
        return geometry
    return shapely.transform(geometry, lambda xy: xy + np.array([degrees, 0.0]))


def split(geometry: BaseGeometry) -> MultiPolygon:
    """Return a shape whose longitudes continue past 180 as parts within ±180."""
    near = polygons(geometry.intersection(box(-180, -90, 180, 90)))
    far = polygons(geometry.intersection(box(180, -90, 540, 90)))
    return MultiPolygon(near + [shapely.transform(part, _back) for part in far])


def _back(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.column_stack([np.round(coordinates[:, 0] - 360, _DECIMALS), coordinates[:, 1]])


def _jumps(ring: Any, is_dense: bool) -> npt.NDArray[np.float64]:
    """Return for each edge of a ring how many turns to add, so that it goes the short way."""
    steps = np.diff(shapely.get_coordinates(ring)[:, 0])
    if not np.isfinite(steps).all():
        return np.zeros(len(steps))
    turns: npt.NDArray[np.float64] = -np.rint(steps / 360)
    if not is_dense:
        turns[np.abs(steps) >= 360] = 0
    return turns


def _walked(polygon: Polygon, is_dense: bool) -> BaseGeometry | None:
    """Return a polygon with its west end within ±180 and longitudes that continue past 180; None to leave it."""
    shell, goes_round = _ring(polygon.exterior, is_dense)
    west, _, east, _ = shell.bounds
    if not is_dense and (goes_round or east - west > 180):
        return None
    for hole in polygon.interiors:
        gap, goes_round = _ring(hole, is_dense, range(-2, 3))
        for degrees in (0,) if goes_round else (-360, 0, 360):  # on whichever turn the shell is
            shell = shell.difference(shifted(gap, degrees))
    return shifted(shell, -360 * float(np.floor((west + 180) / 360)))


def _ring(ring: Any, is_dense: bool, turns: Sequence[int] = (0,)) -> tuple[BaseGeometry, bool]:
    """Return what a ring encloses, without jumps of longitude, and whether it goes round a pole: then so many turns."""
    xy = shapely.get_coordinates(ring)
    xy[1:, 0] += 360 * np.cumsum(_jumps(ring, is_dense))
    turn = xy[-1, 0] - xy[0, 0]
    goes_round = bool(abs(turn) > 180)
    if goes_round:
        pole = np.copysign(90.0, xy[:, 1].mean())
        xy = np.vstack([xy + np.array([turn * number, 0.0]) for number in turns])
        xy = np.vstack([xy, [xy[-1, 0], pole], [xy[0, 0], pole]])
    return shapely.make_valid(Polygon(xy)), goes_round
