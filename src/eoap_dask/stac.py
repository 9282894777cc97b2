"""STAC 1.1 out: item, collection, catalog, and footprints on the globe.

The JSON is built as plain dictionaries with a fixed order of keys, so that two runs write the same text but
for `processing:datetime`. `pystac` reads and validates it in the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from eoap_dask.fileio import write_json

STAC_VERSION = "1.1.0"

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG = "image/png"
JSON = "application/json"
GEOJSON = "application/geo+json"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
CLASSIFICATION = _EXTENSION.format("classification/v2.0.0")
EO = _EXTENSION.format("eo/v2.0.0")
FILE = _EXTENSION.format("file/v2.1.0")
PROCESSING = _EXTENSION.format("processing/v1.2.0")
PROJECTION = _EXTENSION.format("projection/v2.0.0")
RASTER = _EXTENSION.format("raster/v2.0.0")
RENDER = _EXTENSION.format("render/v2.0.0")

EO_COMMON_NAMES = frozenset(
    {
        "pan", "coastal", "blue", "green", "green05", "yellow",
        "red", "rededge", "rededge071", "rededge075", "rededge078",
        "nir", "nir08", "nir09", "cirrus",
        "swir16", "swir22", "lwir", "lwir11", "lwir12",
    }
)  # fmt: skip
"""What version 2 of the eo extension allows in `eo:common_name`; anything else makes an item invalid."""

SENTINEL_LEGAL_NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"

ESA = {
    "name": "European Space Agency (ESA)",
    "roles": ["producer", "licensor"],
    "url": "https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
}

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
_EDGE = 64  # points per side of a grid
_TOLERANCE_DEG = 1e-5  # about a metre
_DECIMALS = 6
_SUMMARISED = ("platform", "constellation", "instruments", "gsd", "proj:code", "processing:level")


@dataclass(frozen=True)
class ClassRecord:
    """One class of a band of classes (classification extension)."""

    value: int
    """As it is stored."""
    name: str
    """For machines: letters, digits, ``-`` and ``_``."""
    title: str
    """A phrase for people."""
    description: str = ""
    """What belongs to the class."""
    color_hint: str = ""
    """``RRGGBB``."""
    nodata: bool = False
    """Whether it means that nothing is known."""
    pixels: int | None = None
    """How many there are; None where nobody counted."""


@dataclass(frozen=True)
class BandRecord:
    """One band of an asset, as it is stored."""

    name: str
    """Unique within the asset."""
    common_name: str | None = None
    """`eo:common_name`; left out of the JSON when it isn't one of `EO_COMMON_NAMES`."""
    description: str = ""
    """A phrase for people."""
    data_type: str = "uint16"
    """numpy's name of the stored type."""
    nodata: float | None = None
    """The stored value that means nothing; may be NaN."""
    unit: str | None = None
    """Unit of the value after scale and offset; None when it has none."""
    scale: float | None = None
    """Stored values times this, plus `offset`, are the physical values."""
    offset: float | None = None
    """See `scale`."""
    statistics: Mapping[str, float] | None = None
    """`minimum`, `maximum`, `mean`, `stddev`, `valid_percent`, of stored values; only finite ones."""
    classes: tuple[ClassRecord, ...] = ()
    """What the stored values mean, where they are classes."""


@dataclass(frozen=True)
class AssetRecord:
    """One file of an item."""

    key: str
    """The asset's key in the item."""
    filename: str
    """Beside the item's JSON."""
    title: str
    """A phrase for people."""
    media_type: str
    """`COG`, `PNG`, `JSON`…"""
    roles: tuple[str, ...]
    """data, visual, thumbnail, data-mask, date, metadata."""
    bands: tuple[BandRecord, ...] = ()
    """In the file's order; none for what isn't a raster, or isn't meant for analysis."""
    size: int = 0
    """Bytes."""
    sha256: str = ""
    """64 hexadecimal digits."""
    shape: tuple[int, int] | None = None
    """Rows and columns; None when the file has no place on Earth of its own (a thumbnail)."""
    transform: tuple[float, ...] | None = None
    """Affine a, b, c, d, e, f from (column, row) to CRS units; None as for `shape`."""
    expression: tuple[str, str] | None = None
    """Format and text of the formula that made it (`processing:expression`)."""


