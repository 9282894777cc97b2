"""Reading an area of interest: from whatever form a user gives it in to one shape on Earth."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from loguru import logger
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry

from eoap_dask.errors import AoiError, UsageError
from eoap_dask.geo.aoi import DECIMALS, Aoi
from eoap_dask.geo.curves import from_curved_wkt, is_curved
from eoap_dask.geo.globe import polygons, shifted, to_degrees, within_180
from eoap_dask.geo.options import BBOX, WKT
from eoap_dask.geo.vector import NoLayerError, VectorError, existing_layer, read_layers, reason
from eoap_dask.text import plural, shorten
from eoap_dask.values import is_a

_EXAMPLE = "Try 12.1,41.8,12.6,42.1 (west,south,east,north in degrees)."
_LONLAT_NAMES = ("CRS84", "EPSG:4326", "EPSG::4326")


def parse_aoi(value: object) -> Aoi:
    """Read an area of interest in any supported form.

    Parameters
    ----------
    value
        One of: text `west,south,east,north` in degrees (west > east crosses the antimeridian); four numbers;
        GeoJSON as text or mapping (Polygon, MultiPolygon, GeometryCollection, Feature, FeatureCollection:
        their union); WKT; the path of a GeoJSON file or any vector file; a shapely geometry; a GeoDataFrame;
        a GeoSeries; a GeoBox, or a geometry or bounding box of odc-geo, in its own CRS;
        an `Aoi`. A file of several layers, a directory, or a zip archive of files is the union of all polygons, each
        layer in its own CRS; ``file.gpkg|layername=x`` is one layer alone. An edge of a shape goes the short way
        round: one from 179.8 to -179.8 crosses the antimeridian, unless the shape would be more than 180° wide.

    Returns
    -------
    Aoi
        Valid, with an area greater than zero, in EPSG:4326.

    Raises
    ------
    AoiError
        When it can't be read, or isn't an area on Earth.
    """
    if isinstance(value, Aoi):
        return value
    if is_a(value, "odc.geo.geobox.GeoBox", "odc.geo.geom.Geometry", "odc.geo.geom.BoundingBox"):
        value = _of_odc(value)
    if isinstance(value, Path):
        return _from_file(*(_existing_layer(str(value)) or (value, "")))
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_mapping(value, str(value.get("type", "mapping")))
    if isinstance(value, BaseGeometry):
        return _from_geometry(value, value.geom_type)
    if hasattr(value, "to_crs") and hasattr(value, "__geo_interface__"):  # GeoDataFrame, GeoSeries
        return _from_frame(value, type(value).__name__)
    if hasattr(value, "__geo_interface__"):
        return _from_mapping(value.__geo_interface__, type(value).__name__)
    if (isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview)) or (
        isinstance(value, np.ndarray) and value.ndim == 1
    ):
        return _from_numbers([str(part) for part in value], ",".join(str(part) for part in value))
    raise AoiError(
        f"An area of interest can't be read from a value of type {type(value).__name__}.",
        "Expected a bounding box, GeoJSON, WKT or the path of a vector file.",
        _EXAMPLE,
    )


def _of_odc(value: Any) -> BaseGeometry:
    """Return a shape of odc-geo in degrees."""
    kind = type(value).__name__
    crs = value.crs
    if crs is None:
        raise AoiError(f"The {kind} has no CRS.", "Expected one, so that it has a place on Earth.", _EXAMPLE)
    shape_ = value.extent.geom if kind == "GeoBox" else value.polygon.geom if kind == "BoundingBox" else value.geom
    return _to_lonlat(shape_, str(crs), kind)


def _from_text(text: str) -> Aoi:
    stripped = text.strip()
    if not stripped:
        raise AoiError("The area of interest is empty.", "Expected a bounding box, GeoJSON, WKT or a path.", _EXAMPLE)
    if stripped[0] in "{[":
        return _from_json(stripped, "GeoJSON text")
    if match := WKT.match(stripped):
        return _from_wkt(stripped, match.group("srid"))
    if not BBOX.fullmatch(stripped) and (file := _existing_layer(stripped)):
        return _from_file(*file)
    if "://" in stripped:
        raise AoiError(
            f"{_shorten(stripped.split('?')[0])!r} is a URL.",
            "The area of interest must be a file on this machine.",
            "Download the file and give its path.",
        )
    parts = [part for part in re.split(r"[,;\s]+", stripped.strip("()")) if part]
    numeric = [_is_number(part) for part in parts]
    if all(numeric) or ("," in stripped and "/" not in stripped and any(numeric)):
        return _from_numbers(parts, stripped)
    raise AoiError(
        f"There is no file {_shorten(stripped)!r}, and it isn't a bounding box, GeoJSON or WKT either.",
        "A path must exist on this machine.",
        f"Check the path, or give a bounding box. {_EXAMPLE}",
    )


def _existing_layer(text: str) -> tuple[Path, str] | None:
    try:
        return existing_layer(text)
    except UsageError as fault:
        raise AoiError(fault.what, fault.expected, "Leave it out for all layers.") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_numbers(parts: Sequence[str], source: str) -> Aoi:
    shown = _shorten(source)
    numbers = []
    for part in parts:
        if not _is_number(part):
            raise AoiError(
                f"{_shorten(part)!r} in the bounding box {shown!r} isn't a number.",
                "A bounding box is west,south,east,north in degrees.",
                _EXAMPLE,
            )
        numbers.append(float(part))
    if len(numbers) != 4:
        raise AoiError(
            f"The bounding box {shown!r} has {plural(len(numbers), 'number')}.",
            "A bounding box has four: west,south,east,north in degrees.",
            "Leave out the two heights." if len(numbers) == 6 else _EXAMPLE,
        )
    if not all(math.isfinite(number) for number in numbers):
        raise AoiError(
            f"The bounding box {shown!r} has a number that isn't finite.",
            "A bounding box is west,south,east,north in degrees.",
            _EXAMPLE,
        )
    west, south, east, north = _checked_bbox(*numbers, shown=shown)
    if west > east:
        if east + 360 - west > 180:
            raise AoiError(
                f"The bounding box {shown!r} has its west {west:g} greater than its east {east:g}, "
                f"so it crosses the antimeridian and is {east + 360 - west:g}° wide.",
                "A box across the antimeridian must be at most 180° wide.",
                f"If it isn't meant to cross the antimeridian, try {_csv(east, south, west, north)}.",
            )
        east += 360
    return Aoi(box(west, south, east, north), is_box=True, source=shown)


def _checked_bbox(
    west: float, south: float, east: float, north: float, *, shown: str
) -> tuple[float, float, float, float]:
    """Return the box, or raise `AoiError`; ±180 is rewritten so that a box beside the antimeridian doesn't cross it."""
    if max(abs(south), abs(north)) > 90 or max(abs(west), abs(east)) > 180:
        raise _outside((west, south, east, north), f"The bounding box {shown!r}", was_box=True)
    if south > north:
        if 0 < west - east < 180:  # corners from north-east to south-west, rather than a box across the antimeridian
            west, east = east, west
        raise AoiError(
            f"The bounding box {shown!r} has its south {south:g} above its north {north:g}.",
            "A bounding box is west,south,east,north in degrees.",
            f"Try {_csv(west, north, east, south)}.",
        )
    if south == north or west == east or (west == 180 and east == -180):
        raise AoiError(
            f"The bounding box {shown!r} has no area.",
            "West and east, and south and north, must differ.",
            _EXAMPLE,
        )
    if west == 180:
        west = -180.0
    if east == -180:
        east = 180.0
    return west, south, east, north


