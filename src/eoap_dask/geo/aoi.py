"""The area of interest: one shape on Earth, as grids and searches want it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from eoap_dask.geo.globe import past_180, polygons, shifted, split

DECIMALS = 10
"""Of degrees, a hundredth of a millimetre: hides what adding and subtracting 360 did to a number."""

# Search APIs refuse or choke on bodies with tens of thousands of vertices.
_SEARCH_VERTICES = 500


@dataclass(frozen=True)
class Aoi:
    """An area on Earth, in degrees of longitude and latitude."""

    geometry: BaseGeometry
    """Polygon or MultiPolygon in EPSG:4326. Across the antimeridian, longitudes continue past 180."""
    is_box: bool
    """Whether it is a bounding box, so that nothing needs to be cut."""
    source: str
    """What the user gave, shortened, for messages and provenance."""

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the area lies on both sides of the 180th meridian."""
        return bool(self.geometry.bounds[2] > 180)

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees within ±180; west > east where it crosses the antimeridian."""
        west, south, east, north = self.geometry.bounds
        if east > 180:
            east = round(east - 360, DECIMALS)
        return (float(west), float(south), float(east), float(north))

    @cached_property
    def geojson(self) -> dict[str, Any]:
        """GeoJSON geometry as RFC 7946 wants it: counter-clockwise, split at the antimeridian."""
        return _as_geojson(split(self.geometry) if self.crosses_antimeridian else self.geometry)

    @classmethod
    def over(cls, places: Sequence[BaseGeometry], source: str) -> Aoi:
        """Return what several shapes in degrees cover, of which some may go on past 180."""
        if any(one.bounds[2] > 180 for one in places):  # one side of the antimeridian goes on from the other
            places = [shapely.transform(one, past_180) if one.bounds[2] <= 0 else one for one in places]
        return cls(shapely.union_all(places), is_box=False, source=source)

    def boxed(self) -> Aoi:
        """Return the bounding box of the area as an area of its own.

        Returns
        -------
        Aoi
            A box that holds the whole area; the same object where it is a box already.
        """
        return self if self.is_box else Aoi(box(*self.geometry.bounds), is_box=True, source=self.source)

    def simplified_for_search(self) -> dict[str, Any]:
        """Return a GeoJSON geometry with few vertices that covers the area, for the body of a search."""
        geometry = self.geometry
        tolerance = 1e-4
        while shapely.get_num_coordinates(geometry) > _SEARCH_VERTICES:
            # simplify moves a line by up to the tolerance; the buffer makes good for it
            geometry = shapely.simplify(self.geometry, tolerance).buffer(tolerance * 1.1, quad_segs=4)
            tolerance *= 2
        if geometry is self.geometry:
            return self.geojson
        east = 540 if self.crosses_antimeridian else 180
        geometry = geometry.intersection(box(-180, -90, east, 90))
        return _as_geojson(split(geometry) if geometry.bounds[2] > 180 else geometry)

    def intersects(self, geometry: BaseGeometry) -> bool:
        """Tell whether the area and a shape with longitudes within ±180 (or past them) touch.

        Parameters
        ----------
        geometry
            Any shapely geometry in degrees, such as the footprint of an item.

        Returns
        -------
        bool
        """
        return any(self.geometry.intersects(shifted(geometry, by)) for by in (0, 360, -360))

    def __repr__(self) -> str:
        west, south, east, north = self.bbox
        kind = "box" if self.is_box else self.geometry.geom_type
        return f"<Aoi {kind} {west:.6g},{south:.6g},{east:.6g},{north:.6g}>"


def _as_geojson(geometry: BaseGeometry) -> dict[str, Any]:
    if geometry.bounds[2] - geometry.bounds[0] > 180:
        geometry = shapely.segmentize(geometry, 180)  # a longer edge would go the short way round
    oriented = [shapely.geometry.polygon.orient(part, 1.0) for part in polygons(geometry)]
    plain = oriented[0] if len(oriented) == 1 else MultiPolygon(oriented)
    found: dict[str, Any] = json.loads(json.dumps(shapely.geometry.mapping(plain)))  # lists, not tuples
    return found
