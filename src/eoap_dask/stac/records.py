"""What STAC documents are made of: items, assets, bands, classes, renders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG = "image/png"
JSON = "application/json"
GEOJSON = "application/geo+json"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"

EO_COMMON_NAMES = frozenset(
    {
        "pan", "coastal", "blue", "green", "green05", "yellow",
        "red", "rededge", "rededge071", "rededge075", "rededge078",
        "nir", "nir08", "nir09", "cirrus",
        "swir16", "swir22", "lwir", "lwir11", "lwir12",
    }
)  # fmt: skip
"""Values that version 2 of the eo extension allows in `eo:common_name`."""


@dataclass(frozen=True)
class ClassRecord:
    """One class of a band of classes (classification extension)."""

    value: int
    """As stored."""
    name: str
    """For machines: letters, digits, ``-`` and ``_``."""
    title: str
    """For people."""
    description: str = ""
    color_hint: str = ""
    """``RRGGBB``."""
    nodata: bool = False
    """Whether it means no data."""
    pixels: int | None = None
    """Number of pixels; None where they weren't counted."""


@dataclass(frozen=True)
class BandRecord:
    """One band of an asset, as stored."""

    name: str
    """Unique within the asset."""
    common_name: str | None = None
    """`eo:common_name`; left out of the JSON when it isn't one of `EO_COMMON_NAMES`."""
    description: str = ""
    data_type: str = "uint16"
    """numpy's name of the stored type."""
    nodata: float | None = None
    """As stored; may be NaN."""
    unit: str | None = None
    """Of the value after scale and offset."""
    scale: float | None = None
    """Physical value = stored value × scale + offset."""
    offset: float | None = None
    statistics: Mapping[str, float] | None = None
    """`minimum`, `maximum`, `mean`, `stddev`, `valid_percent` of stored values; infinite ones and NaN are left out."""
    classes: tuple[ClassRecord, ...] = ()
    """Meaning of the stored values of a band of classes."""


@dataclass(frozen=True)
class AssetRecord:
    """One file of an item."""

    key: str
    filename: str
    """Relative to the item's JSON."""
    title: str
    media_type: str
    """`COG`, `PNG`, `JSON`…"""
    roles: tuple[str, ...]
    """data, visual, thumbnail, data-mask, date, metadata."""
    bands: tuple[BandRecord, ...] = ()
    """In the file's order; empty for what isn't a raster, or isn't meant for analysis."""
    size: int = 0
    """Bytes."""
    sha256: str = ""
    """64 hexadecimal digits."""
    shape: tuple[int, int] | None = None
    """Rows and columns; None for a file without a grid (a thumbnail)."""
    transform: tuple[float, ...] | None = None
    """Affine a, b, c, d, e, f from (column, row) to CRS units; None as for `shape`."""
    expression: tuple[str, str] | None = None
    """Format and text of the formula that made it (`processing:expression`)."""


@dataclass(frozen=True)
class RenderRecord:
    """One way to show an item, for viewers that know the render extension."""

    key: str
    title: str
    assets: tuple[str, ...]
    """Keys of the assets that it shows."""
    bidx: tuple[int, ...] = ()
    """Bands of the asset, counted from 1; empty for all."""
    rescale: tuple[tuple[float, float], ...] = ()
    """Per band, the stored values shown as black and as white."""
    nodata: float | None = None
    """The stored value that is transparent."""
    colormap_name: str | None = None
    """For one band."""


@dataclass(frozen=True)
class OutputRecord:
    """The item of one of several outputs of a unit, as the unit's item lists it."""

    filename: str
    """Relative to the unit's item."""
    title: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ItemRecord:
    """One unit's product, whose files are written."""

    id: str
    """Lower case; also the name of its file and of its directory."""
    title: str
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
    lineage: str
    """How it was made, in a sentence or two."""
    derived_from: tuple[str, ...] = ()
    """Unsigned hrefs of the source items; a bare id can't be linked, and is listed in `eoap:derived_from`."""
    outputs: tuple[OutputRecord, ...] = ()
    """Items of its outputs, where it has several."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """More properties (``eoap:digest``, counts); they override those made here."""
    renders: tuple[RenderRecord, ...] = ()
    """If empty, the first asset with the role ``visual`` makes one."""
    level: str = "L3"
    """`processing:level`."""
