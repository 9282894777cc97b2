"""The output grid: from an area of interest to a `GeoBox`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS

from eoap_dask.errors import GridError
from eoap_dask.geo.crs import crs_name, parse_crs, transformer
from eoap_dask.geo.globe import polygons
from eoap_dask.geo.inside import holds_a_centre
from eoap_dask.geo.window import grid_bounds
from eoap_dask.text import option

if TYPE_CHECKING:
    from eoap_dask.geo.aoi import Aoi

_MAX_SIDE_PX = 1 << 20
_EDGE_TOLERANCE_PX = 1e-6
"""Bounds this close to the grid count as on it: 12.1 / 0.0001 isn't a whole number in floating point."""


def utm_crs(aoi: Aoi) -> str:
    """Return the code of the UTM zone that holds most of the area; more than two zones raise `GridError`."""
    # x, sin(y) is an equal-area plane, good enough to say where most of the area lies
    plane = shapely.transform(
        aoi.geometry, lambda c: np.column_stack([c[:, 0], np.degrees(np.sin(np.radians(c[:, 1])))])
    )
    west, _, east, _ = plane.bounds
    first, last = math.floor((west + 180) / 6), math.ceil((east + 180) / 6) - 1
    if last - first > 1:
        raise GridError(
            f"The area is {east - west:.1f}° wide and touches {last - first + 1} UTM zones.",
            "A UTM grid covers at most two.",
            f"Try {option('crs')} with a projection for the whole area (such as EPSG:3035 in Europe), "
            f"or a smaller {option('aoi')}.",
        )
    shares = {z: shapely.clip_by_rect(plane, 6 * z - 180, -91, 6 * z - 174, 91).area for z in range(first, last + 1)}
    zone = max(shares, key=lambda z: (shares[z], -z)) % 60 + 1
    north = plane.centroid.y >= 0
    return f"EPSG:{(32600 if north else 32700) + zone}"


def project_aoi(aoi: Aoi, crs: str) -> shapely.Geometry:
    """Return the shape of the area in a CRS, densified so that edges straight in degrees keep their place."""
    shape = _project(aoi.geometry, aoi, crs)
    if shape.is_valid or not all(map(math.isfinite, shape.bounds)):
        return shape
    # as where a shape in degrees goes round a pole: its ends meet
    return shapely.MultiPolygon(polygons(shapely.make_valid(shape)))