def _outside(bounds: tuple[float, float, float, float], subject: str, *, was_box: bool) -> AoiError:
    """Return the fault of coordinates outside ±180 and ±90, with the likeliest cause."""
    west, south, east, north = bounds
    expected = "Longitudes lie within ±180 and latitudes within ±90 degrees."
    swapped = (south, west, north, east)
    if max(abs(swapped[0]), abs(swapped[2])) <= 180 and max(abs(swapped[1]), abs(swapped[3])) <= 90:
        if was_box:
            return AoiError(f"{subject} looks like lat/lon order.", expected, f"Try {_csv(*swapped)}.")
        return AoiError(f"{subject} looks like lat/lon order.", expected, "Swap each pair to longitude,latitude.")
    if max(abs(west), abs(south), abs(east), abs(north)) > 360:
        hint = "These look like metres or feet: reproject to EPSG:4326, or give a file that names its CRS."
    elif max(abs(south), abs(north)) > 90:
        hint = _EXAMPLE
    elif was_box:
        west, east = _wrapped(west), _wrapped(east)
        hint = f"Try {_csv(west, south, east, north)}."
    else:
        hint = "Split the shape at the antimeridian, as RFC 7946 says."
    where = "" if was_box else f" (its bounds are {_csv(*bounds)})"
    return AoiError(f"{subject} isn't on Earth{where}.", expected, hint)


