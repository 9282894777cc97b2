"""Where an application works: the parameters of an area, which all of them share. Importing it is cheap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from eoap_dask.errors import GridError
from eoap_dask.params import Declared, param
from eoap_dask.text import option, show
from eoap_dask.values import as_list, as_number, as_text, is_a, scalar

WKT = re.compile(
    r"^\s*(SRID\s*=\s*(?P<srid>\d+)\s*;)?\s*((POINT|LINESTRING|POLYGON|MULTI\w+|GEOMETRYCOLLECTION|LINEARRING)\b"
    r"|(CURVEPOLYGON|COMPOUNDCURVE|CIRCULARSTRING|TRIANGLE|TIN|POLYHEDRALSURFACE)\s*([ZM]{1,2}\s*)?(\(|EMPTY\b))",
    re.I,
)
"""How text begins that is WKT."""
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?"
BBOX = re.compile(rf"\s*\(?\s*{_NUMBER}(?:[,;\s]+{_NUMBER}){{3}}\s*\)?\s*", re.I)
"""The whole of a text that is a bounding box."""


def is_area(text: str) -> bool:
    """Tell whether a text is an area itself: a bounding box, GeoJSON or WKT, and so never the name of a file."""
    return text.lstrip()[:1] in ("{", "[") or bool(WKT.match(text) or BBOX.fullmatch(text))


def as_resolution(value: object, name: str) -> float:
    """Return the side of a pixel, or raise `UsageError`.

    Two sides are taken where they are of one size, such as ``(10, -10)`` or a `Resolution` of odc-geo.
    """
    pair = [value.x, value.y] if is_a(value, "odc.geo.types.XY") else value  # type: ignore[attr-defined]
    if not isinstance(pair, list | tuple) and (scalar(pair) is not pair or not is_a(pair, "numpy.ndarray")):
        return as_number(pair, name, 100)
    sides = as_list(pair, name, 100, lambda side: as_number(side, name, 100))
    if len(sides) == 2 and abs(sides[0]) == abs(sides[1]) and max(sides) >= 0:
        return abs(sides[0])
    raise GridError(
        f"{option(name)} must be one number, or two of one size, got {show(sides)}.",
        "Pixels are squares.",
        f"Try {option(name, 100)}.",
    )


def as_crs(value: object, name: str) -> str:
    """Return a CRS as text, of an EPSG code or a CRS of pyproj, odc-geo or rasterio; or raise `UsageError`."""
    code = scalar(value)
    if isinstance(code, int) and not isinstance(code, bool) and 0 < code < _CODES_END:
        return f"EPSG:{code}"
    if not is_a(value, "pyproj.CRS", "odc.geo.crs.CRS", "rasterio.crs.CRS"):
        return as_text(value, name, "EPSG:32633")
    from pyproj import CRS

    crs = CRS.from_wkt(value.to_wkt())  # type: ignore[attr-defined]
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.to_wkt()


_CODES_END = 1_000_000
"""EPSG codes are smaller."""


@dataclass(frozen=True, kw_only=True)
class AreaParams(Declared):
    """The area of a product and the grid over it; `geo.area.Area` is what they mean."""

    HEADING: ClassVar = "Area and grid"

    aoi: Any = param(
        "",
        "Area of interest: west,south,east,north in degrees, or GeoJSON or WKT, as text or file, or any vector file.",
        metavar="BBOX|GEOJSON|FILE",
        local_file=True,
        literal=is_area,
        schema={
            "anyOf": [
                {"type": "string"},
                {"type": "object"},
                {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            ]
        },
    )
    clip: bool = param(True, "Cut to the shape of the area, or keep its bounding box.", negative="no-clip")
    resolution: float = param(100.0, "Side of a pixel, in units of the CRS.", metavar="NUMBER", accepts=as_resolution)
    crs: str = param(
        "auto",
        "CRS of the output; auto is the UTM zone that holds most of the area.",
        metavar="auto|CRS",
        accepts=as_crs,
    )
