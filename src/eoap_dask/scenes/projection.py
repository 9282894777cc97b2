"""Where an asset's pixels lie: its CRS, however it is spelled, and its grid."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pyproj import CRS
from pyproj.exceptions import CRSError

from eoap_dask.errors import ItemError
from eoap_dask.geo.crs import transformer
from eoap_dask.geo.window import Transform

_MAX_SIDE_PX = 1 << 18
# what programs write where they know none
_NONE = frozenset({"", "none", "null", "nan", "0"})


def projection(item: Mapping[str, Any], key: str) -> tuple[str, Transform, tuple[int, int]]:
    """Return CRS, affine and shape of an asset: its own, else the item's; raises `ItemError`.

    The CRS is an EPSG code where it has one, else another authority's, or WKT.
    """
    asset, properties = item["assets"][key], item.get("properties", {})

    def either(name: str) -> Any:
        return asset[name] if asset.get(name) is not None else properties.get(name)

    def refuse(lacks: str) -> ItemError:
        return ItemError(
            f"The asset {key!r} of item {item.get('id')!r} {lacks}.",
            "Expected proj:code (or proj:epsg), proj:shape and proj:transform.",
            "Try another collection or catalogue.",
        )

    # an asset's projection that isn't known mustn't be replaced by the item's, which is another one
    spellings = _spellings(asset) or _spellings(properties)
    shape, transform = either("proj:shape"), either("proj:transform")
    if not spellings:
        raise refuse("has no projection")
    if not shape or not transform:
        raise refuse("has no shape or no transform")
    try:
        height, width = (int(n) for n in shape)
        a, b, c, d, e, f = (float(n) for n in transform[:6])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise refuse("has a malformed grid") from None
    if not all(map(math.isfinite, (a, b, c, d, e, f))):
        raise refuse("has a malformed grid")
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX and a * e - b * d != 0):
        raise refuse(f"has an impossible grid of {height} × {width} pixels")
    crs = next((found for text in spellings if (found := _usable(text))), None)
    if crs is None:
        raise refuse(f"has the unknown projection {spellings[0][:60]!r}")
    return crs, (a, b, c, d, e, f), (height, width)


def _spellings(place: Mapping[str, Any]) -> list[str]:
    """Return all that a place says of its CRS, in the order of trust."""
    found = [_code(place.get("proj:code")) or _code(place.get("proj:epsg"))]  # the same, of two versions of STAC
    wkt, projjson = place.get("proj:wkt2"), place.get("proj:projjson")
    found.append(wkt.strip() if isinstance(wkt, str) and wkt.strip().lower() not in _NONE else "")
    if isinstance(projjson, Mapping) and projjson:
        found.append(json.dumps(projjson, sort_keys=True))
    elif isinstance(projjson, str) and projjson.strip().lower() not in _NONE:
        found.append(projjson)
    return [text for text in found if text]


def _code(value: object) -> str:
    """Return a code with its authority; an empty text for what says that there is none, as ``EPSG:None`` does."""
    if value is None or isinstance(value, bool):
        return ""
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    authority, _, code = text.rpartition(":")
    if code.strip().lower() in _NONE:
        return ""
    is_epsg = authority.upper() == "EPSG" or (not authority and code.isdigit())
    return f"EPSG:{code.strip()}" if is_epsg else text


@lru_cache(256)
def _usable(text: str) -> str | None:
    """Return a CRS that pixels can be placed in by one name, whatever its spelling; else None."""
    try:
        found = CRS.from_user_input(text)
        if not (found.is_projected or found.is_geographic):
            return None
        transformer(text, "EPSG:4326")
        code = found.to_epsg(min_confidence=100)
    except Exception:  # noqa: BLE001 - pyproj's own errors share no public base
        return None
    if text.startswith("EPSG:"):
        return text
    # the pixels of a grid in the CRS of its scenes are copied, which a second name for it would hide
    if code is not None and _is_same(found, code):
        return f"EPSG:{code}"
    return found.to_wkt() if text.lstrip().startswith("{") else text


def _is_same(found: CRS, code: int) -> bool:
    try:
        return bool(found.equals(CRS.from_epsg(code), ignore_axis_order=True))
    except CRSError:
        return False