def _wrapped(longitude: float) -> float:
    return round((longitude + 180) % 360 - 180, DECIMALS)


def _from_json(text: str, source: str) -> Aoi:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise AoiError(
            f"The area of interest ({source}) isn't JSON: {_shorten(str(fault))}.",
            "Expected GeoJSON.",
            "Check for a missing bracket or quote.",
        ) from None
    if isinstance(value, list):
        return _from_numbers([str(part) for part in value], text)
    if not isinstance(value, dict):
        raise _not_geojson(source, "it isn't an object")
    return _from_mapping(value, source)


def _from_wkt(text: str, srid: str | None) -> Aoi:
    plain = text[text.index(";") + 1 :] if srid else text
    try:
        geometry = from_curved_wkt(plain) if is_curved(plain) else shapely.from_wkt(plain)
    except (shapely.errors.GEOSException, ValueError, RecursionError) as fault:
        raise AoiError(
            f"The WKT {_shorten(text)!r} can't be read: {_shorten(str(fault))}.",
            "Expected a POLYGON or MULTIPOLYGON.",
            "Try POLYGON ((12.1 41.8, 12.6 41.8, 12.6 42.1, 12.1 41.8)).",
        ) from None
    if srid and srid != "4326":
        geometry = _to_lonlat(geometry, f"EPSG:{srid}", "WKT")
    return _from_geometry(geometry, _shorten(text))


def _from_frame(frame: Any, source: str) -> Aoi:
    """Read a GeoDataFrame or GeoSeries."""
    return _from_parts([([one for one in frame.geometry if one is not None], frame.crs)], source)


def _from_parts(parts: Sequence[tuple[Sequence[BaseGeometry], Any]], source: str) -> Aoi:
    """Unite geometries, each list with its CRS; None is taken for degrees, and said."""
    if any(crs is None and len(shapes) for shapes, crs in parts):
        logger.warning("{} tells no CRS: its coordinates are taken for degrees (EPSG:4326).", source)
    found = [shapely.GeometryCollection(list(shapes)) for shapes, _ in parts]
    moved = [
        one if crs is None else _to_lonlat(one, crs, source)
        for one, (_, crs) in zip(found, parts, strict=True)
        if len(one.geoms)
    ]
    if not moved:
        raise AoiError(f"The area of interest ({source}) has no geometry.", "Expected at least one polygon.", _EXAMPLE)
    return _from_geometry(moved[0] if len(moved) == 1 else shapely.GeometryCollection(moved), source)


