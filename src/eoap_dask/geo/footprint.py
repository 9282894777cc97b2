"""Footprints on the globe as GeoJSON: curved edges, the antimeridian, the poles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_EDGE = 64  # points per side of a grid
_TOLERANCE_DEG = 1e-5  # about a metre
_DECIMALS = 6


def footprint_4326(crs: str, transform: Sequence[float], shape: tuple[int, int]) -> tuple[dict[str, Any], list[float]]:
    """Return a grid's outline as GeoJSON in degrees, within about a metre, and its bbox (RFC 7946, 3.1.9 and 5.2).

    Across the antimeridian it is a MultiPolygon and the bbox has west > east; around a pole it reaches the pole and all
    longitudes. Raises ValueError when the outline has no place on the globe.
    """
    import numpy as np
    from shapely.geometry import MultiPolygon, Polygon, box, mapping
    from shapely.geometry.polygon import orient

    from eoap_dask.geo.crs import transformer

    rows, columns = shape
    a, b, c, d, e, f = (float(number) for number in transform[:6])
    step = np.arange(_EDGE) / _EDGE
    column = np.concatenate([step, np.ones(_EDGE), 1 - step, np.zeros(_EDGE)]) * columns
    row = np.concatenate([np.zeros(_EDGE), step, np.ones(_EDGE), 1 - step]) * rows
    to_degrees = transformer(crs, "OGC:CRS84")
    lon, lat = to_degrees.transform(a * column + b * row + c, d * column + e * row + f)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError(f"The grid reaches beyond the area where {crs[:40]} is defined.")
    # Walk the ring without jumps: neighbours lie less than half the globe apart. What remains open at the end
    # is a turn around a pole.
    lon, lat = np.append(lon, lon[0]), np.clip(np.append(lat, lat[0]), -90, 90)
    lon = np.unwrap(lon, period=360)
    turn = round(float(lon[-1] - lon[0]) / 360)
    if turn:
        pole = math.copysign(90.0, float(lat.mean()))
        lon, lat = np.append(lon, [lon[-1], lon[0]]), np.append(lat, [pole, pole])
    lon -= 360 * math.floor((float(lon.min()) + 180) / 360)  # the west end within -180..180
    ring = Polygon(np.column_stack([lon, lat])).simplify(_TOLERANCE_DEG)
    parts = []
    for shift in (0, 360):
        piece = ring.intersection(box(shift - 180, -90, shift + 180, 90))
        for polygon in getattr(piece, "geoms", [piece]):
            if polygon.geom_type == "Polygon" and polygon.area > 0:
                moved = [(x - shift, y) for x, y in polygon.exterior.coords]
                rounded = Polygon([(round(x, _DECIMALS) + 0.0, round(y, _DECIMALS) + 0.0) for x, y in moved])
                parts.append(orient(rounded))
    if not parts:
        raise ValueError("The grid has no area.")
    west, south, east, north = MultiPolygon(parts).bounds
    if turn or float(lon.max() - lon.min()) >= 360:
        west, east = -180.0, 180.0
    elif len(parts) > 1 and float(lon.max()) > 180:
        west = min(part.bounds[0] for part in parts if part.bounds[2] > 179.9999)
        east = max(part.bounds[2] for part in parts if part.bounds[0] < -179.9999)
    geometry = mapping(parts[0] if len(parts) == 1 else MultiPolygon(parts))
    return {"type": geometry["type"], "coordinates": _lists(geometry["coordinates"])}, [
        west,
        south,
        east,
        north,
    ]


def shape_footprint_4326(crs: str, shape: BaseGeometry) -> tuple[dict[str, Any], list[float]]:
    """Return a shape in a projected or geographic CRS as GeoJSON in degrees, and its bbox, as `footprint_4326` does.

    Raises ValueError when it has no place on the globe, or is too small for degrees of six decimals.
    """
    import shapely
    from pyproj import CRS
    from shapely.geometry import MultiPolygon, mapping
    from shapely.geometry.polygon import orient

    from eoap_dask.geo.globe import polygons, to_degrees

    moved = to_degrees(shape, CRS.from_user_input(crs))
    if not all(map(math.isfinite, moved.bounds)):
        raise ValueError(f"The shape reaches beyond the area where {crs[:40]} is defined.")
    rounded = shapely.transform(moved.simplify(_TOLERANCE_DEG), lambda xy: xy.round(_DECIMALS) + 0.0)
    parts = [orient(part) for part in polygons(shapely.make_valid(rounded)) if part.area > 0]
    if not parts:
        raise ValueError("The shape has no area.")
    whole = MultiPolygon(parts)
    west, south, east, north = whole.bounds
    boxes = [list(part.bounds) for part in parts]
    touches_both = west == -180 and east == 180
    geometry = mapping(parts[0] if len(parts) == 1 else whole)
    bbox = union_bbox(boxes) if touches_both else [west, south, east, north]
    return {"type": geometry["type"], "coordinates": _lists(geometry["coordinates"])}, bbox


def union_bbox(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return the smallest west, south, east, north over all boxes; west > east where it crosses the antimeridian."""
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    pieces: list[tuple[float, float]] = []
    for west, _, east, _ in boxes:
        pieces += [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    pieces.sort()
    arcs = pieces[:1]
    for west, east in pieces[1:]:
        if west <= arcs[-1][1]:
            arcs[-1] = (arcs[-1][0], max(arcs[-1][1], east))
        else:
            arcs.append((west, east))
    # What the union leaves out is the widest gap on the circle. The one over the antimeridian comes first, so
    # that it wins a tie: an ordinary bbox is easier to live with.
    gaps = [(arcs[0][0] + 360 - arcs[-1][1], arcs[0][0], arcs[-1][1])]
    gaps += [(after[0] - before[1], after[0], before[1]) for before, after in pairwise(arcs)]
    gap, west, east = max(gaps, key=lambda entry: entry[0])
    return [west, south, east, north] if gap > 0 else [-180.0, south, 180.0, north]


def _lists(coordinates: Any) -> Any:
    """Turn the tuples of a geometry into lists, as JSON reads them back."""
    return [_lists(part) for part in coordinates] if isinstance(coordinates, tuple | list) else coordinates
