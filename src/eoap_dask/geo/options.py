"""Where an application works: the parameters of an area, which all of them share. Importing it is cheap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eoap_dask.params import param

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


@dataclass(frozen=True, kw_only=True)
class AreaParams:
    """The area of a product and the grid over it; `geo.area.Area` is what they mean."""

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
    resolution: float = param(100.0, "Side of a pixel, in units of the CRS.", metavar="NUMBER")
    crs: str = param("auto", "CRS of the output; auto is the UTM zone that holds most of the area.", metavar="auto|CRS")