def _from_mapping(value: Mapping[str, Any], source: str) -> Aoi:
    try:
        found = list(_geometries(value, source))
    except RecursionError:
        raise _not_geojson(source, "it is nested too deeply") from None
    geometries = []
    for one in found:
        try:
            geometries.append(shape(one))
        except (
            AttributeError,
            IndexError,
            KeyError,
            TypeError,
            ValueError,
            shapely.errors.ShapelyError,
        ) as fault:
            raise _not_geojson(source, f"its coordinates can't be read, {_shorten(str(fault))}") from None
    if not geometries:
        raise AoiError(f"The area of interest ({source}) has no geometry.", "Expected at least one polygon.", _EXAMPLE)
    merged = shapely.GeometryCollection(geometries) if len(geometries) > 1 else geometries[0]
    crs = value.get("crs")  # left out of RFC 7946, still written by many
    if isinstance(crs, Mapping):
        properties = crs.get("properties")
        name = str(properties.get("name", "")) if isinstance(properties, Mapping) else ""
        if name and not name.upper().endswith(_LONLAT_NAMES):
            merged = _to_lonlat(merged, name, source)
    return _from_geometry(merged, source)


def _geometries(value: object, source: str) -> Iterator[Mapping[str, Any]]:
    """Yield the plain geometries of any GeoJSON object."""
    if not isinstance(value, Mapping):
        raise _not_geojson(source, f"it has {_shorten(repr(value))} instead of an object")
    kind = value.get("type")
    if kind == "FeatureCollection":
        yield from _members(value, "features", source)
    elif kind == "GeometryCollection":
        yield from _members(value, "geometries", source)
    elif kind == "Feature":
        if value.get("geometry") is not None:
            yield from _geometries(value["geometry"], source)
    elif kind in ("Polygon", "MultiPolygon", "Point", "MultiPoint", "LineString", "MultiLineString"):
        yield value
    else:
        raise _not_geojson(source, f"its type is {_shorten(repr(kind))}")


def _members(value: Mapping[str, Any], key: str, source: str) -> Iterator[Mapping[str, Any]]:
    members = value.get(key)
    if not isinstance(members, (list, tuple)):
        raise _not_geojson(source, f"it has no list of {key}")
    for member in members:
        yield from _geometries(member, source)


def _not_geojson(source: str, why: str) -> AoiError:
    return AoiError(
        f"The area of interest ({source}) isn't GeoJSON: {why}.",
        "Expected a Polygon, MultiPolygon, Feature or FeatureCollection.",
        "See https://geojson.io for an example.",
    )