def _project(geometry: shapely.Geometry, aoi: Aoi, crs: str) -> shapely.Geometry:
    west, south, east, north = aoi.geometry.bounds
    dense = shapely.segmentize(geometry, max(east - west, north - south, 64e-9) / 64)
    to = transformer("EPSG:4326", crs)

    def move(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = to.transform(coordinates[:, 0], coordinates[:, 1])
        return np.column_stack([x, y])

    return shapely.transform(dense, move)


def _is_torn(aoi: Aoi, crs: str) -> bool:
    """Tell whether the edge of a projection, such as the antimeridian in Web Mercator, runs through an area."""
    outline = shapely.get_coordinates(_project(shapely.box(*aoi.geometry.bounds).exterior, aoi, crs))
    outline = outline[np.isfinite(outline).all(axis=1)]
    steps = np.abs(np.diff(outline, axis=0))
    return bool(len(outline) > 1 and steps.max() > np.ptp(outline, axis=0).max() / 2)


def grid_for(aoi: Aoi, crs: str, resolution: float) -> GeoBox:
    """Return the grid over an area, in ``auto`` (the UTM zone that holds most of it) or any CRS.

    Its bounds are those of the area, expanded to multiples of the resolution (CRS units) from the CRS origin, whatever
    the items. Raises `GridError`.
    """
    return grid_and_shape(aoi, crs, resolution)[0]


def grid_and_shape(aoi: Aoi, crs: str, resolution: float) -> tuple[GeoBox, shapely.Geometry]:
    """Return the grid of `grid_for`, and the shape of the area in its CRS as `project_aoi` has it."""
    if not (math.isfinite(resolution) and resolution > 0):
        raise _no_resolution(resolution)
    code = utm_crs(aoi) if crs == "auto" else crs
    parsed = parse_crs(code)
    if not (parsed.is_geographic or parsed.is_projected):
        raise GridError(f"{code} is neither a projected nor a geographic CRS.", "", _try_auto())
    if len(parsed.axis_info) > 2:
        raise GridError(f"{code} has {len(parsed.axis_info)} axes.", "Expected two.", _try_auto())
    name = parsed.to_string() if parsed.to_authority() is None else ":".join(parsed.to_authority())
    unit = unit_of(parsed)
    shape = project_aoi(aoi, name)
    west, south, east, north = shape.bounds
    if not all(map(math.isfinite, (west, south, east, north))):
        raise GridError(
            f"The area can't be projected to {name}.",
            "Expected a CRS that is valid there.",
            _try_auto(),
        )
    if _is_torn(aoi, name):
        raise GridError(
            f"The edge of {name} cuts the area into pieces.",
            "Expected a CRS that keeps it in one piece.",
            _try_auto(),
        )
    _check_scale(resolution, parsed, unit, max(east - west, north - south), code)
    return _snapped((west, south, east, north), name, resolution, unit), shape


def unit_of(crs: CRS) -> str:
    """Return the plural of the unit of a CRS's axes, such as metres."""
    name = "degree" if crs.is_geographic else crs.axis_info[0].unit_name if crs.axis_info else "metre"
    return f"{name}s".replace("foots", "feet")


def fitting_resolution(aoi: Aoi, shape: shapely.Geometry, crs: str, above: float) -> float | None:
    """Return the largest resolution of 1, 2 or 5 times a power of ten at which a shape holds the centre of a pixel.

    Smaller than `above`; None where there is none with a usable grid. `shape` is the area in `crs`.
    """
    power = math.ceil(math.log10(above))
    for resolution in (round(factor * 10.0**n, 9) for n in range(power, power - 9, -1) for factor in (5, 2, 1)):
        if resolution >= above:
            continue
        try:
            geobox = grid_for(aoi, crs, resolution)
        except GridError:
            return None
        if holds_a_centre(shape, geobox):
            return resolution
    return None


def grid_over(bounds: tuple[float, float, float, float], crs: str, resolution: float) -> GeoBox:
    """Return the grid over left, bottom, right, top of its own CRS, or raise `GridError`.

    The bounds are expanded to multiples of the resolution (CRS units) from the CRS origin.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise _no_resolution(resolution)
    west, south, east, north = bounds
    parsed = parse_crs(crs)
    unit = "degrees" if parsed.is_geographic else "units"
    _check_scale(resolution, parsed, unit, max(east - west, north - south), crs)
    return _snapped(bounds, crs, resolution, unit)


def _snapped(bounds: tuple[float, float, float, float], name: str, resolution: float, unit: str) -> GeoBox:
    west, south, east, north = bounds

    def down(value: float) -> int:
        return math.floor(value / resolution + _EDGE_TOLERANCE_PX)

    def up(value: float) -> int:
        return math.ceil(value / resolution - _EDGE_TOLERANCE_PX)

    left, right, bottom, top = down(west), up(east), down(south), up(north)
    width, height = max(right - left, 1), max(top - bottom, 1)
    if max(width, height) > _MAX_SIDE_PX:
        raise GridError(
            f"At {resolution:g} {unit} the area is {width} × {height} pixels.",
            f"A side must be at most {_MAX_SIDE_PX} pixels.",
            f"Try a larger {option('resolution')} or a smaller {option('aoi')}.",
        )
    from affine import Affine

    return GeoBox((height, width), Affine(resolution, 0.0, left * resolution, 0.0, -resolution, top * resolution), name)


MOST_DISTORTION = 0.01
"""By how much areas on a grid may differ from those on the ground; UTM stays below 0.2 %."""


def check_areas(geobox: GeoBox) -> None:
    """Raise `GridError` for a grid on which areas differ from those on the ground by more than `MOST_DISTORTION`."""
    from pyproj import Proj

    name = crs_name(geobox)
    crs = parse_crs(name)
    left, bottom, right, top = grid_bounds(geobox)
    scales = [math.inf]
    if crs.is_projected:
        places = [(x, y) for x in (left, (left + right) / 2, right) for y in (bottom, (bottom + top) / 2, top)]
        degrees = [transformer(name, "EPSG:4326").transform(x, y) for x, y in places]
        scales = [float(Proj(crs).get_factors(lon, lat).areal_scale) for lon, lat in degrees]
    worst = max(scales, key=lambda scale: abs(scale - 1))
    if not abs(worst - 1) <= MOST_DISTORTION:
        how = f"are off by {100 * abs(worst - 1):.0f} % there" if math.isfinite(worst) else "can't be measured"
        raise GridError(
            f"Areas in {name} {how}.",
            f"Expected a CRS in which they are right within {100 * MOST_DISTORTION:g} %.",
            f"Try {option('crs', 'auto')}, or an equal-area CRS such as EPSG:3035 in Europe.",
        )


def pixel_hectares(geobox: GeoBox) -> float:
    """Return the area of a pixel in hectares, on a grid that `check_areas` accepts."""
    metres = float(parse_crs(crs_name(geobox)).axis_info[0].unit_conversion_factor)
    return abs(float(geobox.transform.a * geobox.transform.e)) * metres**2 / 10_000


def pixels_of(area_ha: float, geobox: GeoBox) -> int:
    """Return how many pixels at least cover an area in hectares, on a grid that `check_areas` accepts."""
    return math.ceil(area_ha / pixel_hectares(geobox) - _EDGE_TOLERANCE_PX)


def _check_scale(resolution: float, crs: CRS, unit: str, extent: float, code: str) -> None:
    if not math.isfinite(extent / resolution):
        raise GridError(
            f"A resolution of {resolution:g} {unit} is too fine.", "", f"Try a larger {option('resolution')}."
        )
    if crs.is_geographic and resolution >= 1:
        raise GridError(
            f"A resolution of {resolution:g} in {code} means {resolution:g} degrees.",
            "Expected less than 1 degree.",
            f"Try {option('resolution', round(float(resolution) / 111_320, 6))} for about {resolution:g} m, "
            f"or a projected {option('crs')}.",
        )
    if crs.is_projected and resolution < 0.01:
        raise GridError(
            f"A resolution of {resolution:g} in {code} means {resolution:g} {unit}.",
            f"Expected {unit}, and this looks like degrees.",
            f"Try {option('resolution', max(round(resolution * 111_320), 1))}.",
        )
    if resolution > 2 * extent and resolution > (0.1 if crs.is_geographic else 10_000):
        raise GridError(
            f"A resolution of {resolution:g} {unit} is larger than the area ({extent:g} {unit}).",
            "",
            f"Try a smaller {option('resolution')}.",
        )


def _no_resolution(resolution: float) -> GridError:
    return GridError(
        f"{option('resolution')} must be above 0 and finite, got {resolution:g}.",
        "",
        f"Try {option('resolution', 100)}.",
    )


def _try_auto() -> str:
    return f"Try {option('crs', 'auto')}."