@dataclass(frozen=True)
class RenderRecord:
    """One way to show an item, for viewers that know the render extension."""

    key: str
    """Its name in `renders`."""
    title: str
    """A phrase for people."""
    assets: tuple[str, ...]
    """Keys of the assets that it shows."""
    bidx: tuple[int, ...] = ()
    """Bands of the asset, counted from 1; empty for all."""
    rescale: tuple[tuple[float, float], ...] = ()
    """Per band, the stored values shown as black and as white."""
    nodata: float | None = None
    """The stored value that is transparent."""
    colormap_name: str | None = None
    """A colour map, for one band."""


@dataclass(frozen=True)
class ItemRecord:
    """What is known of one unit's product when its files are written."""

    id: str
    """Lower case; also the name of its file and of its directory."""
    title: str
    """A phrase for people."""
    start: datetime
    """First moment of the sources' period, with a time zone; also the nominal `datetime`."""
    end: datetime
    """Last moment of the period, with a time zone."""
    crs: str
    """``EPSG:32610`` or the like, or WKT 2 for a CRS without a code."""
    shape: tuple[int, int]
    """Rows and columns of the grid."""
    transform: tuple[float, ...]
    """Affine a, b, c, d, e, f of the grid."""
    geometry: Mapping[str, Any]
    """GeoJSON in longitude and latitude; see `footprint_4326`."""
    bbox: Sequence[float]
    """West, south, east, north in degrees; west > east across the antimeridian."""
    assets: tuple[AssetRecord, ...]
    """In the order in which they are listed."""
    lineage: str
    """What was done, in a sentence or two."""
    derived_from: tuple[str, ...] = ()
    """Unsigned hrefs of the source items; a bare id can't be linked, it is listed in `eoap:derived_from`."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """More properties (``eoap:digest``, counts); they win over those made here."""
    renders: tuple[RenderRecord, ...] = ()
    """Ways to show it; when there are none, the first asset with the role ``visual`` makes one."""
    level: str = "L3"
    """`processing:level`."""


def build_item(record: ItemRecord, *, collection_id: str, software_version: str, now: datetime) -> dict[str, Any]:
    """Return the STAC item of one unit, for a directory below the catalog's.

    Parameters
    ----------
    record
        What is known of the product.
    collection_id
        Id of the collection in ``../collection.json``.
    software_version
        Version of this package, for `processing:version` and `processing:software`.
    now
        Time of processing, with a time zone: the only thing in the item that differs between equal runs.

    Returns
    -------
    dict
        JSON-ready. Extensions are listed only where a field of theirs occurs: their schemas ask for that.

    Raises
    ------
    ValueError
        When the id isn't lower case and safe as a file name, or a time has no zone.
    """
    _check_id(record.id)
    properties: dict[str, Any] = {
        "title": record.title,
        "datetime": _time(record.start),
        "start_datetime": _time(record.start),
        "end_datetime": _time(record.end),
        **_projection(record.crs, record.shape, record.transform),
        "proj:bbox": _bounds(record.shape, record.transform),
        "processing:level": record.level,
        "processing:datetime": _time(now),
        "processing:version": software_version,
        "processing:software": {"eoap-dask": software_version},
        "processing:lineage": record.lineage,
    }
    unlinked = [source for source in record.derived_from if not _is_href(source)]
    if unlinked:
        properties["eoap:derived_from"] = unlinked
    renders = record.renders or _default_renders(record.assets)
    if renders:
        properties["renders"] = {render.key: _render(render) for render in renders}
    properties.update(record.properties)
    assets = {asset.key: _asset(asset, record.crs) for asset in record.assets}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _extensions(properties, assets),
        "id": record.id,
        "geometry": dict(record.geometry),
        "bbox": list(record.bbox),
        "properties": properties,
        "links": [
            _link("root", "../catalog.json", JSON),
            _link("parent", "../catalog.json", JSON),
            _link("collection", "../collection.json", JSON),
            *(
                _link("derived_from", source, GEOJSON, _last_part(source))
                for source in record.derived_from
                if _is_href(source)
            ),
        ],
        "assets": assets,
        "collection": collection_id,
    }


def with_period(item: Mapping[str, Any], title: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Return an item with another title and period; for pixels that didn't change while the asked dates did."""
    when = {"datetime": _time(start), "start_datetime": _time(start), "end_datetime": _time(end)}
    return {**item, "properties": {**item["properties"], "title": title, **when}}


