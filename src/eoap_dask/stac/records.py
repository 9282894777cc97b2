"""What is known of a product when its STAC is written: items, assets, bands, classes, renders."""

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
"""What version 2 of the eo extension allows in `eo:common_name`; anything else makes an item invalid."""


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
