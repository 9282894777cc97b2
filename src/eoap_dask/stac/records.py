"""What STAC documents are made of: items, assets, renders. Bands and classes of an image are in its `ImageSpec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eoap_dask.render.images import ImageSpec

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG = "image/png"
JSON = "application/json"
GEOJSON = "application/geo+json"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
QML = "application/xml"
"""A style for QGIS; there is no type of its own."""

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
    image: ImageSpec | None = None
    """What the bands of a raster are; None for other files."""
    statistics: tuple[Mapping[str, float] | None, ...] = ()
    """Per band `minimum`, `maximum`, `mean`, `stddev`, `valid_percent` of stored values; infinite ones and NaN are left
    out. None, or nothing at all, where there are none."""
    class_pixels: Mapping[int, int] = field(default_factory=dict)
    """Number of pixels of each class, by its value, where they were counted."""
    size: int = 0
    """Bytes."""
    sha256: str = ""
    """64 hexadecimal digits."""
    shape: tuple[int, int] | None = None
    """Rows and columns; None for a file without a grid (a thumbnail)."""
    transform: tuple[float, ...] | None = None
    """Affine a, b, c, d, e, f from (column, row) to CRS units; None as for `shape`."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the asset."""


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
    """Lower case; also the name of its file."""
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
    to_root: str = "../"
    """From the item to the directory of the catalog."""