def _from_file(path: Path, layer: str) -> Aoi:
    shown = _shorten(str(path))
    path = path.expanduser()
    if not path.exists():
        raise AoiError(f"There is no file {shown!r}.", "A path must exist on this machine.", "Check the path.")
    if path.is_file() and not layer:
        try:
            if path.stat().st_size == 0:
                raise AoiError(f"The file {shown!r} is empty.", "Expected GeoJSON or another vector file.", _EXAMPLE)
            if path.suffix.lower() in (".json", ".geojson"):
                return _from_json(path.read_text(encoding="utf-8-sig"), path.name)
            if path.suffix.lower() in (".wkt", ".txt"):
                return _from_text(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            raise AoiError(f"The file {shown!r} isn't UTF-8 text.", "Expected GeoJSON or WKT.", "Check it.") from None
        except OSError as fault:
            raise AoiError(
                f"The file {shown!r} can't be read: {fault.strerror}.",
                "It must be readable.",
                "Check its permissions.",
            ) from None
    return _from_layers(path, layer, shown)


def _from_layers(path: Path, layer: str, shown: str) -> Aoi:
    try:
        found = read_layers(path, layer)
    except NoLayerError as fault:
        has = ", ".join(fault.layers[:5]) + (", …" if len(fault.layers) > 5 else "")
        raise AoiError(
            f"The file {shown!r} has no layer {_shorten(layer)!r}.",
            f"Its layers are {_shorten(has, 120)}." if has else "It has none with geometry.",
            "Check the name, or leave it out for all layers.",
        ) from None
    except VectorError as fault:
        raise AoiError(
            f"The file {shown!r} can't be read as vector data: {reason(fault, path)}.",
            "Expected GeoJSON, GeoPackage, Shapefile, FlatGeobuf, KML, GeoParquet or another format of GDAL.",
            "Check the file with ogrinfo.",
        ) from None
    return _from_parts([(one.shapes, one.crs) for one in found], path.name + (f"|layername={layer}" if layer else ""))


def _to_lonlat(geometry: BaseGeometry, crs: Any, source: str) -> BaseGeometry:
    """Return a shape in EPSG:4326, within ±180; `crs` is whatever names one."""
    from pyproj import CRS
    from pyproj.exceptions import ProjError

    try:
        source_crs = CRS.from_user_input(crs)
        if source_crs.to_epsg() == 4326 or source_crs.to_authority() == ("OGC", "CRS84"):
            return geometry
        return to_degrees(geometry, source_crs)
    except ProjError:
        raise AoiError(
            f"The CRS {_shorten(str(crs))!r} of the area of interest ({source}) isn't known.",
            "Expected a CRS that PROJ knows.",
            "Reproject the shape to EPSG:4326.",
        ) from None


def _from_geometry(geometry: BaseGeometry, source: str) -> Aoi:
    subject = f"The area of interest ({source})"
    geometry = shapely.force_2d(geometry)
    coordinates = shapely.get_coordinates(geometry)
    if not len(coordinates):
        raise AoiError(f"{subject} is empty.", "Expected at least one polygon.", _EXAMPLE)
    if not np.isfinite(coordinates).all():
        raise AoiError(f"{subject} has a coordinate that isn't finite.", "Expected degrees.", "Check the shape.")
    found = polygons(geometry)
    if not found:
        raise AoiError(
            f"{subject} has no polygon, only {_kinds(geometry)}.",
            "Expected an area: Polygon or MultiPolygon.",
            "Draw a polygon around it, or buffer it.",
        )
    west, south, east, north = shapely.total_bounds(found)
    if max(abs(south), abs(north)) > 90 + 1e-9 or max(abs(west), abs(east)) > 180 + 1e-9:
        raise _outside((float(west), float(south), float(east), float(north)), subject, was_box=False)
    found = polygons(within_180(geometry, is_dense=False))
    merged = shapely.union_all([part for one in found for part in polygons(shapely.make_valid(one))])
    merged = merged.intersection(box(-180, -90, 180, 90)) if max(abs(west), abs(east)) > 180 or north > 90 else merged
    parts = polygons(merged)
    if not parts or not sum(part.area for part in parts) > 0:
        raise AoiError(
            f"{subject} has no area.",
            "Expected a polygon with an area above 0.",
            "Draw a polygon around it, or buffer it.",
        )
    joined = _joined(parts)
    return Aoi(joined, is_box=_is_box(joined), source=_shorten(source))


def _joined(parts: list[Polygon]) -> BaseGeometry:
    """Return the parts as one shape, continued past 180 where that makes it at most half the world wide."""
    plain: BaseGeometry = parts[0] if len(parts) == 1 else MultiPolygon(parts)
    west, _, east, _ = plain.bounds
    if len(parts) == 1 or east - west <= 180:
        return plain
    moved = [shifted(part, 360) if part.bounds[2] <= 0 else part for part in parts]
    continued = shapely.union_all(moved)
    if continued.bounds[2] - continued.bounds[0] > 180:
        return plain
    return MultiPolygon(polygons(continued)) if len(polygons(continued)) > 1 else polygons(continued)[0]


def _is_box(geometry: BaseGeometry) -> bool:
    return bool(geometry.geom_type == "Polygon" and geometry.normalize().equals(box(*geometry.bounds)))


def _kinds(geometry: BaseGeometry) -> str:
    if geometry.geom_type == "GeometryCollection":
        return ", ".join(sorted({part.geom_type for part in geometry.geoms})) or "an empty collection"
    return str(geometry.geom_type)


def _csv(*numbers: float) -> str:
    return ",".join(f"{number:.10g}" for number in numbers)


def _shorten(text: str, length: int = 80) -> str:
    return shorten(" ".join(text.split()), length)