def build_collection(
    collection_id: str,
    title: str,
    description: str,
    items: Sequence[Mapping[str, Any]],
    *,
    providers: Sequence[Mapping[str, Any]] = (),
    keywords: Sequence[str] = (),
    license: str = "other",  # noqa: A002  # STAC's word
    license_links: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the collection that describes a run's items.

    It doesn't link the items: the catalog beside it does (stage-out reads only the catalog), and a reader
    that walks down from there would meet each item twice.

    Parameters
    ----------
    collection_id
        Lower case.
    title, description
        For people; the description may be CommonMark.
    items
        What `build_item` returned, at least one.
    providers
        See `sentinel2_license` and `processor`.
    keywords
        Words to find it by.
    license
        An SPDX identifier, or ``other`` with a link.
    license_links
        Links with the relation ``license``.

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    ValueError
        When there are no items, or the id isn't lower case.
    """
    _check_id(collection_id)
    if not items:
        raise ValueError("A collection needs an item.")
    times = [item["properties"] for item in items]
    summaries = _summaries(items)
    item_assets = _item_assets(items)
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [
            extension
            for extension in _extensions(summaries, item_assets)
            if extension in (CLASSIFICATION, EO, PROJECTION, RASTER)
        ],
        "id": collection_id,
        "title": title,
        "description": description,
        "keywords": list(keywords),
        "license": license,
        "providers": [dict(provider) for provider in providers],
        "extent": {
            "spatial": {"bbox": [union_bbox([item["bbox"] for item in items])]},
            "temporal": {
                "interval": [[min(p["start_datetime"] for p in times), max(p["end_datetime"] for p in times)]]
            },
        },
        "summaries": summaries,
        "links": [
            _link("root", "./catalog.json", JSON),
            _link("parent", "./catalog.json", JSON),
            *(dict(link) for link in license_links),
        ],
        "item_assets": item_assets,
    }


def build_catalog(catalog_id: str, title: str, description: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the root catalog: the collection beside it, and every item linked directly.

    Parameters
    ----------
    catalog_id
        Lower case.
    title, description
        For people.
    items
        What `build_item` returned, each written in a directory of its id.

    Returns
    -------
    dict
        JSON-ready, with relative links and no ``self``.

    Raises
    ------
    ValueError
        When the id isn't lower case.
    """
    _check_id(catalog_id)
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalog_id,
        "title": title,
        "description": description,
        "links": [
            _link("root", "./catalog.json", JSON),
            _link("child", "./collection.json", JSON),
            *(
                _link("item", f"./{item['id']}/{item['id']}.json", GEOJSON, item["properties"].get("title"))
                for item in items
            ),
        ],
    }


def write_item(folder: Path, item: Mapping[str, Any]) -> Path:
    """Write an item into its unit's directory; the last act of a unit.

    Parameters
    ----------
    folder
        The unit's directory, named as the item.
    item
        What `build_item` returned.

    Returns
    -------
    Path
        The item's file, ``<id>.json``.
    """
    return write_json(folder / f"{item['id']}.json", item)


def write_catalog(root: Path, *, collection: Mapping[str, Any], catalog: Mapping[str, Any]) -> Path:
    """Write ``collection.json``, then ``catalog.json``; the product is what the catalog lists.

    Parameters
    ----------
    root
        The directory that holds the units' directories.
    collection
        What `build_collection` returned.
    catalog
        What `build_catalog` returned.

    Returns
    -------
    Path
        The catalog's file.
    """
    write_json(root / "collection.json", collection)
    return write_json(root / "catalog.json", catalog)


def processor(software_version: str) -> dict[str, Any]:
    """Return the provider entry of this software, as processor.

    Parameters
    ----------
    software_version
        Version of this package.

    Returns
    -------
    dict
        A STAC provider.
    """
    return {
        "name": "eoap-dask",
        "description": f"Processed with eoap-dask {software_version}.",
        "roles": ["processor"],
    }


