"""Coordinate reference systems: parsed, named, and projected between."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from eoap_dask.errors import GridError
from eoap_dask.text import option


def parse_crs(text: str) -> CRS:
    """Return the CRS of a code, WKT or PROJ string, or raise `GridError`."""
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise GridError(
            f"The CRS {text!r} isn't known.",
            "Expected 'auto', or a CRS such as EPSG:32631.",
            f"Try {option('crs', 'auto')}.",
        ) from None


@lru_cache(256)
def transformer(source: str, target: str) -> Transformer:
    """Return the (cached) transformer between two CRSs, x before y."""
    return Transformer.from_crs(source, target, always_xy=True)


@lru_cache(1 << 14)
def project_bounds(
    bounds: tuple[float, float, float, float], source: str, target: str
) -> tuple[float, float, float, float] | None:
    """Return bounds in another CRS that hold all within some bounds; None where they can't be projected.

    None also where the antimeridian runs through them and the target CRS is in degrees (west > east).
    """
    if source == target:
        return bounds
    west, south, east, north = transformer(source, target).transform_bounds(*bounds, densify_pts=21)
    is_whole = all(map(math.isfinite, (west, south, east, north))) and west <= east
    return (west, south, east, north) if is_whole else None


def crs_name(geobox: GeoBox) -> str:
    """Return the CRS of a grid as an authority code where it has one, else as WKT."""
    if geobox.crs is None:
        raise GridError("The grid has no CRS.", "Expected a GeoBox with a CRS.")
    crs: Any = geobox.crs
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs.wkt)