def sentinel2_license(items: Iterable[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the attribution that Copernicus asks for, and the links to its terms.

    Parameters
    ----------
    items
        What `build_item` returned; their periods give the years.

    Returns
    -------
    note : str
        ``Contains modified Copernicus Sentinel data 2021-2022.``, for the collection's description.
    links : list of dict
        For `build_collection(license_links=…)`, beside ``license="other"``.

    References
    ----------
    Legal notice on the use of Copernicus Sentinel Data and Service Information, `SENTINEL_LEGAL_NOTICE`.
    """
    years = sorted({int(item["properties"][key][:4]) for item in items for key in ("start_datetime", "end_datetime")})
    when = "" if not years else f" {years[0]}" if len(years) == 1 else f" {years[0]}-{years[-1]}"
    link = _link("license", SENTINEL_LEGAL_NOTICE, "application/pdf", "Copernicus Sentinel data: legal notice")
    return f"Contains modified Copernicus Sentinel data{when}.", [link]


def multihash_sha256(digest: str) -> str:
    """Return a SHA-256 as the multihash that `file:checksum` holds.

    Parameters
    ----------
    digest
        64 hexadecimal digits.

    Returns
    -------
    str
        ``1220`` (the code of SHA-256 and its length, 32) and the digest, lower case.

    Raises
    ------
    ValueError
        When it isn't a SHA-256.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ValueError(f"{digest!r} isn't a SHA-256 in hexadecimal digits.")
    return "1220" + digest.lower()


def footprint_4326(crs: str, transform: Sequence[float], shape: tuple[int, int]) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid in longitude and latitude, and its bbox, as GeoJSON wants them.

    The outline follows the grid's curved edges to about a metre. Across the antimeridian it is cut into a
    MultiPolygon whose bbox has west > east; around a pole it reaches the pole and all longitudes.

    Parameters
    ----------
    crs
        What `pyproj` understands: a code or WKT.
    transform
        Affine a, b, c, d, e, f from (column, row) to CRS units.
    shape
        Rows and columns.

    Returns
    -------
    geometry : dict
        Polygon or MultiPolygon, exterior rings counter-clockwise, in degrees rounded to 1e-6.
    bbox : list of float
        West, south, east, north.

    Raises
    ------
    ValueError
        When the outline has no place on the globe.

    References
    ----------
    RFC 7946, sections 3.1.9 and 5.2.
    """
    import numpy as np
    from pyproj import Transformer
    from shapely.geometry import MultiPolygon, Polygon, box, mapping
    from shapely.geometry.polygon import orient

    rows, columns = shape
    a, b, c, d, e, f = (float(number) for number in transform[:6])
    step = np.arange(_EDGE) / _EDGE
    column = np.concatenate([step, np.ones(_EDGE), 1 - step, np.zeros(_EDGE)]) * columns
    row = np.concatenate([np.zeros(_EDGE), step, np.ones(_EDGE), 1 - step]) * rows
    to_degrees = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    lon, lat = to_degrees.transform(a * column + b * row + c, d * column + e * row + f)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError(f"The grid reaches beyond where {crs[:40]} is defined.")
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


def union_bbox(boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return the smallest bbox that holds all the given ones, across the antimeridian if that is smaller.

    Parameters
    ----------
    boxes
        West, south, east, north in degrees; west > east crosses the antimeridian. At least one.

    Returns
    -------
    list of float
        West, south, east, north.
    """
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
    """Turn the tuples of a geometry into lists, as they will be read back."""
    return [_lists(part) for part in coordinates] if isinstance(coordinates, tuple | list) else coordinates


def _check_id(identifier: str) -> None:
    if not _ID.fullmatch(identifier):
        raise ValueError(f"{identifier!r} isn't a lower-case id that can name a file.")


def _time(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone.")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _link(rel: str, href: str, media_type: str, title: str | None = None) -> dict[str, Any]:
    link = {"rel": rel, "href": href, "type": media_type}
    return {**link, "title": title} if title else link


def _is_href(source: str) -> bool:
    """Tell a URL or a path from a bare id."""
    return "/" in source


def _last_part(href: str) -> str:
    return href.split("?")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".json")


def _projection(crs: str, shape: tuple[int, int] | None, transform: Sequence[float] | None) -> dict[str, Any]:
    """Return the fields that place a grid; nothing when it has no place."""
    if shape is None or transform is None:
        return {}
    coded = re.fullmatch(r"\w+:\w+", crs) is not None
    fields: dict[str, Any] = {"proj:code": crs.upper()} if coded else {"proj:code": None, "proj:wkt2": crs}
    return {
        **fields,
        "proj:shape": list(shape),
        "proj:transform": [float(number) for number in transform[:6]],
    }


def _bounds(shape: tuple[int, int], transform: Sequence[float]) -> list[float]:
    """Return the bounds of a grid in CRS units: left, bottom, right, top."""
    a, b, c, d, e, f = (float(number) for number in transform[:6])
    rows, columns = shape
    corners = [(column, row) for column in (0, columns) for row in (0, rows)]
    x = [a * column + b * row + c for column, row in corners]
    y = [d * column + e * row + f for column, row in corners]
    return [min(x), min(y), max(x), max(y)]


def _band(band: BandRecord) -> dict[str, Any]:
    nodata: float | str | None = band.nodata
    if isinstance(nodata, float) and not math.isfinite(nodata):
        nodata = "nan" if math.isnan(nodata) else "inf" if nodata > 0 else "-inf"
    statistics = {key: float(number) for key, number in (band.statistics or {}).items() if math.isfinite(number)}
    fields = {
        "name": band.name,
        "description": band.description or None,
        "data_type": band.data_type,
        "nodata": nodata,
        "unit": band.unit,
        "statistics": statistics or None,
        "eo:common_name": band.common_name if band.common_name in EO_COMMON_NAMES else None,
        "raster:scale": band.scale,
        "raster:offset": band.offset,
        "classification:classes": [_class(one) for one in band.classes] or None,
    }
    return {key: content for key, content in fields.items() if content is not None}


def _class(record: ClassRecord) -> dict[str, Any]:
    fields = {
        "value": record.value,
        "name": record.name,
        "title": record.title,
        "description": record.description or None,
        "color_hint": record.color_hint or None,
        "nodata": record.nodata or None,
        "count": record.pixels,
    }
    return {key: content for key, content in fields.items() if content is not None}


def _asset(asset: AssetRecord, crs: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "href": f"./{asset.filename}",
        "title": asset.title,
        "type": asset.media_type,
        "roles": list(asset.roles),
    }
    if asset.bands:
        fields["bands"] = [_band(band) for band in asset.bands]
    fields.update(_projection(crs, asset.shape, asset.transform))
    if asset.expression is not None:
        form, text = asset.expression
        fields["processing:expression"] = {"format": form, "expression": text}
    return {**fields, "file:size": asset.size, "file:checksum": multihash_sha256(asset.sha256)}


def _default_renders(assets: Sequence[AssetRecord]) -> tuple[RenderRecord, ...]:
    """Return one that shows the first picture as it is."""
    for asset in assets:
        if "visual" in asset.roles and asset.media_type == COG:
            count = len(asset.bands)
            return (
                RenderRecord(
                    key="visual",
                    title=asset.title,
                    assets=(asset.key,),
                    bidx=tuple(range(1, count + 1)),
                    rescale=((0, 255),) * count,
                    nodata=0,
                ),
            )
    return ()


def _render(render: RenderRecord) -> dict[str, Any]:
    fields = {
        "title": render.title,
        "assets": list(render.assets),
        "bidx": list(render.bidx) or None,
        "rescale": [list(pair) for pair in render.rescale] or None,
        "nodata": render.nodata,
        "colormap_name": render.colormap_name,
    }
    return {key: content for key, content in fields.items() if content is not None}


def _extensions(properties: Mapping[str, Any], assets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the extensions whose fields occur, sorted; eo and raster must not be listed without."""
    names = set(properties)
    for asset in assets.values():
        names.update(asset)
        for band in asset.get("bands", ()):
            names.update(band)
    prefixes = {name.partition(":")[0] for name in names if ":" in name or name == "renders"}
    known = {
        "classification": CLASSIFICATION,
        "eo": EO,
        "file": FILE,
        "processing": PROCESSING,
        "proj": PROJECTION,
        "raster": RASTER,
        "renders": RENDER,
    }
    return sorted(known[prefix] for prefix in prefixes if prefix in known)


def _summaries(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values that occur, in order of first occurrence; lists are merged."""
    summaries: dict[str, list[Any]] = {}
    for item in items:
        for key in _SUMMARISED:
            content = item["properties"].get(key)
            for entry in content if isinstance(content, list) else [content]:
                if entry is not None and entry not in summaries.setdefault(key, []):
                    summaries[key].append(entry)
    return {key: summaries[key] for key in _SUMMARISED if summaries.get(key)}


def _uncounted(band: dict[str, Any]) -> dict[str, Any]:
    classes = band.get("classification:classes")
    if classes is None:
        return band
    return {**band, "classification:classes": [{k: v for k, v in one.items() if k != "count"} for one in classes]}


def _item_assets(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the assets of a key have in common: everything but place, size and statistics."""
    kept = ("title", "type", "roles", "bands")
    found: dict[str, Any] = {}
    for item in items:
        for key, asset in item["assets"].items():
            if key not in found:
                found[key] = {name: asset[name] for name in kept if name in asset}
                if "bands" in asset:
                    found[key]["bands"] = [
                        _uncounted({name: content for name, content in band.items() if name != "statistics"})
                        for band in asset["bands"]
                    ]
    return found
